//! A component that edits the parts of a message, through the pipeline that applies what it staged.

use std::sync::Arc;

use crate::common::{evil, load, message};
use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders};
use waxwing_message::{HeaderBlock, MimeParts};
use waxwing_pipeline::{Binding, BindingSettings, Context, Event, Pipeline};
use waxwing_sandbox::PluginSettings;
use waxwing_testkit::{FixedClassifier, RealClock};
use waxwing_types::{AddressClass, BodyRead, MemoryBody, Verdict};

const MIXED: &str = "Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
    --x\r\nContent-Type: text/plain\r\n\r\none\r\n\
    --x\r\nContent-Type: application/x-evil\r\n\r\ntwo\r\n\
    --x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner\r\n--x--\r\n";
const PLAIN: &str = "Subject: s\r\nContent-Type: text/html\r\nContent-Language: de\r\n\r\n<p>\r\n";
const SIGNED: &str = "Subject: s\r\nContent-Type: multipart/signed; boundary=x\r\n\r\n\
    --x\r\n\r\nsworn\r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\nsig\r\n--x--\r\n";

/// A body that is not in memory.
struct Slow(MemoryBody);

#[async_trait::async_trait]
impl BodyRead for Slow {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn in_memory(&self) -> Option<&Bytes> {
        None
    }

    async fn read(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        tokio::task::yield_now().await;
        self.0.read(offset, length.min(7)).await
    }
}

/// What a plugin made of a message.
struct Made {
    context: Context,
    log: Vec<String>,
    edits: Vec<String>,
}

impl Made {
    async fn raw(&self) -> Vec<u8> {
        let body = self.context.body.as_ref().unwrap();
        let mut raw = self.context.header.as_ref().unwrap().to_bytes(body.size() == 0).to_vec();
        while let piece = body.read((raw.len() - self.head_size()) as u64, 1 << 20).await.unwrap()
            && !piece.is_empty()
        {
            raw.extend_from_slice(&piece);
        }
        raw
    }

    fn head_size(&self) -> usize {
        self.context.header.as_ref().unwrap().to_bytes(false).len()
    }

    fn head(&self) -> String {
        String::from_utf8(self.context.header.as_ref().unwrap().to_bytes(false).to_vec()).unwrap()
    }

    /// Type and text of every part, as we read it; another reader finds as many leaves, or it panics.
    async fn parts(&self) -> Vec<(String, String)> {
        let raw = self.raw().await;
        let body = Bytes::from(raw.clone()).slice(self.head_size()..);
        let parts = MimeParts::parse(self.context.header.as_ref().unwrap(), body).unwrap();
        let elsewhere = MessageParser::default().parse(&raw).unwrap();
        let types: Vec<String> = elsewhere.parts.iter().map(|p| p.content_type().map_or("text/plain".into(), full)).collect();
        let top =
            parts.list().iter().filter(|p| p.parent.is_none_or(|i| parts.list()[i as usize].content_type != "message/rfc822"));
        assert_eq!(top.map(|p| p.content_type.clone()).collect::<Vec<_>>(), types);
        let text = |index: u32| if parts.is_leaf(index) { parts.text(index).unwrap() } else { String::new() };
        parts.list().iter().map(|p| (p.content_type.clone(), text(p.index))).collect()
    }
}

fn full(content_type: &mail_parser::ContentType<'_>) -> String {
    format!("{}/{}", content_type.ctype(), content_type.subtype().unwrap()).to_lowercase()
}

fn context(text: &'static str) -> Context {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut context = message();
    context.header = Some(Arc::new(HeaderBlock::parse(Bytes::from(format!("{head}\r\n")), true)));
    context.body = Some(Arc::new(Slow(MemoryBody::new(Bytes::from_static(body.as_bytes())))));
    context
}

async fn made_by(settings: PluginSettings, text: &'static str) -> Made {
    let binding = Binding::new("evil", load(settings).await, BindingSettings::default());
    let pipeline = Pipeline::new(vec![binding], Arc::new(FixedClassifier(AddressClass::Local)), Arc::new(RealClock::start()));
    let (mut chain, mut context) = (pipeline.open_session(), context(text));
    assert_eq!(pipeline.verdict(&mut chain, &mut context, Event::Message).await, Verdict::Next);
    Made { context, log: chain.trace[0].log.clone(), edits: chain.trace[0].edits.clone() }
}

async fn made(steps: &str, text: &'static str) -> Made {
    made_by(evil(&format!("parts: {steps}")), text).await
}

fn part(content_type: &str, text: &str) -> (String, String) {
    (content_type.to_owned(), text.to_owned())
}

#[tokio::test]
async fn indexes_mean_what_the_call_found() {
    let made = made("drop 1, replace 2, header X-Other", MIXED).await;
    assert!(made.log[..3].iter().all(|line| line.ends_with("Ok(())")), "{:?}", made.log);
    assert_eq!(
        made.log[3],
        "Ok([\"0 multipart/mixed\", \"1 text/plain\", \"2 application/x-evil\", \"3 message/rfc822\", \"4 text/plain\"])",
        "a call does not see its own edits"
    );
    assert_eq!(
        made.parts().await,
        [
            part("multipart/mixed", ""),
            part("text/plain", "ersetzt ü\r\n--x--\r\n"),
            part("message/rfc822", ""),
            part("text/plain", "inner"),
        ]
    );
    assert_eq!(
        made.head(),
        "Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\nX-Evil: was here\r\nX-Other: x\r\n\r\n"
    );
}

#[tokio::test]
async fn a_message_becomes_a_multipart() {
    let made = made("add", PLAIN).await;
    assert_eq!(
        made.parts().await,
        [part("multipart/mixed", ""), part("text/html", "<p>\r\n"), part("application/octet-stream", "\0\u{1}\u{2}")]
    );
    assert_eq!(
        made.head(),
        "Subject: s\r\nX-Evil: was here\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"=_waxwing_0\"\r\n\r\n"
    );
    assert_eq!(made.edits[1..3], ["-Content-Type[0]", "-Content-Language[0]"]);
}

#[tokio::test]
async fn the_whole_content_is_replaced() {
    let made = made("replace 0, drop 1", MIXED).await;
    assert_eq!(made.parts().await, [part("text/plain", "ersetzt ü\r\n--x--\r\n")]);
}

#[tokio::test]
async fn what_is_signed_is_wrapped_but_not_changed() {
    let made = made("drop 1, replace 2, add", SIGNED).await;
    assert!(made.log[0].contains("NotHere(\"part 1 is signed or encrypted\")"), "{:?}", made.log);
    assert!(made.log[1].contains("NotHere(\"part 2 is signed or encrypted\")"), "{:?}", made.log);
    let raw = String::from_utf8(made.raw().await).unwrap();
    assert!(raw.contains(SIGNED.split_once("\r\n\r\n").unwrap().1), "{raw}");
    let types: Vec<String> = made.parts().await.into_iter().map(|(content_type, _)| content_type).collect();
    let expected = ["multipart/mixed", "multipart/signed", "text/plain", "application/pgp-signature", "application/octet-stream"];
    assert_eq!(types, expected);
}

#[tokio::test]
async fn one_call_replaces_the_body_or_edits_parts() {
    for (steps, second) in [
        ("drop 1, body", "body: Err(EditError::NotHere(\"parts were edited in this call\"))"),
        ("body, drop 1", "drop 1: Err(EditError::NotHere(\"write-body was called in this call\"))"),
        ("add, header content-type", "header content-type: Err(EditError::NotHere(\"parts were edited in this call\"))"),
        (
            "header MIME-Version, drop 1",
            "drop 1: Err(EditError::NotHere(\"a Content-... or MIME-Version field was edited in this call\"))",
        ),
    ] {
        let made = made(steps, MIXED).await;
        assert!(made.log[0].ends_with("Ok(())"), "{steps}: {:?}", made.log);
        assert_eq!(made.log[1], second);
        made.parts().await;
    }
    // An edit of parts that was refused is none.
    let made = made("drop 9, body", MIXED).await;
    assert!(made.log[0].contains("Malformed(\"there is no part 9\")") && made.log[1].ends_with("Ok(())"), "{:?}", made.log);
    assert!(made.raw().await.ends_with(b"new body\r\n"));
}

#[tokio::test]
async fn what_cannot_be_done_is_an_error_at_once() {
    let made = made("drop 0, drop 4, multipart, body", MIXED).await;
    for (line, said) in made.log.iter().zip(["NotHere", "NotHere", "Malformed", "Ok(())"]) {
        assert!(line.contains(said), "{line}");
    }

    let mut settings = evil("parts: add");
    settings.limits.parts_bytes_max = 20;
    let made = made_by(settings, MIXED).await;
    assert_eq!(made.log[0], "add: Err(EditError::TooLarge(20))");
    assert!(made.log[1].contains("Undecodable"), "{:?}", made.log);

    let mut settings = evil("parts: add, add");
    settings.limits.body_bytes_max = 5;
    let made = made_by(settings, MIXED).await;
    assert_eq!(made.log[..2], ["add: Ok(())", "add: Err(EditError::TooLarge(5))"]);
}
