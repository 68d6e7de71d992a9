//! What a milter's replies and changes do to the mail.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use bytes::Bytes;
use waxwing_milter::codec::{ActionFlags, MilterOptions, MilterResponse, ProtocolFlags};
use waxwing_milter::{EDIT_BYTES_MAX, MilterSettings};
use waxwing_pipeline::{BindingMode, Event, FaultPolicy};
use waxwing_types::{ReversePath, Verdict};

async fn session(script: Script) -> (Fake, Session) {
    session_with(script, |_| {}).await
}

async fn session_with(script: Script, change: impl FnOnce(&mut MilterSettings)) -> (Fake, Session) {
    let fake = Fake::start(script).await;
    let mut settings = settings(fake.endpoint());
    change(&mut settings);
    let pipeline = pipeline(settings, BindingMode::Enforce, FaultPolicy::Hold);
    (fake, Session::new(pipeline))
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => format!("{} {reply}", verdict.as_str()),
        Verdict::Next | Verdict::Accept | Verdict::Discard { .. } | Verdict::Hold { .. } => verdict.as_str().to_owned(),
    }
}

/// Every reply that decides, and what follows.
fn decisions() -> Vec<(MilterResponse, &'static str)> {
    vec![
        (MilterResponse::Continue, "next"),
        (MilterResponse::Accept, "next"),
        (MilterResponse::Reject, "reject 550 5.7.1 Command rejected"),
        (MilterResponse::TemporaryFailure, "defer 451 4.7.1 Service unavailable - try again later"),
        (MilterResponse::Discard, "discard"),
        (MilterResponse::Shutdown, "disconnect 421 4.7.0 Server closing connection"),
        (MilterResponse::ConnectionFailure, "disconnect 421 4.7.0 Server closing connection"),
        (MilterResponse::ReplyCode("554 5.7.1 virus".into()), "reject 554 5.7.1 virus"),
        (MilterResponse::ReplyCode("450 4.2.0 busy".into()), "defer 450 4.2.0 busy"),
        (MilterResponse::ReplyCode("421 4.3.2 going".into()), "disconnect 421 4.3.2 going"),
    ]
}

#[tokio::test]
async fn each_reply_at_each_step() {
    for (response, wanted) in decisions() {
        for (code, steps_before) in [(b'M', 0), (b'R', 1), (b'T', 2), (b'L', 3), (b'N', 3), (b'B', 3), (b'E', 3)] {
            let (fake, s) = session(Script::new(ProtocolFlags(0)).says(code, vec![response.clone()])).await;
            let mut t = s.transaction(1);
            let mut verdicts = vec![s.mail(&mut t).await];
            if verdicts[0] == Verdict::Next {
                verdicts.push(s.rcpt(&mut t, "bob@to.example").await);
                verdicts.push(s.data(&mut t).await);
                verdicts.push(s.message(&mut t).await);
            }
            assert_eq!(word(&verdicts[steps_before]), wanted, "{} at {}", response.name(), code as char);
            assert!(verdicts.iter().take(steps_before).all(|v| *v == Verdict::Next));
            if response == MilterResponse::Accept {
                assert!(verdicts.iter().all(|v| *v == Verdict::Next));
                // Accepted at the end it was told all; before, it was told no more.
                assert_eq!(fake.codes().trim_end_matches('A').as_bytes().last(), Some(&code));
            }
        }
    }
}

#[tokio::test]
async fn what_was_said_of_the_session_holds_for_it() {
    for (response, wanted) in
        decisions().into_iter().filter(|(r, _)| !matches!(r, MilterResponse::Continue | MilterResponse::Discard))
    {
        for code in [b'C', b'H'] {
            let (fake, mut s) = session(Script::new(ProtocolFlags(0)).says(code, vec![response.clone()])).await;
            let connect = s.connect().await;
            let helo = s.helo("c").await;
            assert_eq!(word(if code == b'C' { &connect } else { &helo }), wanted);
            let mut t = s.transaction(1);
            assert_eq!(word(&s.mail(&mut t).await), wanted, "at each later step");
            let told = if code == b'C' { "C" } else { "CH" };
            assert_eq!(fake.codes(), told, "and it is told no more");
        }
    }
}

/// A whole transaction with these responses to the end of the message.
async fn changed(responses: Vec<MilterResponse>) -> Transaction {
    let (_fake, s) = session(Script::new(ProtocolFlags(0)).says(b'E', responses)).await;
    let (t, verdict) = s.whole(ID).await;
    assert_eq!((verdict, fault(&t.chain)), (Verdict::Next, String::new()));
    t
}

#[tokio::test]
async fn header_fields_are_changed_where_the_milter_means() {
    let h = |name: &'static str, value: &'static str| (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()));
    let add = |(n, v)| MilterResponse::AddHeader(n, v);
    let insert = |at, (n, v)| MilterResponse::InsertHeader(at, n, v);
    let change = |at, (n, v)| MilterResponse::ChangeHeader(at, n, v);
    let t = changed(vec![
        add(h("X-Last", "l")),
        insert(1, h("DKIM-Signature", "s=one;\n\tb=x")),
        insert(0, h("X-Top", "t")),
        change(1, h("Subject", "[spam] hello")),
        change(1, h("X-A", "")),
        change(2, h("x-a", "two")),
        change(3, h("X-A", "three")),
        MilterResponse::Continue,
    ])
    .await;
    let wanted =
        ["X-Top: t", "OWN", "DKIM-Signature: s=one;\tb=x", "Subject: [spam] hello", "x-a: two", "X-Last: l", "X-A: three"];
    assert_eq!(header(&t.context), wanted);
}

#[tokio::test]
async fn the_envelope_is_changed() {
    let t = changed(vec![
        MilterResponse::ChangeSender("<new@from.example>".into(), Some("RET=HDRS SMTPUTF8".into())),
        MilterResponse::AddRecipient("<more@to.example>".into()),
        MilterResponse::AddRecipient("bob@to.example".into()),
        MilterResponse::AddRecipientWithParameters("<with@to.example>".into(), Some("notify=NEVER".into())),
        MilterResponse::AddRecipient("<bare>".into()),
        MilterResponse::DeleteRecipient("<BOB@TO.example>".into()),
        MilterResponse::DeleteRecipient("<nobody@to.example>".into()),
        MilterResponse::Quarantine("odd\nsmell".into()),
        MilterResponse::Accept,
    ])
    .await;
    assert_eq!(t.context.sender.as_deref(), Some(&ReversePath::Address(address("new@from.example"))));
    assert_eq!(t.context.mail_parameters[0], ("RET".to_owned(), Some("HDRS".to_owned())));
    let to: Vec<String> = t.context.recipients.iter().map(|r| r.recipient.address.to_string()).collect();
    assert_eq!(to, ["more@to.example", "with@to.example", "bare@mx.example"]);
    assert_eq!(t.context.recipients[1].parameters, [("NOTIFY".to_owned(), Some("NEVER".to_owned()))]);
    assert_eq!(t.context.hold.as_deref(), Some("odd smell"));
    let null = changed(vec![MilterResponse::ChangeSender("<>".into(), None), MilterResponse::Continue]).await;
    assert_eq!(null.context.sender.as_deref(), Some(&ReversePath::Null));
}

#[tokio::test]
async fn the_body_is_replaced_by_all_pieces() {
    let t = changed(vec![
        MilterResponse::ReplaceBody("one\r\ntw".into()),
        MilterResponse::Progress,
        MilterResponse::ReplaceBody("o\nthree\r\n".into()),
        MilterResponse::Continue,
    ])
    .await;
    assert_eq!(t.context.body.as_ref().unwrap().in_memory().unwrap(), "one\r\ntwo\r\nthree\r\n");
    let empty = changed(vec![MilterResponse::ReplaceBody(Bytes::new()), MilterResponse::Continue]).await;
    assert_eq!(empty.context.body.as_ref().unwrap().size(), 0);
}

#[tokio::test]
async fn changes_before_a_refusal_are_none() {
    let responses =
        vec![MilterResponse::AddHeader("X".into(), "1".into()), MilterResponse::Quarantine("q".into()), MilterResponse::Reject];
    let (_fake, s) = session(Script::new(ProtocolFlags(0)).says(b'E', responses)).await;
    let (t, verdict) = s.whole(ID).await;
    assert!(matches!(verdict, Verdict::Reject(_)));
    assert_eq!((t.context.header.as_ref().unwrap().count("X"), t.context.hold), (0, None));
}

#[tokio::test]
async fn answers_in_single_octets_are_answers() {
    let responses = vec![
        MilterResponse::InsertHeader(1, "X".into(), "1".into()),
        MilterResponse::ReplaceBody("new\r\n".into()),
        MilterResponse::Accept,
    ];
    let (_fake, s) = session(Script { chop: true, ..Script::new(ProtocolFlags(0)).says(b'E', responses) }).await;
    let (t, verdict) = s.whole(ID).await;
    assert_eq!((verdict, fault(&t.chain)), (Verdict::Next, String::new()));
    assert_eq!(header(&t.context)[1], "X: 1");
}

#[tokio::test]
async fn signs_of_work_give_more_time() {
    let work = Act::Work(6, Duration::from_millis(200), MilterResponse::Continue);
    let (_fake, s) = session(Script::new(ProtocolFlags(0)).at(b'E', work)).await;
    let (t, verdict) = s.whole(ID).await;
    assert_eq!((verdict, fault(&t.chain)), (Verdict::Next, String::new()));
}

/// Faults of a milter after the negotiation, and the words for the operator.
#[tokio::test]
async fn each_fault_has_clear_words() {
    let frame = |octets: &'static [u8]| Act::Raw(octets);
    let h = |n: usize| MilterResponse::AddHeader("X".into(), Bytes::from(vec![b'x'; n]));
    for (code, act, words) in [
        (b'E', Act::Close, "connection: the milter at inet:PORT@127.0.0.1 closed the connection at the end of the message"),
        (
            b'E',
            Act::Silence,
            "time-limit: the milter at inet:PORT@127.0.0.1 did not answer at the end of the message within 500 ms",
        ),
        (b'L', Act::Silence, "did not answer at a header field within 500 ms"),
        (
            b'M',
            frame(b"\0\0\0\x01Z"),
            "bad-answer: the milter at inet:PORT@127.0.0.1 broke the protocol: the code 0x5a is unknown",
        ),
        (b'M', frame(b"\0\x20\0\0c"), "a packet of 2097152 octets is too long"),
        (b'M', frame(b"\0\0\0\0"), "a packet has no code"),
        (b'M', frame(b"\0\0\0\x02cc"), "the packet \"CONTINUE\" is malformed"),
        (b'E', frame(b"\0\0\0\x03hX\0"), "the packet \"ADDHEADER\" is malformed"),
        (b'M', frame(b"\0\0\0\x01c\0\0\0\x01c"), "unexpected data at RCPT"),
        (b'M', Act::Say(vec![MilterResponse::ReplyCode("250 2.0.0 fine".into())]), "has no code 4yz or 5yz"),
        (b'M', Act::Say(vec![MilterResponse::AddHeader("X".into(), "1".into())]), "ADDHEADER at MAIL is not allowed"),
        (b'M', Act::Say(vec![MilterResponse::Skip]), "SKIP at MAIL was not negotiated"),
        (
            b'E',
            Act::Say(vec![h(EDIT_BYTES_MAX / 2), h(EDIT_BYTES_MAX / 2)]),
            "exceeded a limit: changes of more than 1048576 octets",
        ),
        (b'E', Act::Say(vec![h(1); 12]), "more than 10 changes of one message"),
        (b'E', Act::Say(vec![MilterResponse::ReplaceBody(Bytes::from(vec![0; 600])); 2]), "a new body of more than 1000 octets"),
        (b'E', Act::Say(vec![MilterResponse::AddRecipient("<a b>".into())]), "ADDRCPT with \"<a b>\""),
        (b'E', Act::Say(vec![MilterResponse::DeleteRecipient(Bytes::from_static(b"\xff"))]), "DELRCPT is not valid UTF-8"),
        (
            b'E',
            Act::Say(vec![MilterResponse::AddHeader("A B".into(), "1".into()), MilterResponse::Continue]),
            "a field name is 1 to 200",
        ),
        (
            b'E',
            Act::Say(vec![MilterResponse::AddHeader("X".into(), "1\nBcc: x".into()), MilterResponse::Continue]),
            "a field value has no NUL",
        ),
        (
            b'E',
            Act::Say(vec![MilterResponse::Negotiate(MilterOptions::default())]),
            "OPTNEG at the end of the message is not allowed",
        ),
    ] {
        assert_fault(code, act, words).await;
    }
}

/// Faults of a milter in the negotiation, and the words for the operator.
#[tokio::test]
async fn each_fault_of_the_negotiation_has_clear_words() {
    for (code, act, words) in [
        (b'O', Act::Say(vec![MilterResponse::Continue]), "CONTINUE is not a reply to the negotiation"),
        (
            b'O',
            Act::Say(vec![MilterResponse::Negotiate(MilterOptions { version: 9, ..MilterOptions::default() })]),
            "protocol version 9",
        ),
        (
            b'O',
            Act::Say(vec![MilterResponse::Negotiate(MilterOptions {
                version: 6,
                protocol: ProtocolFlags(1 << 31),
                ..MilterOptions::default()
            })]),
            "0x80000000",
        ),
        (
            b'O',
            Act::Say(vec![MilterResponse::Negotiate(MilterOptions {
                version: 6,
                actions: ActionFlags(1 << 20),
                ..MilterOptions::default()
            })]),
            "0x100000",
        ),
        (b'O', Act::Raw(b"220 mail.example ESMTP\r\n"), "is too long"),
        (b'O', Act::Close, "closed the connection the negotiation"),
        (b'O', Act::Silence, "did not answer the negotiation within 500 ms"),
    ] {
        assert_fault(code, act, words).await;
    }
}

/// Has the milter act so at the command, and looks for the words in the fault, whose consequence is to hold.
async fn assert_fault(code: u8, act: Act, words: &str) {
    let (fake, s) = session_with(Script::new(ProtocolFlags(0)).at(code, act.clone()), |settings| {
        settings.edits_max = 10;
        settings.body_bytes_max = 1000;
    })
    .await;
    let mut t = s.transaction(ID);
    push(&mut t.context, "bob@to.example");
    fill(&mut t.context);
    let before = header(&t.context);
    let verdict = s.pipeline.verdict(&mut t.chain, &mut t.context, Event::Message).await;
    let said = fault(&t.chain).replace(&fake.address.port().to_string(), "PORT");
    assert!(said.contains(words), "{act:?}: {said:?} has not {words:?}");
    assert_eq!(verdict, Verdict::Accept, "held, as on_fault says");
    assert!(t.context.hold.is_some() && header(&t.context) == before, "and nothing changed");
}

#[tokio::test]
async fn changes_that_were_not_negotiated_are_a_fault() {
    for response in [
        MilterResponse::AddHeader("X".into(), "1".into()),
        MilterResponse::InsertHeader(1, "X".into(), "1".into()),
        MilterResponse::ChangeHeader(1, "X".into(), "1".into()),
        MilterResponse::ChangeSender("<>".into(), None),
        MilterResponse::AddRecipient("<a@b.example>".into()),
        MilterResponse::AddRecipientWithParameters("<a@b.example>".into(), None),
        MilterResponse::DeleteRecipient("<a@b.example>".into()),
        MilterResponse::ReplaceBody("x".into()),
        MilterResponse::Quarantine("x".into()),
    ] {
        let mut script = Script::new(ProtocolFlags(0)).says(b'E', vec![response.clone(), MilterResponse::Continue]);
        script.terms.actions = ActionFlags::CHOOSE_MACROS;
        let (_fake, s) = session(script).await;
        let (t, _) = s.whole(ID).await;
        assert!(fault(&t.chain).contains(&format!("{} was not negotiated", response.name())), "{}", fault(&t.chain));
    }
}

#[tokio::test]
async fn nobody_there_has_the_configured_consequence() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint =
        format!("inet:{}@127.0.0.1", listener.local_addr().unwrap().port()).parse::<waxwing_types::Endpoint>().unwrap();
    drop(listener);
    for (on_fault, wanted) in [
        (FaultPolicy::Defer, "defer 451 4.3.0 A filter of this server failed, try again later"),
        (FaultPolicy::Reject, "reject 554 5.3.0 A filter of this server failed"),
        (FaultPolicy::Skip, "next"),
        (FaultPolicy::Hold, "accept"),
    ] {
        let s = Session::new(pipeline(settings(endpoint.clone()), BindingMode::Enforce, on_fault));
        let mut t = s.transaction(ID);
        assert_eq!(word(&s.message(&mut t).await), wanted);
        assert!(fault(&t.chain).starts_with(&format!("connection: the milter at {endpoint} cannot be reached: ")));
    }
    let gone = "unix:/nowhere/m.sock".parse().unwrap();
    let error = waxwing_milter::probe_milter(&gone, Duration::from_secs(1)).await.unwrap_err();
    assert!(error.to_string().starts_with("the milter at unix:/nowhere/m.sock cannot be reached: No such file"), "{error}");
}

#[tokio::test]
async fn after_a_fault_the_next_question_meets_a_new_connection() {
    let (fake, mut s) = session(Script::new(ProtocolFlags(0)).at(b'M', Act::Raw(b"\0\0\0\x01Z"))).await;
    s.connect().await;
    let mut t = s.transaction(1);
    s.mail(&mut t).await;
    assert!(fault(&t.chain).contains("0x5a"));
    s.rcpt(&mut t, "bob@to.example").await;
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn a_shadow_is_told_all_and_changes_nothing() {
    let responses = vec![MilterResponse::AddHeader("X".into(), "1".into()), MilterResponse::Reject];
    let fake = Fake::start(Script::new(ProtocolFlags(0)).says(b'E', responses)).await;
    let s = Session::new(pipeline(settings(fake.endpoint()), BindingMode::Shadow, FaultPolicy::Defer));
    let (t, verdict) = s.whole(ID).await;
    assert_eq!(verdict, Verdict::Next);
    let last = t.chain.trace.last().unwrap();
    assert!(last.shadow && last.result.contains("reject 550 5.7.1"));
    assert_eq!(Arc::clone(t.context.header.as_ref().unwrap()).count("X"), 0);
}
