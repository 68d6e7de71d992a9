//! What is recorded of a transaction.

use super::*;

fn only(house: &House) -> Recording {
    let mut list = house.recordings.0.lock().unwrap();
    assert_eq!(list.len(), 1, "each transaction is recorded once");
    list.remove(0)
}

#[tokio::test]
async fn what_the_client_said_is_recorded_not_what_became_of_it() {
    let filter = plugin(&[Hook::OnMail, Hook::OnMessage], |event, _| {
        let mut out = CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next));
        match event {
            Event::Mail(_) => out.changes.edits.push(Edit::SetSender(ReversePath::Null, Vec::new())),
            _ => {
                out.changes.edits.push(Edit::AddHeader { name: "X-Seen".into(), value: "yes".into() });
                out.changes.edits.push(Edit::ReplaceBody("other\r\n".into()));
                out.changes.edits.push(Edit::Tag { name: "k".into(), value: "v".into() });
                out.changes.quarantine = Some("wait".into());
            }
        }
        Ok(out)
    });
    let house = house(vec![(filter, FaultPolicy::Defer)]).await;
    let mut host = house.session([10, 0, 0, 1]);
    host.answer(ServerQuestion::Helo { name: "me.example".into(), esmtp: true }).await;
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "nobody@box.example").await), 550);
    rcpt(&mut host, "demo@box.example").await;
    assert_eq!(code(&data(&mut host, &["Subject: x\r\n\r\nbody\r\n"]).await), 250);
    let recording = only(&house);
    assert_eq!((recording.sender.as_str(), recording.helo.as_str()), ("sender@far.example", "me.example"));
    let named: Vec<&str> = recording.recipients.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(named, ["nobody@box.example", "demo@box.example"]);
    assert_eq!(recording.header.as_deref(), Some(&b"Subject: x\r\n\r\n"[..]));
    assert_eq!(recording.body, RecordedBody::Complete("body\r\n".into()));
    assert_eq!((recording.final_verdict.as_str(), recording.tags.get("k").map(String::as_str)), ("hold", Some("v")));
    assert!(recording.reply.starts_with("250 2.0.0 queued as "), "{}", recording.reply);
    assert!(recording.entries.iter().any(|entry| entry.step == "on-message" && !entry.edits.is_empty()));
}

#[tokio::test]
async fn refused_transactions_are_recorded_with_their_reply() {
    let house = house(Vec::new()).await;
    let mut host = house.session([192, 0, 2, 1]);
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "nobody@box.example").await), 550);
    host.answer(ServerQuestion::Reset).await;
    let recording = only(&house);
    assert_eq!((recording.final_verdict.as_str(), recording.header, recording.body), ("reject", None, RecordedBody::None));
    assert_eq!(recording.reply, "550 5.1.1 User unknown");
}

#[tokio::test]
async fn refusals_of_mail_and_message_are_told_apart_by_their_code() {
    for (at, answer, ending) in [
        (Hook::OnMail, Verdict::Reject(Reply::fixed(550, (5, 7, 1), "no")), "reject"),
        (Hook::OnMessage, Verdict::Defer(Reply::fixed(451, (4, 7, 1), "later")), "defer"),
        (Hook::OnMessage, Verdict::Disconnect(Reply::fixed(421, (4, 7, 1), "go")), "disconnect"),
        (Hook::OnMessage, Verdict::Discard { reason: "x".into() }, "discard"),
    ] {
        let house = house(vec![(
            plugin(&[at], move |_, _| Ok(CallOutcome::from_answer(HookAnswer::Verdict(answer.clone())))),
            FaultPolicy::Defer,
        )])
        .await;
        let mut host = house.session([10, 0, 0, 1]);
        if mail(&mut host).await == ServerAnswer::Step(StepAnswer::Ok) {
            rcpt(&mut host, "demo@box.example").await;
            data(&mut host, &["Subject: x\r\n\r\nbody\r\n"]).await;
        }
        assert_eq!(only(&house).final_verdict, ending);
    }
}

#[tokio::test]
async fn what_the_client_gave_up_is_open() {
    let house = house(Vec::new()).await;
    let mut host = house.session([10, 0, 0, 1]);
    mail(&mut host).await;
    assert_eq!(code(&rcpt(&mut host, "nobody@box.example").await), 550);
    rcpt(&mut host, "demo@box.example").await;
    host.answer(ServerQuestion::Reset).await;
    let recording = only(&house);
    assert_eq!((recording.final_verdict.as_str(), recording.reply.as_str(), recording.recipients.len()), ("open", "", 2));
}
