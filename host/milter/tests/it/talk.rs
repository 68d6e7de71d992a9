//! What a milter is told, when, and over which connection.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use bytes::Bytes;
use waxwing_milter::codec::{
    CHUNK_BYTES_MAX, MacroStage, MilterAddress, MilterCommand, MilterOptions, MilterResponse, ProtocolFlags,
};
use waxwing_pipeline::{BindingMode, Context, Event, FaultPolicy};
use waxwing_types::{MemoryBody, QueueId, ReversePath, Source, Verdict};

async fn session(script: Script) -> (Fake, Session) {
    let fake = Fake::start(script).await;
    let pipeline = pipeline(settings(fake.endpoint()), BindingMode::Enforce, FaultPolicy::Defer);
    (fake, Session::new(pipeline))
}

#[tokio::test]
async fn a_session_is_told_in_order_over_one_connection() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0))).await;
    assert_eq!(s.connect().await, Verdict::Next);
    assert_eq!(s.helo("client.example").await, Verdict::Next);
    let (t, verdict) = s.whole(1).await;
    assert_eq!(verdict, Verdict::Next);
    assert_eq!(t.chain.trace.iter().filter(|e| e.fault.is_some()).count(), 0);
    let mut aborted = s.transaction(2);
    assert_eq!(s.mail(&mut aborted).await, Verdict::Next);
    s.abort(&mut aborted).await;
    s.whole(3).await;
    drop((t, aborted, s));
    fake.hears("CHMRTLLLNBEMAMRTLLLNBEQ").await;
    assert_eq!(fake.connections(), 1);
    let heard = fake.heard();
    assert!(heard.contains(&MilterCommand::Connect("unknown".into(), MilterAddress::Inet(1234, "192.0.2.7".into()))));
    assert!(heard.contains(&MilterCommand::Helo("client.example".into())));
    assert!(heard.contains(&MilterCommand::Mail(vec!["<ann@from.example>".into()])));
    assert!(heard.contains(&MilterCommand::Rcpt(vec!["<bob@to.example>".into()])));
    assert!(heard.contains(&MilterCommand::Header("Subject".into(), "hello\n there".into())));
    assert!(heard.contains(&MilterCommand::Body("body\r\n".into())));
    assert!(!heard.iter().any(|c| matches!(c, MilterCommand::Header(name, _) if name == "Received")));
}

#[tokio::test]
async fn macros_go_before_their_command() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0))).await;
    s.connect().await;
    s.helo("client.example").await;
    s.context.user = Some(Arc::new(("ann".to_owned(), "PLAIN".to_owned())));
    s.whole(ID).await;
    let connect = fake.macros(b'C');
    assert!(connect.contains(&"j=mx.example".to_owned()) && connect.contains(&"{daemon_name}=smtp".to_owned()), "{connect:?}");
    assert!(connect.contains(&"{client_addr}=192.0.2.7".to_owned()) && connect.contains(&"{client_port}=1234".to_owned()));
    let id = format!("i={}", QueueId::from_u64(ID));
    assert_eq!(
        fake.macros(b'M'),
        [&id, "{auth_type}=PLAIN", "{auth_authen}=ann", "{mail_addr}=ann@from.example", "{mail_host}=from.example"]
    );
    assert_eq!(fake.macros(b'R'), [&id, "{rcpt_addr}=bob@to.example", "{rcpt_host}=to.example"]);
    assert_eq!(fake.macros(b'E'), [id]);
}

#[tokio::test]
async fn a_milter_chooses_its_macros() {
    let mut script = Script::new(ProtocolFlags(0));
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    script.terms.macros =
        vec![(MacroStage::Mail, names(&["{mail_addr}", "j", "{unheard_of}"])), (MacroStage::Connect, names(&[]))];
    let (fake, mut s) = session(script).await;
    s.connect().await;
    s.whole(1).await;
    assert_eq!(fake.macros(b'M'), ["{mail_addr}=ann@from.example", "j=mx.example"]);
    assert_eq!(fake.macros(b'C'), Vec::<String>::new());
}

#[tokio::test]
async fn steps_that_a_milter_does_not_want_are_left_out() {
    let all = [
        ProtocolFlags::NO_CONNECT,
        ProtocolFlags::NO_HELO,
        ProtocolFlags::NO_MAIL,
        ProtocolFlags::NO_RCPT,
        ProtocolFlags::NO_DATA,
        ProtocolFlags::NO_HEADERS,
        ProtocolFlags::NO_END_OF_HEADER,
        ProtocolFlags::NO_BODY,
    ];
    for (flag, left) in all.into_iter().zip([
        "HMRTLLLNBE",
        "CMRTLLLNBE",
        "CHRTLLLNBE",
        "CHMTLLLNBE",
        "CHMRLLLNBE",
        "CHMRTNBE",
        "CHMRTLLLBE",
        "CHMRTLLLNE",
    ]) {
        let (fake, mut s) = session(Script::new(flag)).await;
        s.connect().await;
        s.helo("c").await;
        assert_eq!(s.whole(1).await.1, Verdict::Next);
        assert_eq!(fake.codes(), left);
    }
    let mut script = Script::new(ProtocolFlags(0));
    script.terms = MilterOptions { version: 2, ..script.terms };
    let (fake, s) = session(script).await;
    s.whole(1).await;
    assert_eq!(fake.codes(), "CMRLLLNBE", "version 2 knows no DATA");
}

#[tokio::test]
async fn without_replies_a_message_is_one_write() {
    let (fake, mut s) = session(Script::new(quiet())).await;
    s.connect().await;
    s.helo("c").await;
    s.whole(1).await;
    assert_eq!(fake.codes(), "CHMRTLLLNBE");
    assert_eq!(fake.reads(), 2, "the negotiation, and all the rest");
}

#[tokio::test]
async fn a_question_and_its_macros_are_one_write() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0))).await;
    s.connect().await;
    s.whole(1).await;
    // The negotiation, CONNECT, MAIL, RCPT, DATA, three fields, the header's end, the body, the end.
    assert_eq!((fake.codes().as_str(), fake.reads()), ("CMRTLLLNBE", 11));
}

#[tokio::test]
async fn a_leading_space_is_kept_if_the_milter_wants_it() {
    let (fake, s) = session(
        Script::new(ProtocolFlags::HEADER_LEADING_SPACE)
            .says(b'E', vec![MilterResponse::AddHeader("X-B".into(), " kept".into()), MilterResponse::Continue]),
    )
    .await;
    let (t, _) = s.whole(1).await;
    assert!(fake.heard().contains(&MilterCommand::Header("Subject".into(), " hello\n there".into())));
    assert_eq!(t.context.header.as_ref().unwrap().first("X-B").unwrap().raw().as_ref(), b"X-B: kept\r\n");
}

#[tokio::test]
async fn large_bodies_come_in_pieces_and_can_be_skipped() {
    for (script, pieces) in [
        (Script::new(ProtocolFlags(0)), vec![CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 68_930]),
        (Script::new(quiet()), vec![CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 68_930]),
        (Script::new(ProtocolFlags::SKIP).says(b'B', vec![MilterResponse::Skip]), vec![CHUNK_BYTES_MAX]),
    ] {
        let (fake, s) = session(script).await;
        let mut t = s.transaction(1);
        fill(&mut t.context);
        let body = Bytes::from(vec![b'x'; 2 * CHUNK_BYTES_MAX + 3395]);
        t.context.body = Some(Arc::new(MemoryBody::new(body)));
        assert_eq!(s.pipeline.verdict(&mut t.chain, &mut t.context, Event::Message).await, Verdict::Next);
        let sizes: Vec<usize> =
            fake.heard().iter().filter_map(|c| if let MilterCommand::Body(b) = c { Some(b.len()) } else { None }).collect();
        let wanted: Vec<usize> = pieces.into_iter().map(|n| if n == 68_930 { 3395 } else { n }).collect();
        assert_eq!(sizes, wanted);
    }
}

#[tokio::test]
async fn mail_that_is_made_here_is_told_from_the_start() {
    let (fake, s) = session(Script::new(ProtocolFlags(0))).await;
    let mut context = Context::new(Source::Dsn, None);
    context.id = Some(QueueId::from_u64(9));
    context.sender = Some(Arc::new(ReversePath::Null));
    push(&mut context, "a@to.example");
    push(&mut context, "b@to.example");
    fill(&mut context);
    let mut chain = s.pipeline.open_session();
    assert_eq!(s.pipeline.verdict(&mut chain, &mut context, Event::Message).await, Verdict::Next);
    drop(chain);
    fake.hears("CHMRRTLLLNBEQ").await;
    let heard = fake.heard();
    assert!(heard.contains(&MilterCommand::Connect("localhost".into(), MilterAddress::Inet(0, "127.0.0.1".into()))));
    assert!(heard.contains(&MilterCommand::Mail(vec!["<>".into()])));
}

#[tokio::test]
async fn a_recipient_that_is_refused_late_is_left_out() {
    let no = MilterResponse::ReplyCode("550 5.1.1 unknown".into());
    let (fake, s) = session(Script::new(ProtocolFlags(0)).says(b'R', vec![no])).await;
    let mut t = s.transaction(1);
    fill(&mut t.context);
    push(&mut t.context, "a@to.example");
    let verdict = s.pipeline.verdict(&mut t.chain, &mut t.context, Event::Message).await;
    assert!(matches!(verdict, Verdict::Reject(reply) if reply.to_string() == "550 5.1.1 unknown"), "nobody is left");
    drop((t, s));
    fake.hears("CMRAQ").await;
}

#[tokio::test]
async fn others_get_what_one_late_recipient_is_refused() {
    let turns = vec![MilterResponse::Continue, MilterResponse::Reject, MilterResponse::Continue];
    let script = Script::new(ProtocolFlags(0)).at(b'R', Act::InTurn(Arc::new(std::sync::Mutex::new(turns))));
    // What is deleted at the end as well is no fault.
    let script = script.says(b'E', vec![MilterResponse::DeleteRecipient("<b@to.example>".into()), MilterResponse::Continue]);
    let (fake, s) = session(script).await;
    let mut t = s.transaction(1);
    fill(&mut t.context);
    for to in ["a@to.example", "b@to.example", "c@to.example"] {
        push(&mut t.context, to);
    }
    let verdict = s.pipeline.verdict(&mut t.chain, &mut t.context, Event::Message).await;
    assert_eq!((verdict, fault(&t.chain).as_str()), (Verdict::Next, ""));
    let left: Vec<String> = t.context.recipients.iter().map(|r| r.recipient.address.to_string()).collect();
    assert_eq!(left, ["a@to.example", "c@to.example"]);
    assert_eq!(fake.codes(), "CMRRRTLLLNBE");
}

#[tokio::test]
async fn a_change_of_plugins_leaves_what_has_begun() {
    let (old, mut s) = session(Script::new(ProtocolFlags(0))).await;
    s.connect().await;
    let mut begun = s.transaction(1);
    s.mail(&mut begun).await;
    let new = Fake::start(Script::new(ProtocolFlags(0))).await;
    let other = crate::common::pipeline(settings(new.endpoint()), BindingMode::Enforce, FaultPolicy::Defer);
    s.pipeline.replace(other.bindings());
    s.rcpt(&mut begun, "bob@to.example").await;
    assert_eq!((old.codes().as_str(), new.codes().as_str()), ("CMR", ""));
    assert_eq!(s.whole(2).await.1, Verdict::Next);
    assert_eq!((old.codes().as_str(), new.codes().as_str()), ("CMR", "CMRTLLLNBE"));
}

#[tokio::test]
async fn a_recipient_that_is_refused_in_time_is_not_in_the_way_of_others() {
    let (fake, s) = session(Script::new(ProtocolFlags(0)).says(b'R', vec![MilterResponse::TemporaryFailure])).await;
    let mut t = s.transaction(1);
    s.mail(&mut t).await;
    assert!(matches!(s.rcpt(&mut t, "a@to.example").await, Verdict::Defer(_)));
    Arc::make_mut(&mut t.context.recipients).clear();
    assert!(matches!(s.rcpt(&mut t, "b@to.example").await, Verdict::Defer(_)));
    assert_eq!(fake.codes(), "CMRR");
}

#[tokio::test]
async fn a_new_name_ends_what_was_under_way() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0))).await;
    s.connect().await;
    s.helo("one").await;
    let mut t = s.transaction(1);
    s.mail(&mut t).await;
    s.helo("two").await;
    fake.hears("CHMAH").await;
}

#[tokio::test]
async fn a_milter_that_was_restarted_meanwhile_is_told_again() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0)).at(b'A', Act::Close)).await;
    s.connect().await;
    s.helo("c").await;
    let mut t = s.transaction(1);
    s.mail(&mut t).await;
    s.abort(&mut t).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(s.whole(2).await.1, Verdict::Next);
    assert_eq!((fake.codes().as_str(), fake.connections()), ("CHMACHMRTLLLNBE", 2));
}

#[tokio::test]
async fn sessions_do_not_share_a_connection() {
    let (fake, mut one) = session(Script::new(ProtocolFlags(0))).await;
    one.connect().await;
    let other = Session::new(crate::common::pipeline(settings(fake.endpoint()), BindingMode::Enforce, FaultPolicy::Defer));
    other.whole(1).await;
    let mut same = Session { chain: one.pipeline.open_session(), ..Session::new(one.pipeline) };
    same.connect().await;
    assert_eq!(fake.connections(), 3);
}

#[tokio::test]
async fn a_local_socket_is_as_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    drop(waxwing_net::spawn("fake", async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 64];
        assert!(stream.read(&mut buffer).await.unwrap() > 0);
        let mut wire = Vec::new();
        MilterResponse::Negotiate(Script::new(quiet()).terms).write_to(&mut wire);
        stream.write_all(&wire).await.unwrap();
        std::future::pending::<()>().await;
    }));
    let endpoint = format!("unix:{}", path.display()).parse().unwrap();
    let probe = waxwing_milter::probe_milter(&endpoint, Duration::from_secs(1)).await.unwrap();
    assert_eq!((probe.version, probe.protocol), (6, quiet()));
}
