//! What a session is told before and beside its mail: TLS, AUTH, XCLIENT, and each recipient's own reply.

use std::net::IpAddr;

use waxwing_pipeline::{AuthExchange, AuthProgress, Authenticator, HookSession};
use waxwing_smtp::server::AuthStep;
use waxwing_types::{DsnReturn, Notify, TlsSession};

use super::*;

/// Knows `ann`, who says no more than her name.
pub(super) struct Doorman;

struct Exchange;

impl Authenticator for Doorman {
    fn mechanisms(&self, _: IpAddr, _: bool) -> Vec<String> {
        vec!["PLAIN".into()]
    }
    fn begin(
        &self,
        _: &'static str,
        mechanism: &str,
        _: IpAddr,
        tls: Option<&TlsSession>,
    ) -> Result<Box<dyn AuthExchange>, Reply> {
        match (mechanism, tls) {
            ("PLAIN", Some(_)) => Ok(Box::new(Exchange)),
            _ => Err(Reply::fixed(504, (5, 5, 4), "not offered")),
        }
    }
}

#[async_trait]
impl AuthExchange for Exchange {
    async fn step(&mut self, _: &Pipeline, _: &mut HookSession, _: &mut Context, response: Option<Vec<u8>>) -> AuthProgress {
        match response.as_deref() {
            None => AuthProgress::Challenge(b"who?".to_vec()),
            Some(b"ann") => AuthProgress::Done { user: "ann@box.example".into() },
            Some(_) => AuthProgress::Failed(Reply::fixed(535, (5, 7, 8), "wrong")),
        }
    }
}

const STRANGER: [u8; 4] = [192, 0, 2, 1];

fn tls() -> TlsSession {
    TlsSession { version: "TLSv1.3".into(), cipher: "TLS13_AES_128_GCM_SHA256".into(), ..TlsSession::default() }
}

async fn ehlo(host: &mut SmtpSessionHandler) -> ServerAnswer {
    host.answer(ServerQuestion::Helo { name: "client.example".into(), esmtp: true }).await
}

async fn auth(host: &mut SmtpSessionHandler, response: Option<&[u8]>) -> ServerAnswer {
    host.answer(ServerQuestion::Auth(AuthStep::Begin("PLAIN".into(), response.map(<[u8]>::to_vec)))).await
}

/// As `ann@box.example`.
pub(super) async fn log_in(host: &mut SmtpSessionHandler) {
    host.answer(ServerQuestion::Secured(tls())).await;
    ehlo(host).await;
    assert_eq!(auth(host, Some(b"ann")).await, ServerAnswer::Auth(AuthStepAnswer::Authenticated));
}

#[tokio::test]
async fn tls_is_known_and_what_was_said_before_it_forgotten() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let listener = plugin(&[Hook::OnTls, Hook::OnMail], move |event, context| {
        let tls = context.tls.as_ref().map(|tls| tls.version.clone());
        note.lock().unwrap().push((event.hook(), tls, context.helo.clone(), context.user.clone()));
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next)))
    });
    let house = house(vec![(listener, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    ehlo(&mut host).await;
    assert_eq!(host.answer(ServerQuestion::Secured(tls())).await, ServerAnswer::Step(StepAnswer::Ok));
    ehlo(&mut host).await;
    assert_eq!(mail(&mut host).await, ServerAnswer::Step(StepAnswer::Ok));
    let version = Some("TLSv1.3".to_owned());
    let expected = [(Hook::OnTls, version.clone(), None, None), (Hook::OnMail, version, Some("client.example".into()), None)];
    assert_eq!(seen.lock().unwrap().as_slice(), expected);
    rcpt(&mut host, "demo@box.example").await;
    assert_eq!(code(&data(&mut host, &["Subject: x\r\n\r\nbody\r\n"]).await), 250);
    let message = house.queued().await.remove(0);
    let head = String::from_utf8(message.header.to_vec()).unwrap();
    assert!(head.contains("(using TLSv1.3 with cipher TLS13_AES_128_GCM_SHA256)") && head.contains(" with ESMTPS id "), "{head}");
}

#[tokio::test]
async fn who_authenticated_may_relay() {
    let house = house(Vec::new()).await;
    let mut host = house.session(STRANGER);
    ehlo(&mut host).await;
    assert_eq!(code(&auth(&mut host, Some(b"ann")).await), 504, "not in the clear");
    host.answer(ServerQuestion::Secured(tls())).await;
    ehlo(&mut host).await;
    assert_eq!(auth(&mut host, None).await, ServerAnswer::Auth(AuthStepAnswer::Challenge(b"who?".to_vec())));
    assert_eq!(host.answer(ServerQuestion::Auth(AuthStep::Cancel)).await, ServerAnswer::Drop(DropAnswer::Done));
    let late = host.answer(ServerQuestion::Auth(AuthStep::Response(b"ann".to_vec()))).await;
    assert_eq!(code(&late), 503, "the exchange was given up");
    assert_eq!(code(&auth(&mut host, Some(b"bob")).await), 535);
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "x@far.example").await), 554, "nobody is authenticated yet");
    host.answer(ServerQuestion::Reset).await;
    auth(&mut host, None).await;
    assert_eq!(
        host.answer(ServerQuestion::Auth(AuthStep::Response(b"ann".to_vec()))).await,
        ServerAnswer::Auth(AuthStepAnswer::Authenticated)
    );
    assert_eq!(host.context_user(), Some(("ann@box.example".into(), "PLAIN".into())));
    mail(&mut host).await;
    assert_eq!(rcpt(&mut host, "x@far.example").await, ServerAnswer::Step(StepAnswer::Ok));
    assert_eq!(code(&data(&mut host, &["Subject: x\r\n\r\n"]).await), 250);
    let message = house.queued().await.remove(0);
    assert_eq!(message.envelope.origin.user.as_deref(), Some("ann@box.example"));
    assert!(String::from_utf8(message.header.to_vec()).unwrap().contains(" with ESMTPSA id "));
}

async fn xclient(host: &mut SmtpSessionHandler, attributes: &[(&str, &str)]) -> ServerAnswer {
    let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    host.answer(ServerQuestion::Xclient(attributes)).await
}

#[tokio::test]
async fn only_named_networks_speak_for_others() {
    let house = house(Vec::new()).await;
    let mut host = house.session([10, 0, 0, 1]);
    assert_eq!(code(&xclient(&mut host, &[("ADDR", "192.0.2.1")]).await), 550, "mynetworks is not enough");
    let mut host = house.session([10, 9, 0, 1]);
    assert_eq!(code(&xclient(&mut host, &[("ADDR", "192.0.2.1"), ("LOGIN", "ann")]).await), 550, "LOGIN needs more");
    assert_eq!(code(&xclient(&mut host, &[("ADDR", "192.0.2.256")]).await), 501);
    mail(&mut host).await;
    assert_eq!(rcpt(&mut host, "x@far.example").await, ServerAnswer::Step(StepAnswer::Ok), "it still speaks for itself");
    host.answer(ServerQuestion::Reset).await;
    assert_eq!(
        xclient(&mut host, &[("ADDR", "IPV6:2001:db8::1"), ("NAME", "C.example."), ("PROTO", "ESMTP")]).await,
        ServerAnswer::Step(StepAnswer::Ok)
    );
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "x@far.example").await), 554, "the proxy's rights are not its client's");
    assert_eq!(rcpt(&mut host, "demo@box.example").await, ServerAnswer::Step(StepAnswer::Ok));
    data(&mut host, &["Subject: x\r\n\r\n"]).await;
    let origin = house.queued().await.remove(0).envelope.origin.clone();
    assert_eq!((origin.peer.unwrap().ip(), origin.client_name), ("2001:db8::1".parse().unwrap(), Some("c.example".into())));
    // Who it speaks for does not decide whether it may.
    assert_eq!(xclient(&mut host, &[("ADDR", "192.0.2.7"), ("NAME", "[UNAVAILABLE]")]).await, ServerAnswer::Step(StepAnswer::Ok));
    let mut host = house.session([10, 9, 9, 1]);
    assert_eq!(xclient(&mut host, &[("ADDR", "192.0.2.1"), ("LOGIN", "ann")]).await, ServerAnswer::Step(StepAnswer::Ok));
    mail(&mut host).await;
    assert_eq!(rcpt(&mut host, "x@far.example").await, ServerAnswer::Step(StepAnswer::Ok));
}

#[tokio::test]
async fn the_parameters_reach_the_envelope() {
    let house = house(Vec::new()).await;
    let mut host = house.session([10, 0, 0, 1]);
    let options = MailOptions {
        body: BodyType::EightBitMime,
        smtputf8: true,
        require_tls: true,
        ret: Some(DsnReturn::Headers),
        envid: Some("QQ+2B1".into()),
        ..MailOptions::default()
    };
    let sender = ReversePath::Null;
    assert_eq!(
        host.answer(ServerQuestion::Mail { sender, parameters: Vec::new(), size: None, options }).await,
        ServerAnswer::Step(StepAnswer::Ok)
    );
    let notify = Notify::On { success: true, failure: false, delay: true };
    let options = RcptOptions { notify, orcpt: Some("rfc822;a@b.example".into()) };
    let recipient = address("demo@box.example");
    assert_eq!(
        host.answer(ServerQuestion::Rcpt { recipient, parameters: Vec::new(), options }).await,
        ServerAnswer::Step(StepAnswer::Ok)
    );
    assert_eq!(code(&data(&mut host, &["Subject: x\r\n\r\n"]).await), 250);
    let envelope = house.queued().await.remove(0).envelope;
    assert!(envelope.smtputf8 && envelope.require_tls);
    assert_eq!((envelope.body_type, envelope.ret), (BodyType::EightBitMime, Some(DsnReturn::Headers)));
    assert_eq!(envelope.envid.as_deref(), Some("QQ+2B1"));
    let recipient = &envelope.recipients[0];
    assert_eq!((recipient.notify, recipient.original.as_deref()), (notify, Some("rfc822;a@b.example")));
}

/// `bob` refuses, `broken` can't now, `ann` throws it away.
fn picky() -> Arc<FakePlugin> {
    plugin(&[Hook::OnRecipientMessage], |event, _| {
        let Event::RecipientMessage(recipient) = event else { panic!("asked {event:?}") };
        let verdict = match recipient.recipient.address.local() {
            "bob" => Verdict::Reject(Reply::fixed(550, (5, 7, 1), "not for bob")),
            "ann" => Verdict::Discard { reason: "ann is away".into() },
            _ => Verdict::Next,
        };
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
    })
}

#[tokio::test]
async fn each_recipient_has_its_own_reply_where_the_protocol_has_room() {
    for (via, prdr, each) in [(Source::Lmtp, false, true), (Source::Smtp, true, true), (Source::Smtp, false, false)] {
        let house = house(vec![(picky(), FaultPolicy::Defer)]).await;
        let peer = SocketAddr::from(([10, 0, 0, 1], 4000));
        let send = async |to: &[&str]| {
            let mut host = house.intake.session_handler(SessionClient { peer, name: None, listener: "in".into() }, via);
            let options = MailOptions { prdr, ..MailOptions::default() };
            let sender = ReversePath::Null;
            host.answer(ServerQuestion::Mail { sender, parameters: Vec::new(), size: None, options }).await;
            for to in to {
                rcpt(&mut host, to).await;
            }
            data(&mut host, &["Subject: x\r\n\r\n"]).await
        };
        let answer = send(&["demo@box.example", "nobody@box.example", "bob@box.example", "ann@box.example"]).await;
        match (&answer, each) {
            (ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(replies)), true) => {
                assert_eq!(replies.iter().map(Reply::code).collect::<Vec<_>>(), [250, 550, 250], "{via:?}");
            }
            (ServerAnswer::Message(MessageAnswer::Committed(_)), false) => {}
            _ => panic!("{via:?} {prdr}: {answer:?}"),
        }
        assert_eq!(house.queued().await[0].envelope.recipients.len(), 1);
        assert!(matches!(send(&["demo@box.example"]).await, ServerAnswer::Message(MessageAnswer::Committed(_))), "all alike");
        let refused = send(&["bob@box.example"]).await;
        match each {
            true => assert_eq!(code(&refused), 550),
            false => assert!(matches!(refused, ServerAnswer::Message(MessageAnswer::Discarded(_)))),
        }
    }
}
