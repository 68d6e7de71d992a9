//! The hooks beside the commands, and what plugins send.

use std::time::Duration;

use waxwing_pipeline::{Placement, SUBMITTED_BY_TAG, StagedChanges, Submission};

use super::*;

fn said(verdict: Verdict) -> Result<CallOutcome, Fault> {
    Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
}

/// A plugin that writes what it is told into the list.
fn telling(hooks: &[Hook], heard: &Arc<Mutex<Vec<String>>>) -> Arc<FakePlugin> {
    let heard = Arc::clone(heard);
    plugin(hooks, move |event, context| {
        let mut heard = heard.lock().unwrap();
        match event {
            Event::RcptResolved { recipient, targets } => {
                let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
                heard.push(format!("{}: {}", recipient.recipient.address, targets.join(" ")));
                match targets.len() {
                    3 => said(Verdict::Reject(Reply::fixed(550, (5, 7, 1), "too many"))),
                    _ => said(Verdict::Next),
                }
            }
            Event::Headers => {
                let head = context.header.as_ref().unwrap();
                heard.push(format!("{} fields, body {}", head.fields().len(), context.body.is_some()));
                match head.first("X-No").is_some() {
                    true => said(Verdict::Disconnect(Reply::fixed(421, (4, 7, 1), "not this"))),
                    false => said(Verdict::Next),
                }
            }
            Event::Command { verb, argument } => {
                heard.push(format!("{verb} {} {}", argument.len(), context.sender.is_some()));
                Ok(CallOutcome::from_answer(HookAnswer::Reply((verb == "XPING").then(|| Reply::plain(250, "pong")))))
            }
            Event::Disconnect(reason) => {
                heard.push(reason.clone());
                Ok(CallOutcome::from_answer(HookAnswer::Done))
            }
            _ => said(Verdict::Next),
        }
    })
}

#[tokio::test]
async fn targets_of_a_recipient_are_told_and_can_be_refused() {
    let heard = Arc::default();
    let aliases = aliases(&[
        ("all@alias.example", &["ann@box.example", "bob@box.example", "demo@box.example"]),
        ("one@alias.example", &["ann@box.example"]),
    ]);
    let house = house(vec![(aliases, FaultPolicy::Defer), (telling(&[Hook::OnRcptResolved], &heard), FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    mail(&mut host).await;
    assert_eq!(rcpt(&mut host, "one@alias.example").await, ServerAnswer::Step(StepAnswer::Ok));
    assert_eq!(code(&rcpt(&mut host, "all@alias.example").await), 550);
    assert_eq!(rcpt(&mut host, "x@elsewhere.example").await, ServerAnswer::Step(StepAnswer::Ok));
    let expected = [
        "one@alias.example: ann@box.example",
        "all@alias.example: ann@box.example bob@box.example demo@box.example",
        "x@elsewhere.example: x@elsewhere.example",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
    assert!(matches!(data(&mut host, &["\r\nx\r\n"]).await, ServerAnswer::Message(MessageAnswer::Committed(_))));
    let mut to = recipients(&house.queued().await[0]);
    to.sort();
    assert_eq!(to, ["ann@box.example", "x@elsewhere.example"]);
}

#[tokio::test]
async fn a_header_is_told_before_its_body_and_can_be_refused() {
    let heard = Arc::default();
    let house = house(vec![(telling(&[Hook::OnHeaders], &heard), FaultPolicy::Defer)]).await;
    for text in ["A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\n", "\r\nbody\r\n"] {
        assert_eq!(code(&send(&house, &["demo@test"], text).await), 250);
    }
    assert_eq!(*heard.lock().unwrap(), ["2 fields, body false", "1 fields, body false", "0 fields, body false"]);
    let refused = send(&house, &["demo@test"], "X-No: 1\r\n\r\nbody\r\n").await;
    assert!(matches!(&refused, ServerAnswer::Message(MessageAnswer::Close(reply)) if reply.code() == 421), "{refused:?}");
    assert_eq!(house.queued().await.len(), 3);
}

#[tokio::test]
async fn other_commands_and_the_end_are_told() {
    let heard = Arc::default();
    let house = house(vec![(telling(&[Hook::OnCommand, Hook::OnDisconnect], &heard), FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    let command = |verb: &str| ServerQuestion::Command { verb: verb.to_owned(), argument: Bytes::from_static(b"a b") };
    assert_eq!(host.answer(command("VRFY")).await, ServerAnswer::Step(StepAnswer::Ok));
    mail(&mut host).await;
    assert_eq!(host.answer(command("XPING")).await, ServerAnswer::Step(StepAnswer::Reply(Reply::plain(250, "pong"))));
    host.connection_ended(waxwing_net::ConnectionEnd::PeerGone);
    drop(host);
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*heard.lock().unwrap(), ["VRFY 3 false", "XPING 3 true", "lost"]);
}

#[tokio::test]
async fn a_place_in_the_queue_is_obeyed() {
    let place = |placement: Placement| {
        plugin(&[Hook::OnEnqueue], move |_, _| Ok(CallOutcome::from_answer(HookAnswer::Placement(placement.clone()))))
    };
    let wait = |seconds, priority| Placement { priority, not_before: Duration::from_secs(seconds), hold: None };
    let house = house(vec![(place(wait(60, -3)), FaultPolicy::Defer), (place(wait(30, -4)), FaultPolicy::Defer)]).await;
    assert_eq!(code(&send(&house, &["demo@test"], "\r\nx\r\n").await), 250);
    let lease = house.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let came = house.queued().await[0].envelope.origin.received_at;
    let due = |seconds| house.spool.scan_due(&lease, None, came + Duration::from_secs(seconds), 10);
    assert_eq!(due(66).await.unwrap().len(), 0);
    assert_eq!(due(67).await.unwrap().len(), 1, "the longest wait, and the sum of the priorities");
}

#[tokio::test]
async fn a_fault_before_the_commit_refuses_or_holds() {
    for (on_fault, expected, held) in [(FaultPolicy::Defer, 451, 0), (FaultPolicy::Skip, 250, 0), (FaultPolicy::Hold, 250, 1)] {
        let broken = plugin(&[Hook::OnEnqueue], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
        let house = house(vec![(broken, on_fault)]).await;
        assert_eq!(code(&send(&house, &["demo@test"], "\r\nx\r\n").await), expected);
        assert_eq!(house.spool.stats().hold, held);
    }
}

/// Sends one message for each message that it sees, and is named by its place.
fn echo(house_ids: &Arc<Mutex<u64>>, subject: &'static str) -> Arc<FakePlugin> {
    let ids = Arc::clone(house_ids);
    plugin(&[Hook::OnMessage], move |_, context| {
        let mut next = ids.lock().unwrap();
        *next += 1;
        let id = waxwing_types::QueueIdGenerator::default().next(Timestamp::from_millis(*next * 1000));
        let submission = Submission {
            id,
            sender: ReversePath::Null,
            recipients: vec![Address::parse("demo@test").unwrap()],
            content: Bytes::from(format!(
                "Subject: {subject}\r\n\r\n{}\r\n",
                context.tags.get(SUBMITTED_BY_TAG).cloned().unwrap_or_default()
            )),
            submitter: "forged".into(),
        };
        let changes = StagedChanges { submissions: vec![submission], ..StagedChanges::default() };
        Ok(CallOutcome { changes, ..CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next)) })
    })
}

#[tokio::test]
async fn what_plugins_send_is_committed_with_its_cause_and_never_shown_to_its_author() {
    let ids = Arc::default();
    let house = house(vec![(echo(&ids, "zero"), FaultPolicy::Defer), (echo(&ids, "one"), FaultPolicy::Defer)]).await;
    assert_eq!(code(&send(&house, &["demo@test"], "Subject: cause\r\n\r\nx\r\n").await), 250);
    // The cause, what each sends for it, and what each sends for the other's; there it ends, since each has had its say.
    let bodies: Vec<String> =
        house.queued().await.iter().map(|m| String::from_utf8(m.body.in_memory().unwrap().to_vec()).unwrap()).collect();
    let mut bodies: Vec<&str> = bodies.iter().map(|b| b.trim_end()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["", "", "p0", "p1", "x"]);
    let queued = house.queued().await;
    let tags: Vec<&str> = queued.iter().filter_map(|m| m.tags.get(SUBMITTED_BY_TAG).map(String::as_str)).collect();
    assert_eq!(tags.iter().filter(|t| ["p0", "p1", "p0,p1", "p1,p0"].contains(t)).count(), 4, "{tags:?}");
}

#[tokio::test]
async fn a_chain_of_mail_that_plugins_send_has_an_end() {
    let ids = Arc::default();
    let plugins = (0..7).map(|_| (echo(&ids, "again"), FaultPolicy::Defer)).collect();
    let house = house(plugins).await;
    assert_eq!(code(&send(&house, &["demo@test"], "Subject: cause\r\n\r\nx\r\n").await), 250);
    let longest = house.queued().await.iter().filter_map(|m| m.tags.get(SUBMITTED_BY_TAG).map(|t| t.split(',').count())).max();
    assert_eq!(longest, Some(5));
}

#[tokio::test]
async fn what_is_refused_takes_along_what_came_with_it() {
    let ids = Arc::default();
    let strict = plugin(&[Hook::OnCleanup], |_, _| said(Verdict::Reject(Reply::fixed(554, (5, 7, 1), "no"))));
    let house = house(vec![(echo(&ids, "zero"), FaultPolicy::Defer), (strict, FaultPolicy::Defer)]).await;
    assert_eq!(code(&send(&house, &["demo@test"], "Subject: cause\r\n\r\nx\r\n").await), 554);
    assert_eq!(house.queued().await.len(), 0);
}
