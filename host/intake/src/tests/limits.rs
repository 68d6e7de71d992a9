//! What strangers and plugins may not do, and what is always known of it.

use waxwing_pipeline::TRACE_ENTRIES_MAX;

use super::*;

#[tokio::test]
async fn a_trace_has_a_limit_and_counts_the_rest() {
    let house = house(Vec::new()).await;
    let mut host = house.session([192, 0, 2, 1]);
    mail(&mut host).await;
    for number in 0..TRACE_ENTRIES_MAX + 50 {
        assert_eq!(code(&rcpt(&mut host, &format!("u{number}@elsewhere.example")).await), 554);
    }
    host.answer(ServerQuestion::Reset).await;
    let traces = house.traces.0.lock().unwrap();
    assert_eq!(traces[0].entries.len(), TRACE_ENTRIES_MAX);
    assert_eq!(traces[0].entries.last().unwrap().calls, 51);
}

#[tokio::test]
async fn the_steps_before_mail_are_in_every_trace_and_a_refusal_there_has_its_own() {
    let greeter = plugin(&[Hook::OnConnect, Hook::OnHelo], |event, _| {
        let verdict = if event == &Event::Helo("bad".into()) {
            Verdict::Reject(Reply::fixed(550, (5, 7, 1), "not you"))
        } else {
            Verdict::Next
        };
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
    });
    let house = house(vec![(greeter, FaultPolicy::Defer)]).await;
    let mut host = house.session([192, 0, 2, 1]);
    assert_eq!(host.answer(ServerQuestion::Connect).await, ServerAnswer::Step(StepAnswer::Ok));
    assert_eq!(code(&host.answer(ServerQuestion::Helo { name: "bad".into(), esmtp: true }).await), 550);
    assert_eq!(host.answer(ServerQuestion::Helo { name: "good".into(), esmtp: true }).await, ServerAnswer::Step(StepAnswer::Ok));
    mail(&mut host).await;
    rcpt(&mut host, "demo@box.example").await;
    data(&mut host, &["\r\nx\r\n"]).await;
    let traces = house.traces.0.lock().unwrap();
    assert!(traces[0].result.starts_with("refused at on-helo: 550"), "{}", traces[0].result);
    let steps: Vec<&str> = traces[1].entries.iter().map(|entry| &*entry.step).collect();
    assert_eq!(steps, ["on-connect", "on-helo", "on-helo"]);
}

#[tokio::test]
async fn postmaster_without_domain_exists_and_nobody_routes_through_us() {
    let house = house(Vec::new()).await;
    let mut host = house.session([192, 0, 2, 1]);
    mail(&mut host).await;
    for (to, expected) in [
        ("Postmaster", 0),
        ("somebody", 554),
        ("postmaster@elsewhere.example", 554),
        ("x%elsewhere.example@relay.example", 554),
        ("elsewhere.example!x@relay.example", 554),
        ("\"x@elsewhere.example\"@relay.example", 554),
        ("x@relay.example", 0),
    ] {
        assert_eq!(code(&rcpt(&mut host, to).await), expected, "{to}");
    }
    let mut friend = house.session([10, 0, 0, 1]);
    mail(&mut friend).await;
    assert_eq!(rcpt(&mut friend, "x%elsewhere.example@relay.example").await, ServerAnswer::Step(StepAnswer::Ok));
}

#[tokio::test]
async fn a_refused_recipient_leaves_the_others_and_its_index_is_not_used_again() {
    let filter = plugin(&[Hook::OnRcpt, Hook::OnMessage], |event, context| {
        let is_bob = matches!(event, Event::Rcpt(r) if r.recipient.address.local() == "bob");
        let verdict = if is_bob { Verdict::Reject(Reply::fixed(550, (5, 7, 1), "no bob")) } else { Verdict::Next };
        if event == &Event::Message {
            let indexes: Vec<u32> = context.recipients.iter().map(|r| r.index).collect();
            assert_eq!(indexes, [0, 2]);
        }
        Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
    });
    let house = house(vec![(filter, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    mail(&mut host).await;
    for (to, expected) in [("ann@box.example", 0), ("bob@box.example", 550), ("demo@box.example", 0)] {
        assert_eq!(code(&rcpt(&mut host, to).await), expected, "{to}");
    }
    data(&mut host, &["\r\nx\r\n"]).await;
    assert_eq!(recipients(&house.queued().await[0]), ["ann@box.example", "demo@box.example"]);
}

#[tokio::test]
async fn recipients_of_plugins_get_a_domain_and_a_report_keeps_no_sender() {
    let meddler = plugin(&[Hook::OnMessage], |_, _| {
        let mut out = CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next));
        out.changes.edits.push(Edit::AddRecipient(address("copy"), Vec::new()));
        out.changes.edits.push(Edit::SetSender(ReversePath::Address(address("loop@far.example")), Vec::new()));
        Ok(out)
    });
    let house = house(vec![(meddler, FaultPolicy::Defer)]).await;
    send(&house, &["demo@box.example"], "\r\nx\r\n").await;
    assert_eq!(recipients(&house.queued().await[0]), ["demo@box.example", "copy@test"]);
    let report = house.intake.prepare(made(&house, Source::Dsn)).await.unwrap();
    assert_eq!(report.envelope.sender, ReversePath::Null);
}

#[tokio::test]
async fn aliases_may_add_to_what_the_client_named() {
    let table: &[(&str, &[&str])] = &[("team@alias.example", &["ann@box.example", "bob@box.example"])];
    let house = house(vec![(aliases(table), FaultPolicy::Defer)]).await;
    let named: Vec<String> = (0..10).map(|n| format!("u{n}@far.example")).chain(["team@alias.example".to_owned()]).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(code(&send(&house, &named, "\r\nx\r\n").await), 250);
    assert_eq!(house.queued().await[0].envelope.recipients.len(), 12);
}
