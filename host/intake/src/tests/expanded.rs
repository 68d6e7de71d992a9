//! The report "expanded".

use waxwing_types::Notify;

use super::*;

fn on(success: bool, failure: bool) -> Notify {
    Notify::On { success, failure, delay: false }
}

/// What is queued after a message to this recipient: the members with what is asked of them, and the report.
async fn after(house: &House, sender: ReversePath, to: &str, notify: Notify) -> (Vec<(String, Notify)>, Option<String>) {
    let before: Vec<_> = house.queued().await.iter().map(|m| m.id).collect();
    let mut host = house.session([10, 0, 0, 1]);
    let options = MailOptions { envid: Some("QQ1".into()), ..MailOptions::default() };
    host.answer(ServerQuestion::Mail { sender, parameters: Vec::new(), size: None, options }).await;
    let options = RcptOptions { notify, orcpt: Some(format!("rfc822;{to}")) };
    assert_eq!(
        host.answer(ServerQuestion::Rcpt { recipient: address(to), parameters: Vec::new(), options }).await,
        ServerAnswer::Step(StepAnswer::Ok)
    );
    assert!(matches!(
        data(&mut host, &["Subject: x\r\n\r\nsecret\r\n"]).await,
        ServerAnswer::Message(MessageAnswer::Committed(_))
    ));
    let (reports, mail): (Vec<Message>, Vec<Message>) = house
        .queued()
        .await
        .into_iter()
        .filter(|m| !before.contains(&m.id))
        .partition(|m| m.envelope.origin.source == Source::Dsn);
    assert!(mail.len() == 1 && reports.len() <= 1);
    let members = mail[0].envelope.recipients.iter().map(|r| (r.address.to_string(), r.notify)).collect();
    let report = reports.first().map(|report| {
        assert_eq!((&report.envelope.sender, recipients(report)), (&ReversePath::Null, vec!["sender@far.example".to_owned()]));
        String::from_utf8_lossy(report.body.in_memory().unwrap()).into_owned()
    });
    (members, report)
}

#[tokio::test]
async fn who_asked_for_success_hears_that_an_alias_stands_for_several() {
    let table = aliases(&[
        ("team@alias.example", &["ann@box.example", "inner@alias.example"]),
        ("inner@alias.example", &["bob@box.example", "demo@box.example"]),
        ("one@alias.example", &["ann@box.example"]),
    ]);
    let house = house(vec![(table, FaultPolicy::Defer)]).await;
    let sender = || ReversePath::Address(address("sender@far.example"));
    let all = |notify| ["ann@box.example", "bob@box.example", "demo@box.example"].map(|to| (to.to_owned(), notify)).to_vec();

    let (members, report) = after(&house, sender(), "team@alias.example", on(true, true)).await;
    assert_eq!(members, all(on(false, true)), "failures of members are still told");
    let report = report.unwrap();
    for line in [
        "Original-Envelope-Id: QQ1\r\n",
        "Original-Recipient: rfc822;team@alias.example\r\nFinal-Recipient: rfc822; team@alias.example\r\nAction: expanded\r\nStatus: 2.0.0\r\n",
        "Subject: x\r\n",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    assert!(!report.contains("box.example") && !report.contains("inner@") && !report.contains("secret"), "{report}");

    let (members, report) = after(&house, sender(), "team@alias.example", on(true, false)).await;
    assert_eq!((members, report.is_some()), (all(Notify::Never), true));
    for notify in [Notify::Default, Notify::Never, on(false, true)] {
        assert_eq!(after(&house, sender(), "team@alias.example", notify).await, (all(notify), None));
    }
    let (members, report) = after(&house, ReversePath::Null, "team@alias.example", on(true, true)).await;
    assert_eq!((members, report), (all(on(false, true)), None), "there is nobody to tell");
    let one = ("ann@box.example".to_owned(), on(true, true));
    assert_eq!(after(&house, sender(), "one@alias.example", on(true, true)).await, (vec![one], None), "it is passed on");
}

#[tokio::test]
async fn a_plugin_may_suppress_the_report() {
    let table = aliases(&[("team@alias.example", &["ann@box.example", "bob@box.example"])]);
    let quiet = plugin(&[Hook::OnDsn], |event, _| {
        assert!(matches!(event, Event::Dsn(kind) if kind == "success"), "{event:?}");
        Ok(CallOutcome::from_answer(HookAnswer::SendDsn(false)))
    });
    let house = house(vec![(table, FaultPolicy::Defer), (quiet, FaultPolicy::Defer)]).await;
    let sender = ReversePath::Address(address("sender@far.example"));
    let (members, report) = after(&house, sender, "team@alias.example", on(true, true)).await;
    assert_eq!((members.len(), report), (2, None));
}
