//! Plugins, made natively, at the hooks of the queue and of delivery.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test plugin answers what it was made for")]

use waxwing_pipeline::{
    BindingSettings, CallOutcome, Context, Event, Fault, FaultKind, FaultPolicy, Hook, HookAnswer, NextTry, RecipientFate,
    ReplyClass, SUBMITTED_BY_TAG, StagedChanges, Submission,
};
use waxwing_testkit::FakePlugin;
use waxwing_types::{Disposition, Edit, EnhancedCode, NextHop, QueueId, Status, Verdict};

use super::*;

fn bound(
    on_fault: FaultPolicy,
    hooks: &[Hook],
    says: impl Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync + 'static,
) -> Arc<Binding> {
    let plugin = FakePlugin::new(hooks, says);
    Binding::new("p", plugin, BindingSettings { on_fault, ..BindingSettings::default() })
}

/// A house with one plugin.
async fn with(words: ReplyScript, binding: Arc<Binding>) -> DeliveryHarness {
    harness_with(HarnessOptions { bindings: vec![binding], ..DEFAULT_OPTIONS }, words, by_mx).await
}

fn answered(answer: HookAnswer) -> Result<CallOutcome, Fault> {
    Ok(CallOutcome::from_answer(answer))
}

fn verdict(verdict: Verdict) -> Result<CallOutcome, Fault> {
    answered(HookAnswer::Verdict(verdict))
}

fn fault() -> Result<CallOutcome, Fault> {
    Err(Fault::new(FaultKind::Trap, "unreachable"))
}

fn mail(number: u64, to: &str) -> Submission {
    Submission {
        id: QueueId::from_u64(number),
        sender: ReversePath::Null,
        recipients: vec![address(to)],
        content: Bytes::from_static(b"Subject: from a plugin\r\n\r\nx\r\n"),
        submitter: "".into(),
    }
}

fn sending(answer: HookAnswer, mail: Submission) -> Result<CallOutcome, Fault> {
    let changes = StagedChanges { submissions: vec![mail], ..StagedChanges::default() };
    Ok(CallOutcome { changes, ..CallOutcome::from_answer(answer) })
}

fn refusal() -> Reply {
    Reply::fixed(550, (5, 7, 1), "not this")
}

const NOBODY: ReplyScript = |who| (who == "gone").then(|| Reply::fixed(550, (5, 1, 1), "no such user"));
const LATER: ReplyScript = |who| (who == "later").then(|| Reply::fixed(450, (4, 2, 0), "come back"));

impl DeliveryHarness {
    /// Waits until this holds; a test that waits too long fails.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} did not come true");
    }

    async fn held(&self, units: u64) {
        self.until("held", async |house| house.spool.stats().hold == units).await;
    }

    async fn unit(&self) -> waxwing_spool::Unit {
        loop {
            let page = self.spool.list(None, 10).await.unwrap();
            match page.entries.first().and_then(|entry| entry.unit.clone()) {
                Some(unit) => return unit,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Time was moved by hand: any event makes the manager look at the clock.
    async fn wake(&self) {
        self.send("", &["wake@mx.example"], "x\r\n").await;
    }

    fn events(&self) -> Vec<String> {
        self.recorder.events.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    fn traced(&self, words: &str) -> bool {
        format!("{:?}", self.recorder.traces.lock().unwrap()).contains(words)
    }
}

#[tokio::test]
async fn a_plugin_routes_before_the_configuration() {
    let route = |event: &Event, _: &Context| {
        let Event::Route(recipient) = event else { return fault() };
        let hop = |transport: &str, host: &str| Some(NextHop { transport: transport.into(), host: host.into(), port: None });
        answered(HookAnswer::Route(match recipient.recipient.address.local() {
            "away" => hop("discard", ""),
            "strange" => hop("pigeon", ""),
            "other" => hop("smtp", "two.example"),
            _ => None,
        }))
    };
    let house = with(|_| None, bound(FaultPolicy::Defer, &[Hook::OnRoute], route)).await;
    let to = ["away@nowhere.example", "usual@mx.example", "other@nowhere.example", "strange@mx.example"];
    house.send("", &to, "x\r\n").await;
    house.until("all attempts ended", async |house| house.unit().await.recipients.len() == 1).await;
    let mut kept: Vec<String> = house.received_messages().into_iter().flat_map(|(to, _)| to).collect();
    kept.sort();
    assert_eq!(kept, ["other@nowhere.example", "usual@mx.example"]);
    let waiting = house.unit().await.recipients;
    assert_eq!((waiting.len(), waiting[0].index), (1, 3));
    assert_eq!(waiting[0].last_status.as_ref().unwrap().text, "no transport pigeon is configured");
    assert!(house.traced("route discard"));
}

#[tokio::test]
async fn a_fault_at_on_route_defers_skips_or_holds() {
    for on_fault in [FaultPolicy::Defer, FaultPolicy::Reject] {
        let house = with(|_| None, bound(on_fault, &[Hook::OnRoute], |_, _| fault())).await;
        house.send("", &["x@mx.example"], "x\r\n").await;
        house.settled(1).await;
        assert_eq!(house.unit().await.recipients[0].last_status.as_ref().unwrap().text, "a plugin that routes failed");
    }
    let house = with(|_| None, bound(FaultPolicy::Skip, &[Hook::OnRoute], |_, _| fault())).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.settled(0).await;
    assert_eq!(house.received_messages().len(), 1);
    let house = with(|_| None, bound(FaultPolicy::Hold, &[Hook::OnRoute], |_, _| fault())).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.held(1).await;
    assert_eq!(house.received_messages().len(), 0);
}

#[tokio::test]
async fn a_scan_refuses_in_silence() {
    for (scan_refusal, held) in [(ScanRejectAction::Hold, 1), (ScanRejectAction::Discard, 0)] {
        let reject = bound(FaultPolicy::Defer, &[Hook::OnScan], |_, context| {
            assert_eq!(context.body.as_ref().unwrap().size(), 3);
            verdict(if context.sender.as_deref() == Some(&ReversePath::Null) {
                Verdict::Next
            } else {
                Verdict::Reject(refusal())
            })
        });
        let house =
            harness_with(HarnessOptions { bindings: vec![reject], scan_refusal, ..DEFAULT_OPTIONS }, |_| None, by_mx).await;
        house.send("a@mx.example", &["x@mx.example"], "x\r\n").await;
        house.send("", &["y@mx.example"], "y\r\n").await;
        house.until("sent", async |house| house.received_messages().len() == 1).await;
        house.held(held).await;
        house.until("trace", async |house| house.traced("550 5.7.1 not this")).await;
        assert_eq!(
            house.received_messages().into_iter().flat_map(|(to, _)| to).collect::<Vec<_>>(),
            ["y@mx.example"],
            "no report either"
        );
        if held == 1 {
            house.until("told", async |house| house.events().contains(&"held".to_owned())).await;
            let page = house.spool.list(None, 10).await.unwrap();
            let unit = page.entries[0].unit.clone().unwrap();
            assert_eq!(unit.attempts, 1, "it is not scanned again when it is let go");
        }
    }
}

#[tokio::test]
async fn a_scan_that_defers_is_made_again_before_any_attempt() {
    static SCANS: AtomicUsize = AtomicUsize::new(0);
    let scan = bound(FaultPolicy::Defer, &[Hook::OnScan], |_, context| {
        if context.recipients[0].recipient.address.local() == "wake" {
            return verdict(Verdict::Next);
        }
        match SCANS.fetch_add(1, Ordering::Relaxed) {
            0 => verdict(Verdict::Defer(Reply::fixed(451, (4, 7, 0), "not now"))),
            1 => fault(),
            _ => verdict(Verdict::Next),
        }
    });
    let house = with(LATER, scan).await;
    house.send("", &["later@mx.example"], "x\r\n").await;
    for scans in 1..3 {
        house.until("scanned", async |house| SCANS.load(Ordering::Relaxed) == scans && house.active.count() == 0).await;
        let unit = house.unit().await;
        assert_eq!(unit.attempts, 0);
        assert!(unit.recipients[0].last_status.is_some() && unit.next_at.since(house.clock.now()) >= Duration::from_secs(299));
        house.clock.advance(Duration::from_secs(301));
        house.wake().await;
    }
    house.settled(1).await;
    house.clock.advance(Duration::from_secs(5_000));
    house.wake().await;
    house.until("tried again", async |house| house.unit().await.attempts == 2).await;
    assert_eq!(SCANS.load(Ordering::Relaxed), 3, "what was tried once is not scanned again");
}

#[tokio::test]
async fn what_is_edited_at_on_send_is_sent_and_not_stored() {
    let sign = bound(FaultPolicy::Defer, &[Hook::OnSend], |event, _| {
        let Event::Send(destination) = event else { return fault() };
        let edit = Edit::AddHeader { name: "X-Signed".into(), value: destination.clone().into() };
        let changes = StagedChanges { edits: vec![edit], ..StagedChanges::default() };
        Ok(CallOutcome { changes, ..CallOutcome::from_answer(HookAnswer::Verdict(Verdict::Next)) })
    });
    let house = with(LATER, sign).await;
    house.send("", &["x@mx.example", "later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let whole = "Subject: s\r\nX-Signed: smtp:mx.example\r\n\r\nx\r\n".to_owned();
    assert_eq!(house.received_messages(), [(vec!["x@mx.example".to_owned()], whole)]);
    let stored = house.spool.load(house.unit().await.id).await.unwrap();
    assert_eq!(&stored.header[..], b"Subject: s\r\n\r\n");
}

#[tokio::test]
async fn on_send_defers_or_fails_and_a_fault_always_defers() {
    let house = with(
        |_| None,
        bound(FaultPolicy::Defer, &[Hook::OnSend], |_, context| {
            let is_report = context.sender.as_deref() == Some(&ReversePath::Null);
            verdict(if is_report { Verdict::Next } else { Verdict::Reject(refusal()) })
        }),
    )
    .await;
    house.send("sender@mx.example", &["x@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let kept = house.received_messages();
    assert_eq!((kept.len(), kept[0].0.as_slice()), (1, &["sender@mx.example".to_owned()][..]));
    assert!(kept[0].1.contains("Status: 5.7.1"), "{}", kept[0].1);

    type Way = fn() -> Result<CallOutcome, Fault>;
    let defer: Way = || verdict(Verdict::Defer(Reply::fixed(451, (4, 7, 5), "no key")));
    for (on_fault, way, words) in
        [(FaultPolicy::Defer, defer, "no key"), (FaultPolicy::Skip, fault as Way, "failed at the outgoing")]
    {
        let house = with(|_| None, bound(on_fault, &[Hook::OnSend], move |_, _| way())).await;
        house.send("", &["x@mx.example"], "x\r\n").await;
        house.settled(1).await;
        let last = house.unit().await.recipients[0].last_status.clone().unwrap();
        assert!(last.enhanced.class == 4 && last.text.contains(words), "{last:?}");
        assert!(house.received_messages().is_empty());
    }
}

#[tokio::test]
async fn a_reply_is_taken_as_a_plugin_says() {
    let words: ReplyScript = |who| match who {
        "gone" => Some(Reply::fixed(550, (5, 1, 1), "no such user")),
        "later" => Some(Reply::fixed(450, (4, 2, 0), "come back")),
        "odd" => Some(Reply::fixed(551, (5, 1, 6), "moved")),
        _ => None,
    };
    let class = bound(FaultPolicy::Reject, &[Hook::OnReply], |event, _| match event {
        Event::Reply { code: 550, destination, .. } if destination == "smtp:mx.example" => {
            answered(HookAnswer::ReplyClass(ReplyClass::Temporary))
        }
        Event::Reply { code: 450, .. } => answered(HookAnswer::ReplyClass(ReplyClass::Permanent)),
        Event::Reply { code: 250, .. } => answered(HookAnswer::ReplyClass(ReplyClass::Permanent)),
        _ => fault(),
    });
    let house = with(words, class).await;
    house.send("", &["gone@mx.example", "later@mx.example", "odd@mx.example", "x@mx.example", "y@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let waiting = house.unit().await.recipients;
    assert_eq!(waiting.iter().map(|r| r.index).collect::<Vec<_>>(), [0], "what was taken stays taken, a fault is as-is");
    let last = waiting[0].last_status.as_ref().unwrap();
    assert_eq!((last.code, last.enhanced), (Some(550), EnhancedCode::new(4, 1, 1)));
    let traces = house.recorder.traces.lock().unwrap();
    let calls = traces.iter().flat_map(|t| &t.entries).filter(|e| e.step == "on-reply").map(|e| e.calls).sum::<u32>();
    assert_eq!(calls, 4, "once for each different reply");
}

#[tokio::test]
async fn nothing_is_sent_to_a_dead_destination_for_a_while() {
    let dead = bound(FaultPolicy::Defer, &[Hook::OnReply], |event, _| match event {
        Event::Reply { code: 550, .. } => answered(HookAnswer::ReplyClass(ReplyClass::DestinationDead)),
        _ => answered(HookAnswer::ReplyClass(ReplyClass::AsIs)),
    });
    let house = with(NOBODY, dead).await;
    house.send("", &["gone@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.settled(2).await;
    assert!(house.received_messages().is_empty());
    let page = house.spool.list(None, 10).await.unwrap();
    let texts: Vec<String> =
        page.entries.iter().map(|e| e.unit.as_ref().unwrap().recipients[0].last_status.as_ref().unwrap().text.clone()).collect();
    assert!(
        texts.iter().any(|t| t.contains("destination suspended by a plugin; last reply: 550 5.1.1 no such user")),
        "{texts:?}"
    );
    house.clock.advance(Duration::from_secs(301));
    house.send("", &["y@mx.example"], "x\r\n").await;
    house.until("sent again", async |house| !house.received_messages().is_empty()).await;
}

#[tokio::test]
async fn a_plugin_plans_the_next_try() {
    let retry = bound(FaultPolicy::Defer, &[Hook::OnRetry], |event, _| {
        let Event::Retry(failure) = event else { return fault() };
        assert_eq!((failure.attempt, failure.status.as_str(), failure.destination.as_str()), (1, "4.2.0", "smtp:mx.example"));
        answered(HookAnswer::NextTry(NextTry::After(Duration::from_secs(7))))
    });
    let house = with(LATER, retry).await;
    house.send("", &["later@mx.example", "x@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.next_at, house.clock.now() + Duration::from_secs(7));

    let house = with(LATER, bound(FaultPolicy::Reject, &[Hook::OnRetry], |_, _| fault())).await;
    house.send("", &["later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.next_at, house.clock.now() + Duration::from_secs(300), "a fault is as-planned");

    let give_up = bound(FaultPolicy::Defer, &[Hook::OnRetry], |_, _| answered(HookAnswer::NextTry(NextTry::GiveUp)));
    let house = with(LATER, give_up).await;
    house.send("sender@mx.example", &["later@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let kept = house.received_messages();
    assert_eq!(kept[0].0, ["sender@mx.example"]);
    assert!(kept[0].1.contains("given up; last attempt: 4.2.0"), "{}", kept[0].1);
}

#[tokio::test]
async fn plugins_hear_of_each_outcome_and_what_they_send_is_sent() {
    static HEARD: Mutex<Vec<(String, RecipientFate, String)>> = Mutex::new(Vec::new());
    let hear = bound(FaultPolicy::Hold, &[Hook::OnOutcome], |event, _| {
        let Event::Outcome(outcome) = event else { return fault() };
        let local = outcome.recipient.recipient.address.local().to_owned();
        HEARD.lock().unwrap().push((local.clone(), outcome.fate, outcome.status.clone()));
        match local.as_str() {
            "later" => fault(),
            "gone" => sending(HookAnswer::Done, mail(77, "told@mx.example")),
            _ => answered(HookAnswer::Done),
        }
    });
    let words: ReplyScript = |who| NOBODY(who).or_else(|| LATER(who));
    let house = with(words, hear).await;
    house.send("", &["x@mx.example", "later@mx.example", "gone@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let heard = HEARD.lock().unwrap().clone();
    let expected = [
        ("x", RecipientFate::Delivered, "2.0.0"),
        ("later", RecipientFate::Deferred, "4.2.0"),
        ("gone", RecipientFate::Failed, "5.1.1"),
    ];
    assert_eq!(heard, expected.map(|(who, fate, status)| (who.to_owned(), fate, status.to_owned())), "and not of its own mail");
    let to: Vec<String> = house.received_messages().into_iter().flat_map(|(to, _)| to).collect();
    assert!(to.contains(&"told@mx.example".to_owned()), "{to:?}");
    house.until("told", async |house| house.events().len() == 4).await;
    let mut events = house.events();
    events.sort();
    assert_eq!(events, ["deferred", "delivered", "delivered", "failed"]);
    let events = house.recorder.events.lock().unwrap();
    let (_, failed) = events.iter().find(|(name, _)| name == "failed").unwrap();
    let known: serde_json::Value = serde_json::from_str(failed).unwrap();
    let words = ["recipient", "destination", "status", "text"].map(|key| known[key].as_str().unwrap());
    assert_eq!(words, ["gone@mx.example", "smtp:mx.example", "5.1.1", "5.1.1 no such user"]);
    assert_eq!((&known["code"], &known["attempt"], &known["expired"]), (&550.into(), &1.into(), &false.into()));
}

#[tokio::test]
async fn what_expires_is_an_outcome_of_its_own() {
    static HEARD: Mutex<Vec<RecipientFate>> = Mutex::new(Vec::new());
    let hear = bound(FaultPolicy::Defer, &[Hook::OnOutcome, Hook::OnRetry], |event, _| match event {
        Event::Outcome(outcome) => {
            HEARD.lock().unwrap().push(outcome.fate);
            answered(HookAnswer::Done)
        }
        _ => panic!("nobody plans for what is given up"),
    });
    let house = with(LATER, hear).await;
    let long_ago = house.clock.now();
    house.clock.advance(Duration::from_secs(6 * 86_400));
    enqueue(&house.spool, long_ago, "", &["later@mx.example"], "x\r\n").await;
    house.settled(0).await;
    assert_eq!(*HEARD.lock().unwrap(), [RecipientFate::Expired]);
}

#[tokio::test]
async fn a_report_is_edited_suppressed_or_goes_as_it_is() {
    let dsn = bound(FaultPolicy::Hold, &[Hook::OnDsn], |event, context| {
        let (Event::Dsn(kind), Some(to)) = (event, context.recipients.first()) else { return fault() };
        assert_eq!(kind, "failure");
        match to.recipient.address.local() {
            "edited" => {
                let edit = Edit::AddHeader { name: "X-Seen".into(), value: "yes".into() };
                let changes = StagedChanges { edits: vec![edit], ..StagedChanges::default() };
                Ok(CallOutcome { changes, ..CallOutcome::from_answer(HookAnswer::SendDsn(true)) })
            }
            "quiet" => sending(HookAnswer::SendDsn(false), mail(78, "instead@mx.example")),
            _ => fault(),
        }
    });
    let house = with(NOBODY, dsn).await;
    for sender in ["edited@mx.example", "quiet@mx.example", "plain@mx.example"] {
        house.send(sender, &["gone@mx.example"], "x\r\n").await;
    }
    house.settled(0).await;
    let mut kept = house.received_messages();
    kept.sort();
    let to: Vec<&str> = kept.iter().map(|(to, _)| to[0].as_str()).collect();
    assert_eq!(to, ["edited@mx.example", "instead@mx.example", "plain@mx.example"]);
    assert!(kept[0].1.contains("\r\nX-Seen: yes\r\n") && kept[0].1.contains("Status: 5.1.1"));
    assert!(!kept[2].1.contains("X-Seen") && kept[2].1.contains("Status: 5.1.1"));
}

#[tokio::test]
async fn what_plugins_send_ends_after_a_few_and_is_not_shown_to_them() {
    let ring = |name: &str| {
        let plugin = FakePlugin::new(&[Hook::OnOutcome], |event, context| {
            let Event::Outcome(outcome) = event else { return fault() };
            let number = context.id.map_or(0, QueueId::as_u64) + 1_000;
            sending(HookAnswer::Done, mail(number, &outcome.recipient.recipient.address.to_string()))
        });
        Binding::new(name, plugin, BindingSettings::default())
    };
    let bindings = ["p", "q"].map(ring).to_vec();
    let house = harness_with(HarnessOptions { bindings, ..DEFAULT_OPTIONS }, |_| None, by_mx).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.until("all sent", async |house| house.received_messages().len() == 3).await;
    house.settled(0).await;
    assert_eq!(house.received_messages().len(), 3, "p and q each hear of the other's once, the third has both as authors");

    let many = |authors: &str| Tags::from([(SUBMITTED_BY_TAG.to_owned(), authors.to_owned())]);
    let message = new_message(&house.spool, house.clock.now(), "", &["x@mx.example"], "x\r\n");
    house.spool.enqueue(NewMessage { tags: many("a,b,c,d,e"), ..message }).await.unwrap();
    house.until("dropped", async |house| house.traced("dropped: refused: 5 messages led one to the next")).await;
    house.settled(0).await;
    assert_eq!(house.received_messages().len(), 4);
}

#[tokio::test]
async fn a_transport_plugin_that_fails_defers_or_holds() {
    let plugged = |_: u16| BTreeMap::from([("*".to_owned(), Route::for_transport("plugged"))]);
    let deliver = |on_fault| {
        bound(on_fault, &[Hook::OnDeliver], |event, _| match event {
            Event::Deliver { recipients, .. } if recipients.len() == 2 => {
                let status = Status::local(EnhancedCode::new(2, 0, 0), "taken");
                answered(HookAnswer::Dispositions(vec![(0, Disposition::Delivered(status))]))
            }
            _ => fault(),
        })
    };
    let house =
        harness_with(HarnessOptions { bindings: vec![deliver(FaultPolicy::Defer)], ..DEFAULT_OPTIONS }, |_| None, plugged).await;
    house.send("", &["x@mx.example", "y@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.recipients.len(), 1);
    let house =
        harness_with(HarnessOptions { bindings: vec![deliver(FaultPolicy::Hold)], ..DEFAULT_OPTIONS }, |_| None, plugged).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.held(1).await;
    house.until("told", async |house| house.events().contains(&"held".to_owned())).await;
}

#[tokio::test]
async fn a_plugin_is_not_called_where_it_is_not_bound() {
    let quiet = bound(FaultPolicy::Reject, &[Hook::OnMessage, Hook::OnTick], |event, _| panic!("called at {}", event.hook()));
    let words: ReplyScript = |who| NOBODY(who).or_else(|| LATER(who));
    let house = with(words, quiet).await;
    house.send("s@mx.example", &["x@mx.example", "gone@mx.example", "later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.until("reported", async |house| house.received_messages().len() == 2).await;
}
