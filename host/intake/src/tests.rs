//! The way of a message through intake, with the real spool and plugins in native code.
#![allow(clippy::wildcard_enum_match_arm, reason = "a script answers some events")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_net::SessionHandler;
use waxwing_pipeline::{
    AddressClassifier, Binding, BindingSettings, CallOutcome, Context, Event, Expansion, ExpansionTarget, Fault, FaultKind,
    FaultPolicy, Hook, HookAnswer, InternalMessage, Pipeline, Plugin, RecipientDirectory, RecordedBody, Recorder, Recording,
    Resolution, SessionClient, Submit, TableError, Trace, TraceRecord,
};
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_smtp::server::{
    AuthStepAnswer, DropAnswer, MailOptions, MessageAnswer, RcptOptions, ServerAnswer, ServerQuestion, StepAnswer,
};
use waxwing_spool::Spool;
use waxwing_store::{Store, StoreOptions};
use waxwing_testkit::FakePlugin;
use waxwing_types::{
    Address, AddressClass, BodyType, Edit, Envelope, MailboxLocation, ManualClock, Message, Origin, Recipient, Reply,
    ReversePath, Source, Tags, Timestamp, Verdict,
};

use super::*;

mod expanded;
mod limits;
mod policy;
mod recording;
mod relaying;
mod session;
mod verify;

/// `box.example` has the users of the list, `alias.example` only aliases, `relay.example` is relayed.
struct Users(Vec<&'static str>);

impl AddressClassifier for Users {
    fn class_of(&self, address: &Address) -> AddressClass {
        match address.domain() {
            "box.example" => AddressClass::VirtualMailbox,
            "alias.example" => AddressClass::VirtualAlias,
            "relay.example" => AddressClass::Relay,
            _ => AddressClass::Remote,
        }
    }
}

#[async_trait]
impl RecipientDirectory for Users {
    async fn exists(&self, recipient: &Address) -> Result<bool, TableError> {
        match recipient.local() {
            "broken" => Err(TableError { table: "users".into(), reason: "gone".into() }),
            local => Ok(self.0.contains(&local)),
        }
    }
    async fn mailbox_location(&self, _: &Address) -> Result<Option<MailboxLocation>, TableError> {
        Ok(None)
    }
}

#[derive(Default)]
struct Traces(Mutex<Vec<TraceRecord>>);

impl Trace for Traces {
    fn record(&self, record: TraceRecord) {
        self.0.lock().unwrap().push(record);
    }
}

#[derive(Default)]
struct Recordings(Mutex<Vec<Recording>>);

impl Recorder for Recordings {
    fn record(&self, recording: Recording) {
        self.0.lock().unwrap().push(recording);
    }
}

struct House {
    intake: Arc<Intake>,
    spool: Arc<EmbeddedSpool>,
    traces: Arc<Traces>,
    recordings: Arc<Recordings>,
    _dir: tempfile::TempDir,
}

async fn house(plugins: Vec<(Arc<FakePlugin>, FaultPolicy)>) -> House {
    house_with(plugins, policy::none()).await
}

async fn house_with(plugins: Vec<(Arc<FakePlugin>, FaultPolicy)>, policy: Policy) -> House {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let store = Store::open(&dir.path().join("db"), &StoreOptions::new(&KEYSPACES)).unwrap();
    let mut settings = SpoolSettings::new(1 << 20, clock.clone());
    settings.queue_minfree = 0;
    let spool = Arc::new(EmbeddedSpool::open(&store, &dir.path().join("bodies"), settings).await.unwrap());
    let directory: Arc<Users> = Arc::new(Users(vec!["demo", "ann", "bob"]));
    let bind = |(i, (plugin, on_fault)): (usize, (Arc<FakePlugin>, FaultPolicy))| {
        Binding::new(&format!("p{i}"), plugin as Arc<dyn Plugin>, BindingSettings { on_fault, ..BindingSettings::default() })
    };
    let bindings = plugins.into_iter().enumerate().map(bind).collect();
    let traces = Arc::new(Traces::default());
    let recordings = Arc::new(Recordings::default());
    let settings = IntakeSettings {
        myhostname: "mx.test".into(),
        myorigin: "test".into(),
        mynetworks: vec!["10.0.0.0/8".parse().unwrap()],
        xclient_hosts: vec!["10.9.0.0/16".parse().unwrap()],
        xclient_login_hosts: vec!["10.9.9.0/24".parse().unwrap()],
        header_size_limit: 1_000,
        hopcount_limit: 3,
        expansion_recipients_max: 10,
        expansion_depth_max: 5,
        trace_recipients_max: 20,
    };
    let intake = Intake::new(IntakeServices {
        settings,
        pipeline: Arc::new(Pipeline::new(bindings, directory.clone(), clock.clone())),
        policy,
        spool: spool.clone(),
        directory,
        authenticator: Some(Arc::new(session::Doorman)),
        trace: traces.clone(),
        recorder: Some(recordings.clone()),
        clock,
    });
    House { intake, spool, traces, recordings, _dir: dir }
}

impl House {
    fn session(&self, from: [u8; 4]) -> SmtpSessionHandler {
        let peer = SocketAddr::from((Ipv4Addr::from(from), 4000));
        self.intake.session_handler(SessionClient { peer, name: None, listener: "smtp".into() }, Source::Smtp)
    }

    async fn queued(&self) -> Vec<Message> {
        let page = self.spool.list(None, 100).await.unwrap();
        let mut messages = Vec::new();
        for entry in page.entries {
            messages.push(self.spool.load(entry.id).await.unwrap());
        }
        messages
    }
}

async fn mail(host: &mut SmtpSessionHandler) -> ServerAnswer {
    let sender = ReversePath::Address(address("sender@far.example"));
    host.answer(ServerQuestion::Mail { sender, parameters: Vec::new(), size: None, options: MailOptions::default() }).await
}

async fn rcpt(host: &mut SmtpSessionHandler, to: &str) -> ServerAnswer {
    host.answer(ServerQuestion::Rcpt { recipient: address(to), parameters: Vec::new(), options: RcptOptions::default() }).await
}

async fn data(host: &mut SmtpSessionHandler, pieces: &[&str]) -> ServerAnswer {
    for piece in pieces {
        host.body(Bytes::copy_from_slice(piece.as_bytes())).await;
    }
    host.answer(ServerQuestion::EndOfData).await
}

async fn send(house: &House, to: &[&str], message: &str) -> ServerAnswer {
    let mut host = house.session([10, 0, 0, 1]);
    assert_eq!(mail(&mut host).await, ServerAnswer::Step(StepAnswer::Ok));
    for to in to {
        assert_eq!(rcpt(&mut host, to).await, ServerAnswer::Step(StepAnswer::Ok), "{to}");
    }
    data(&mut host, &[message]).await
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn code(answer: &ServerAnswer) -> u16 {
    match answer {
        ServerAnswer::Step(StepAnswer::Reply(reply) | StepAnswer::Close(reply))
        | ServerAnswer::Auth(AuthStepAnswer::Reject(reply) | AuthStepAnswer::Close(reply))
        | ServerAnswer::Drop(DropAnswer::Close(reply)) => reply.code(),
        ServerAnswer::Message(
            MessageAnswer::Committed(reply)
            | MessageAnswer::Discarded(reply)
            | MessageAnswer::Reject(reply)
            | MessageAnswer::Close(reply),
        ) => reply.code(),
        ServerAnswer::Step(StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_))
        | ServerAnswer::Message(MessageAnswer::CommittedPerRecipient(_))
        | ServerAnswer::Auth(AuthStepAnswer::Challenge(_) | AuthStepAnswer::Authenticated)
        | ServerAnswer::Drop(DropAnswer::Done) => 0,
    }
}

fn plugin(
    hooks: &[Hook],
    script: impl Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync + 'static,
) -> Arc<FakePlugin> {
    FakePlugin::new(hooks, script)
}

/// `on-resolve` by a fixed table.
fn aliases(table: &'static [(&'static str, &'static [&'static str])]) -> Arc<FakePlugin> {
    let table: HashMap<_, _> = table.iter().copied().collect();
    plugin(&[Hook::OnResolve], move |event, _| {
        let Event::Resolve { recipient, .. } = event else { panic!("asked {event:?}") };
        let answer = match table.get(recipient.to_string().as_str()) {
            None => Resolution::NotMine,
            Some(list) => Resolution::Targets(Expansion {
                targets: list.iter().map(|a| ExpansionTarget::Address(address(a))).collect(),
                sender: None,
            }),
        };
        Ok(CallOutcome::from_answer(HookAnswer::Resolution(answer)))
    })
}

/// Mail that is made here.
fn made(house: &House, source: Source) -> InternalMessage {
    InternalMessage {
        id: house.spool.next_queue_id(Timestamp::from_millis(1)),
        envelope: Envelope {
            sender: ReversePath::Null,
            recipients: vec![Recipient::new(address("sender@far.example"))],
            body_type: BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(source, Timestamp::from_millis(1)),
        },
        content: Bytes::from_static(b"Subject: report\r\n\r\nfailed\r\n"),
        cause: None,
        tags: Tags::new(),
    }
}

fn recipients(message: &Message) -> Vec<String> {
    message.envelope.recipients.iter().map(|r| r.address.to_string()).collect()
}

#[tokio::test]
async fn a_message_is_committed_as_it_came_but_for_received() {
    let house = house(Vec::new()).await;
    let mut host = house.session([192, 0, 2, 1]);
    mail(&mut host).await;
    rcpt(&mut host, "demo@box.example").await;
    let answer = data(&mut host, &["Subj", "ect: x\r\n", "\r\n.dot\r\n", "end\r\n"]).await;
    assert!(matches!(answer, ServerAnswer::Message(MessageAnswer::Committed(_))), "{answer:?}");
    let queued = house.queued().await;
    let head = String::from_utf8(queued[0].header.to_vec()).unwrap();
    assert!(head.starts_with("Received: ") && head.ends_with("\r\nSubject: x\r\n\r\n"), "{head}");
    assert_eq!(queued[0].body.in_memory().unwrap(), &b".dot\r\nend\r\n"[..]);
    assert_eq!(house.traces.0.lock().unwrap()[0].id, queued[0].id.to_string());
}

#[tokio::test]
async fn strangers_write_to_our_users_only() {
    let house = house(vec![(aliases(&[("team@alias.example", &["ann@box.example"])]), FaultPolicy::Defer)]).await;
    let mut host = house.session([192, 0, 2, 1]);
    mail(&mut host).await;
    for (to, expected) in [
        ("demo@box.example", 0),
        ("postmaster@box.example", 0),
        ("Postmaster@alias.example", 0),
        ("any@relay.example", 0),
        ("team@alias.example", 0),
        ("nobody@box.example", 550),
        ("nobody@alias.example", 550),
        ("broken@box.example", 451),
        ("x@elsewhere.example", 554),
        ("\"x@elsewhere.example\"@box.example", 550),
        ("x%elsewhere.example@box.example", 550),
        ("elsewhere.example!x@box.example", 550),
    ] {
        assert_eq!(code(&rcpt(&mut host, to).await), expected, "{to}");
    }
    let mut friend = house.session([10, 1, 2, 3]);
    mail(&mut friend).await;
    assert_eq!(rcpt(&mut friend, "x@elsewhere.example").await, ServerAnswer::Step(StepAnswer::Ok));
    assert_eq!(code(&rcpt(&mut friend, "nobody@box.example").await), 550);
}

#[tokio::test]
async fn what_loops_or_is_too_long_is_refused() {
    let house = house(Vec::new()).await;
    let hop = "Received: from a by b; Mon, 1 Jan 2026 00:00:00 +0000\r\n";
    assert_eq!(code(&send(&house, &["demo@box.example"], &format!("{}\r\n", hop.repeat(3))).await), 554);
    assert_eq!(code(&send(&house, &["demo@box.example"], &format!("{}\r\n", hop.repeat(2))).await), 250);
    let long = format!("X: {}\r\n\r\n", "y".repeat(1_000));
    assert_eq!(code(&send(&house, &["demo@box.example"], &long).await), 552);
    assert_eq!(house.queued().await.len(), 1);
}

#[tokio::test]
async fn aliases_are_expanded_once_each_and_loops_end() {
    let house = house(vec![(
        aliases(&[
            ("team@alias.example", &["ann@box.example", "team@alias.example", "all@alias.example"]),
            ("all@alias.example", &["team@alias.example", "bob@box.example", "ann@box.example"]),
            ("a1@alias.example", &["a2@alias.example"]),
            ("a2@alias.example", &["a1@alias.example"]),
        ]),
        FaultPolicy::Defer,
    )])
    .await;
    send(&house, &["team@alias.example", "demo@box.example"], "\r\nx\r\n").await;
    let queued = house.queued().await;
    let mut to = recipients(&queued[0]);
    to.sort();
    assert_eq!(to, ["ann@box.example", "bob@box.example", "demo@box.example", "team@alias.example"]);
    let ann = queued[0].envelope.recipients.iter().find(|r| r.address.local() == "ann").unwrap();
    assert_eq!(ann.original.as_deref(), Some("rfc822;team@alias.example"));
    assert!(matches!(send(&house, &["a1@alias.example"], "\r\nx\r\n").await, ServerAnswer::Message(MessageAnswer::Committed(_))));
}

#[tokio::test]
async fn hooks_decide_and_edit() {
    let filter = plugin(&[Hook::OnRcpt, Hook::OnMessage, Hook::OnRewriteAddress], |event, context| {
        let mut out = CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next));
        match event {
            Event::Rcpt(r) if r.recipient.address.local() == "ann" => {
                out.answer = HookAnswer::Verdict(Verdict::Reject(Reply::fixed(550, (5, 7, 1), "not ann")));
            }
            Event::Message => {
                assert_eq!(context.recipients.len(), 1);
                out.changes.edits.push(Edit::AddHeader { name: "X-Seen".into(), value: "yes".into() });
            }
            Event::RewriteAddress(a, _) => {
                out.answer = HookAnswer::Rewritten(a.has_no_domain().then(|| a.with_domain("box.example").unwrap()));
            }
            Event::Connect | Event::Helo(_) | Event::Mail(_) | Event::Rcpt(_) | Event::Cleanup => {}
            other => panic!("not exported: {other:?}"),
        }
        Ok(out)
    });
    let house = house(vec![(filter, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "ann@box.example").await), 550);
    assert_eq!(rcpt(&mut host, "demo").await, ServerAnswer::Step(StepAnswer::Ok), "completed by the plugin");
    data(&mut host, &["To: demo, Bob <bob>\r\n\r\nx\r\n"]).await;
    let queued = house.queued().await;
    assert_eq!(recipients(&queued[0]), ["demo@box.example"]);
    let head = String::from_utf8(queued[0].header.to_vec()).unwrap();
    assert!(head.contains("To: demo@box.example, Bob <bob@box.example>\r\nX-Seen: yes\r\n"), "{head}");
}

#[tokio::test]
async fn faults_have_their_consequence() {
    for (on_fault, expected, held) in [
        (FaultPolicy::Defer, 451, false),
        (FaultPolicy::Reject, 554, false),
        (FaultPolicy::Skip, 250, false),
        (FaultPolicy::Hold, 250, true),
    ] {
        let broken = plugin(&[Hook::OnMessage], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
        let house = house(vec![(broken, on_fault)]).await;
        assert_eq!(code(&send(&house, &["demo@box.example"], "\r\nx\r\n").await), expected, "{on_fault:?}");
        assert_eq!(house.queued().await.len(), usize::from(expected == 250));
        assert_eq!(house.spool.stats().hold, u64::from(held));
        let traces = house.traces.0.lock().unwrap();
        assert_eq!(traces[0].entries[0].fault.as_deref(), Some("trap: boom"), "a refused message is traced too");
    }
}

#[tokio::test]
async fn hooks_may_delay_a_reply_and_hide_an_extension() {
    let slow = plugin(&[Hook::OnHelo, Hook::OnMessage], |event, _| {
        let mut out = CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next));
        match event {
            Event::Helo(_) => out.changes.hide_capabilities.push("PIPELINING".to_owned()),
            _other => out.changes.delay_reply = std::time::Duration::from_millis(20),
        }
        Ok(out)
    });
    let house = house(vec![(slow, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    let helo = host.answer(ServerQuestion::Helo { name: "x".into(), esmtp: true }).await;
    assert_eq!(helo, ServerAnswer::Step(StepAnswer::OkWithoutExtensions(vec!["PIPELINING".to_owned()])));
    mail(&mut host).await;
    rcpt(&mut host, "demo@box.example").await;
    let before = tokio::time::Instant::now();
    assert!(matches!(data(&mut host, &["\r\nx\r\n"]).await, ServerAnswer::Message(MessageAnswer::Committed(_))));
    assert!(before.elapsed() >= std::time::Duration::from_millis(20), "a sleep is never shorter than it was asked to be");
}

#[tokio::test]
async fn discarded_mail_gets_its_250_and_is_not_queued() {
    let discard = plugin(&[Hook::OnMail], |_, _| {
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Discard { reason: "unwanted".into() })))
    });
    let house = house(vec![(discard, FaultPolicy::Defer)]).await;
    assert!(matches!(send(&house, &["demo@box.example"], "\r\nx\r\n").await, ServerAnswer::Message(MessageAnswer::Discarded(_))));
    assert!(house.queued().await.is_empty());
}

#[tokio::test]
async fn a_report_passes_the_hooks_and_cannot_be_refused() {
    let refuse = plugin(&[Hook::OnMessage], |_, _| {
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Reject(Reply::fixed(550, (5, 7, 1), "no")))))
    });
    let house = house(vec![(refuse, FaultPolicy::Defer)]).await;
    let report = house.intake.prepare(made(&house, Source::Dsn)).await.unwrap();
    assert_eq!(report.body, "failed\r\n");
    assert!(house.intake.prepare(made(&house, Source::Forward)).await.is_err());
}

#[tokio::test]
async fn symbols_are_decided_on_between_filters_and_cleanup() {
    let scorer = plugin(&[Hook::OnScore], |_, context| {
        assert!(context.tags.contains_key("filtered"), "asked after the filters");
        Ok(CallOutcome::from_answer(HookAnswer::Symbols(vec![waxwing_pipeline::Symbol {
            name: "BAD".into(),
            score: 9.0,
            detail: None,
        }])))
    });
    let filter = plugin(&[Hook::OnMessage], |_, _| {
        let mut out = CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Accept));
        out.changes.edits.push(Edit::Tag { name: "filtered".into(), value: "yes".into() });
        Ok(out)
    });
    let decider = plugin(&[Hook::OnDecide, Hook::OnCleanup], |event, _| {
        let Event::Decide(symbols) = event else { panic!("cleanup was asked about a refused message") };
        assert_eq!(symbols[0].name, "BAD");
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Reject(Reply::fixed(554, (5, 7, 1), "spam")))))
    });
    let house = house(vec![(scorer, FaultPolicy::Defer), (filter, FaultPolicy::Defer), (decider, FaultPolicy::Defer)]).await;
    assert_eq!(code(&send(&house, &["demo@test"], "Subject: x\r\n\r\nx\r\n").await), 554);
    assert!(house.queued().await.is_empty());
}

#[tokio::test]
async fn each_recipient_has_a_word_on_the_message() {
    let words = plugin(&[Hook::OnRecipientMessage], |event, _| {
        let Event::RecipientMessage(recipient) = event else { panic!("not exported") };
        let verdict = match recipient.recipient.address.local() {
            "ann" => Verdict::Reject(Reply::fixed(550, (5, 7, 1), "not for me")),
            "bob" => Verdict::Defer(Reply::fixed(451, (4, 7, 1), "later")),
            _ => Verdict::Next,
        };
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
    });
    let house = house(vec![(words, FaultPolicy::Defer)]).await;
    assert_eq!(code(&send(&house, &["demo@test", "ann@test"], "Subject: x\r\n\r\nx\r\n").await), 250);
    let queued = house.queued().await;
    assert_eq!(recipients(&queued[0]), ["demo@test"]);
    let trace = house.traces.0.lock().unwrap().pop().unwrap();
    assert!(trace.entries.iter().any(|e| e.result == "recipient dropped: 550 5.7.1 not for me"), "{:?}", trace.entries);
    // Nobody is left: the client, who was told of one answer for all, hears no refusal.
    assert_eq!(code(&send(&house, &["ann@test"], "Subject: x\r\n\r\nx\r\n").await), 250);
    assert_eq!(house.queued().await.len(), 1);
    assert_eq!(code(&send(&house, &["bob@test"], "Subject: x\r\n\r\nx\r\n").await), 250);
    assert_eq!(house.spool.stats().hold, 1);
}

#[tokio::test]
async fn data_can_be_refused_and_an_end_without_a_message_is_heard_of() {
    let heard = Arc::new(Mutex::new(0));
    let count = Arc::clone(&heard);
    let last = plugin(&[Hook::OnData, Hook::OnMessage, Hook::OnAbort], move |event, context| match event {
        Event::Message if context.header.as_ref().unwrap().first("X-Away").is_some() => {
            Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Discard { reason: "away".to_owned() })))
        }
        Event::Data if context.recipients.len() > 1 => {
            Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Reject(Reply::fixed(554, (5, 7, 1), "too many")))))
        }
        Event::Abort => {
            *count.lock().unwrap() += 1;
            Ok(CallOutcome::from_answer(HookAnswer::Done))
        }
        _ => Ok(CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next))),
    });
    let house = house(vec![(last, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    mail(&mut host).await;
    rcpt(&mut host, "demo@test").await;
    assert_eq!(host.answer(ServerQuestion::Data).await, ServerAnswer::Step(StepAnswer::Ok));
    rcpt(&mut host, "ann@test").await;
    assert_eq!(code(&host.answer(ServerQuestion::Data).await), 554);
    host.answer(ServerQuestion::Reset).await;
    assert_eq!(*heard.lock().unwrap(), 1);
    mail(&mut host).await;
    drop(host);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*heard.lock().unwrap(), 2, "cut off");
    assert_eq!(code(&send(&house, &["demo@test"], "Subject: x\r\n\r\nx\r\n").await), 250);
    assert_eq!(*heard.lock().unwrap(), 2, "what was committed has not been given up");
    assert_eq!(code(&send(&house, &["demo@test"], "X-Away: 1\r\n\r\nx\r\n").await), 250);
    assert_eq!(*heard.lock().unwrap(), 3, "discarded");
}

mod hooks;
