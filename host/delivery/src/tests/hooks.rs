//! Plugins, made natively, at the hooks of the queue and of delivery.
#![allow(clippy::wildcard_enum_match_arm, reason = "a test plugin answers what it was made for")]

use waxwing_pipeline::{
    AUTHORS_TAG, Answer, BindingSettings, Changes, Context, Event, Fate, Fault, FaultKind, Guest, Hook, HookSet, NextTry,
    OnFault, Outcome, Plugin, ReplyClass, Submission,
};
use waxwing_types::{Disposition, Edit, EnhancedCode, NextHop, QueueId, Status, Verdict};

use super::*;

type Says = Box<dyn Fn(&Event, &Context) -> Result<Outcome, Fault> + Send + Sync>;

struct Fake(HookSet, Says);

struct FakeGuest(Arc<Fake>);

impl Plugin for Fake {
    fn version(&self) -> &str {
        "1"
    }
    fn exports(&self) -> HookSet {
        self.0
    }
    fn open(self: Arc<Self>) -> Box<dyn Guest> {
        Box::new(FakeGuest(self))
    }
}

#[async_trait]
impl Guest for FakeGuest {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<Outcome, Fault> {
        (self.0.1)(event, context)
    }
}

fn bound(
    on_fault: OnFault,
    hooks: &[Hook],
    says: impl Fn(&Event, &Context) -> Result<Outcome, Fault> + Send + Sync + 'static,
) -> Arc<Binding> {
    let plugin = Arc::new(Fake(hooks.iter().copied().collect(), Box::new(says)));
    Binding::new("p", plugin, BindingSettings { on_fault, ..BindingSettings::default() })
}

/// A house with one plugin.
async fn with(words: Words, binding: Arc<Binding>) -> House {
    house_with(Wishes { bindings: vec![binding], ..USUAL }, words, by_mx).await
}

fn says(answer: Answer) -> Result<Outcome, Fault> {
    Ok(Outcome::of(answer))
}

fn verdict(verdict: Verdict) -> Result<Outcome, Fault> {
    says(Answer::Verdict(verdict))
}

fn fault() -> Result<Outcome, Fault> {
    Err(Fault::new(FaultKind::Trap, "unreachable"))
}

fn mail(number: u64, to: &str) -> Submission {
    Submission {
        id: QueueId::from_u64(number),
        sender: ReversePath::Null,
        recipients: vec![address(to)],
        content: Bytes::from_static(b"Subject: from a plugin\r\n\r\nx\r\n"),
        author: "".into(),
    }
}

fn sending(answer: Answer, mail: Submission) -> Result<Outcome, Fault> {
    let changes = Changes { submissions: vec![mail], ..Changes::default() };
    Ok(Outcome { changes, ..Outcome::of(answer) })
}

fn refusal() -> Reply {
    Reply::fixed(550, (5, 7, 1), "not this")
}

const NOBODY: Words = |who| (who == "gone").then(|| Reply::fixed(550, (5, 1, 1), "no such user"));
const LATER: Words = |who| (who == "later").then(|| Reply::fixed(450, (4, 2, 0), "come back"));

impl House {
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

    async fn unit(&self) -> waxwing_queue::Unit {
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
        self.kept.events.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    fn traced(&self, words: &str) -> bool {
        format!("{:?}", self.kept.traces.lock().unwrap()).contains(words)
    }
}

#[tokio::test]
async fn a_plugin_routes_before_the_configuration() {
    let route = |event: &Event, _: &Context| {
        let Event::Route(recipient) = event else { return fault() };
        let hop = |transport: &str, host: &str| Some(NextHop { transport: transport.into(), host: host.into(), port: None });
        says(Answer::Route(match recipient.recipient.address.local() {
            "away" => hop("discard", ""),
            "strange" => hop("pigeon", ""),
            "other" => hop("smtp", "two.example"),
            _ => None,
        }))
    };
    let house = with(|_| None, bound(OnFault::Defer, &[Hook::OnRoute], route)).await;
    let to = ["away@nowhere.example", "usual@mx.example", "other@nowhere.example", "strange@mx.example"];
    house.send("", &to, "x\r\n").await;
    house.until("all attempts ended", async |house| house.unit().await.recipients.len() == 1).await;
    let mut kept: Vec<String> = house.kept().into_iter().flat_map(|(to, _)| to).collect();
    kept.sort();
    assert_eq!(kept, ["other@nowhere.example", "usual@mx.example"]);
    let waiting = house.unit().await.recipients;
    assert_eq!((waiting.len(), waiting[0].index), (1, 3));
    assert_eq!(waiting[0].last.as_ref().unwrap().text, "no transport pigeon is configured");
    assert!(house.traced("route discard"));
}

#[tokio::test]
async fn a_fault_at_on_route_defers_skips_or_holds() {
    for on_fault in [OnFault::Defer, OnFault::Reject] {
        let house = with(|_| None, bound(on_fault, &[Hook::OnRoute], |_, _| fault())).await;
        house.send("", &["x@mx.example"], "x\r\n").await;
        house.settled(1).await;
        assert_eq!(house.unit().await.recipients[0].last.as_ref().unwrap().text, "a plugin that routes failed");
    }
    let house = with(|_| None, bound(OnFault::Skip, &[Hook::OnRoute], |_, _| fault())).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.settled(0).await;
    assert_eq!(house.kept().len(), 1);
    let house = with(|_| None, bound(OnFault::Hold, &[Hook::OnRoute], |_, _| fault())).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.held(1).await;
    assert_eq!(house.kept().len(), 0);
}

#[tokio::test]
async fn a_scan_refuses_in_silence() {
    for (scan_refusal, held) in [(ScanRefusal::Hold, 1), (ScanRefusal::Discard, 0)] {
        let reject = bound(OnFault::Defer, &[Hook::OnScan], |_, context| {
            assert_eq!(context.body.as_ref().unwrap().size(), 3);
            verdict(if context.sender.as_deref() == Some(&ReversePath::Null) {
                Verdict::Continue
            } else {
                Verdict::Reject(refusal())
            })
        });
        let house = house_with(Wishes { bindings: vec![reject], scan_refusal, ..USUAL }, |_| None, by_mx).await;
        house.send("a@mx.example", &["x@mx.example"], "x\r\n").await;
        house.send("", &["y@mx.example"], "y\r\n").await;
        house.until("sent", async |house| house.kept().len() == 1).await;
        house.held(held).await;
        house.until("trace", async |house| house.traced("550 5.7.1 not this")).await;
        assert_eq!(house.kept().into_iter().flat_map(|(to, _)| to).collect::<Vec<_>>(), ["y@mx.example"], "no report either");
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
    let scan = bound(OnFault::Defer, &[Hook::OnScan], |_, context| {
        if context.recipients[0].recipient.address.local() == "wake" {
            return verdict(Verdict::Continue);
        }
        match SCANS.fetch_add(1, Ordering::Relaxed) {
            0 => verdict(Verdict::Defer(Reply::fixed(451, (4, 7, 0), "not now"))),
            1 => fault(),
            _ => verdict(Verdict::Continue),
        }
    });
    let house = with(LATER, scan).await;
    house.send("", &["later@mx.example"], "x\r\n").await;
    for scans in 1..3 {
        house.until("scanned", async |house| SCANS.load(Ordering::Relaxed) == scans && house.active.count() == 0).await;
        let unit = house.unit().await;
        assert_eq!(unit.attempts, 0);
        assert!(unit.recipients[0].last.is_some() && unit.next_at.since(house.clock.now()) >= Duration::from_secs(299));
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
    let sign = bound(OnFault::Defer, &[Hook::OnSend], |event, _| {
        let Event::Send(destination) = event else { return fault() };
        let edit = Edit::AddHeader { name: "X-Signed".into(), value: destination.clone().into() };
        let changes = Changes { edits: vec![edit], ..Changes::default() };
        Ok(Outcome { changes, ..Outcome::of(Answer::Verdict(Verdict::Continue)) })
    });
    let house = with(LATER, sign).await;
    house.send("", &["x@mx.example", "later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let whole = "Subject: s\r\nX-Signed: smtp:mx.example\r\n\r\nx\r\n".to_owned();
    assert_eq!(house.kept(), [(vec!["x@mx.example".to_owned()], whole)]);
    let stored = house.spool.load(house.unit().await.id).await.unwrap();
    assert_eq!(&stored.head[..], b"Subject: s\r\n\r\n");
}

#[tokio::test]
async fn on_send_defers_or_fails_and_a_fault_always_defers() {
    let house = with(
        |_| None,
        bound(OnFault::Defer, &[Hook::OnSend], |_, context| {
            let is_report = context.sender.as_deref() == Some(&ReversePath::Null);
            verdict(if is_report { Verdict::Continue } else { Verdict::Reject(refusal()) })
        }),
    )
    .await;
    house.send("sender@mx.example", &["x@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let kept = house.kept();
    assert_eq!((kept.len(), kept[0].0.as_slice()), (1, &["sender@mx.example".to_owned()][..]));
    assert!(kept[0].1.contains("Status: 5.7.1"), "{}", kept[0].1);

    type Way = fn() -> Result<Outcome, Fault>;
    let defer: Way = || verdict(Verdict::Defer(Reply::fixed(451, (4, 7, 5), "no key")));
    for (on_fault, way, words) in [(OnFault::Defer, defer, "no key"), (OnFault::Skip, fault as Way, "failed at the outgoing")] {
        let house = with(|_| None, bound(on_fault, &[Hook::OnSend], move |_, _| way())).await;
        house.send("", &["x@mx.example"], "x\r\n").await;
        house.settled(1).await;
        let last = house.unit().await.recipients[0].last.clone().unwrap();
        assert!(last.enhanced.class == 4 && last.text.contains(words), "{last:?}");
        assert!(house.kept().is_empty());
    }
}

#[tokio::test]
async fn a_reply_is_taken_as_a_plugin_says() {
    let words: Words = |who| match who {
        "gone" => Some(Reply::fixed(550, (5, 1, 1), "no such user")),
        "later" => Some(Reply::fixed(450, (4, 2, 0), "come back")),
        "odd" => Some(Reply::fixed(551, (5, 1, 6), "moved")),
        _ => None,
    };
    let class = bound(OnFault::Reject, &[Hook::OnReply], |event, _| match event {
        Event::Reply { code: 550, destination, .. } if destination == "smtp:mx.example" => {
            says(Answer::Class(ReplyClass::Temporary))
        }
        Event::Reply { code: 450, .. } => says(Answer::Class(ReplyClass::Permanent)),
        Event::Reply { code: 250, .. } => says(Answer::Class(ReplyClass::Permanent)),
        _ => fault(),
    });
    let house = with(words, class).await;
    house.send("", &["gone@mx.example", "later@mx.example", "odd@mx.example", "x@mx.example", "y@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let waiting = house.unit().await.recipients;
    assert_eq!(waiting.iter().map(|r| r.index).collect::<Vec<_>>(), [0], "what was taken stays taken, a fault is as-is");
    let last = waiting[0].last.as_ref().unwrap();
    assert_eq!((last.code, last.enhanced), (Some(550), EnhancedCode::new(4, 1, 1)));
    let traces = house.kept.traces.lock().unwrap();
    let calls = traces.iter().flat_map(|t| &t.entries).filter(|e| e.step == "on-reply").map(|e| e.calls).sum::<u32>();
    assert_eq!(calls, 4, "once for each different reply");
}

#[tokio::test]
async fn nothing_is_sent_to_a_dead_destination_for_a_while() {
    let dead = bound(OnFault::Defer, &[Hook::OnReply], |event, _| match event {
        Event::Reply { code: 550, .. } => says(Answer::Class(ReplyClass::DestinationDead)),
        _ => says(Answer::Class(ReplyClass::AsIs)),
    });
    let house = with(NOBODY, dead).await;
    house.send("", &["gone@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.settled(2).await;
    assert!(house.kept().is_empty());
    let page = house.spool.list(None, 10).await.unwrap();
    let texts: Vec<String> =
        page.entries.iter().map(|e| e.unit.as_ref().unwrap().recipients[0].last.as_ref().unwrap().text.clone()).collect();
    assert!(
        texts.iter().any(|t| t.contains("destination suspended by a plugin; last reply: 550 5.1.1 no such user")),
        "{texts:?}"
    );
    house.clock.advance(Duration::from_secs(301));
    house.send("", &["y@mx.example"], "x\r\n").await;
    house.until("sent again", async |house| !house.kept().is_empty()).await;
}

#[tokio::test]
async fn a_plugin_plans_the_next_try() {
    let retry = bound(OnFault::Defer, &[Hook::OnRetry], |event, _| {
        let Event::Retry(failure) = event else { return fault() };
        assert_eq!((failure.attempt, failure.status.as_str(), failure.destination.as_str()), (1, "4.2.0", "smtp:mx.example"));
        says(Answer::NextTry(NextTry::After(Duration::from_secs(7))))
    });
    let house = with(LATER, retry).await;
    house.send("", &["later@mx.example", "x@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.next_at, house.clock.now() + Duration::from_secs(7));

    let house = with(LATER, bound(OnFault::Reject, &[Hook::OnRetry], |_, _| fault())).await;
    house.send("", &["later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.next_at, house.clock.now() + Duration::from_secs(300), "a fault is as-planned");

    let give_up = bound(OnFault::Defer, &[Hook::OnRetry], |_, _| says(Answer::NextTry(NextTry::GiveUp)));
    let house = with(LATER, give_up).await;
    house.send("sender@mx.example", &["later@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let kept = house.kept();
    assert_eq!(kept[0].0, ["sender@mx.example"]);
    assert!(kept[0].1.contains("given up; last attempt: 4.2.0"), "{}", kept[0].1);
}

#[tokio::test]
async fn plugins_hear_of_each_outcome_and_what_they_send_is_sent() {
    static HEARD: Mutex<Vec<(String, Fate, String)>> = Mutex::new(Vec::new());
    let hear = bound(OnFault::Hold, &[Hook::OnOutcome], |event, _| {
        let Event::Outcome(outcome) = event else { return fault() };
        let local = outcome.recipient.recipient.address.local().to_owned();
        HEARD.lock().unwrap().push((local.clone(), outcome.fate, outcome.status.clone()));
        match local.as_str() {
            "later" => fault(),
            "gone" => sending(Answer::Done, mail(77, "told@mx.example")),
            _ => says(Answer::Done),
        }
    });
    let words: Words = |who| NOBODY(who).or_else(|| LATER(who));
    let house = with(words, hear).await;
    house.send("", &["x@mx.example", "later@mx.example", "gone@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let heard = HEARD.lock().unwrap().clone();
    let expected = [("x", Fate::Delivered, "2.0.0"), ("later", Fate::Deferred, "4.2.0"), ("gone", Fate::Failed, "5.1.1")];
    assert_eq!(heard, expected.map(|(who, fate, status)| (who.to_owned(), fate, status.to_owned())), "and not of its own mail");
    let to: Vec<String> = house.kept().into_iter().flat_map(|(to, _)| to).collect();
    assert!(to.contains(&"told@mx.example".to_owned()), "{to:?}");
    house.until("told", async |house| house.events().len() == 4).await;
    let mut events = house.events();
    events.sort();
    assert_eq!(events, ["deferred", "delivered", "delivered", "failed"]);
    let events = house.kept.events.lock().unwrap();
    let (_, failed) = events.iter().find(|(name, _)| name == "failed").unwrap();
    let known: serde_json::Value = serde_json::from_str(failed).unwrap();
    let words = ["recipient", "destination", "status", "text"].map(|key| known[key].as_str().unwrap());
    assert_eq!(words, ["gone@mx.example", "smtp:mx.example", "5.1.1", "5.1.1 no such user"]);
    assert_eq!((&known["code"], &known["attempt"], &known["expired"]), (&550.into(), &1.into(), &false.into()));
}

#[tokio::test]
async fn what_expires_is_an_outcome_of_its_own() {
    static HEARD: Mutex<Vec<Fate>> = Mutex::new(Vec::new());
    let hear = bound(OnFault::Defer, &[Hook::OnOutcome, Hook::OnRetry], |event, _| match event {
        Event::Outcome(outcome) => {
            HEARD.lock().unwrap().push(outcome.fate);
            says(Answer::Done)
        }
        _ => panic!("nobody plans for what is given up"),
    });
    let house = with(LATER, hear).await;
    let long_ago = house.clock.now();
    house.clock.advance(Duration::from_secs(6 * 86_400));
    enqueue(&house.spool, long_ago, "", &["later@mx.example"], "x\r\n").await;
    house.settled(0).await;
    assert_eq!(*HEARD.lock().unwrap(), [Fate::Expired]);
}

#[tokio::test]
async fn a_report_is_edited_suppressed_or_goes_as_it_is() {
    let dsn = bound(OnFault::Hold, &[Hook::OnDsn], |event, context| {
        let (Event::Dsn(kind), Some(to)) = (event, context.recipients.first()) else { return fault() };
        assert_eq!(kind, "failure");
        match to.recipient.address.local() {
            "edited" => {
                let edit = Edit::AddHeader { name: "X-Seen".into(), value: "yes".into() };
                let changes = Changes { edits: vec![edit], ..Changes::default() };
                Ok(Outcome { changes, ..Outcome::of(Answer::Report(true)) })
            }
            "quiet" => sending(Answer::Report(false), mail(78, "instead@mx.example")),
            _ => fault(),
        }
    });
    let house = with(NOBODY, dsn).await;
    for sender in ["edited@mx.example", "quiet@mx.example", "plain@mx.example"] {
        house.send(sender, &["gone@mx.example"], "x\r\n").await;
    }
    house.settled(0).await;
    let mut kept = house.kept();
    kept.sort();
    let to: Vec<&str> = kept.iter().map(|(to, _)| to[0].as_str()).collect();
    assert_eq!(to, ["edited@mx.example", "instead@mx.example", "plain@mx.example"]);
    assert!(kept[0].1.contains("\r\nX-Seen: yes\r\n") && kept[0].1.contains("Status: 5.1.1"));
    assert!(!kept[2].1.contains("X-Seen") && kept[2].1.contains("Status: 5.1.1"));
}

#[tokio::test]
async fn what_plugins_send_ends_after_a_few_and_is_not_shown_to_them() {
    let ring = |name: &str| {
        let plugin = Fake(
            [Hook::OnOutcome].into_iter().collect(),
            Box::new(|event, context| {
                let Event::Outcome(outcome) = event else { return fault() };
                let number = context.id.map_or(0, QueueId::as_u64) + 1_000;
                sending(Answer::Done, mail(number, &outcome.recipient.recipient.address.to_string()))
            }),
        );
        Binding::new(name, Arc::new(plugin), BindingSettings::default())
    };
    let bindings = ["p", "q"].map(ring).to_vec();
    let house = house_with(Wishes { bindings, ..USUAL }, |_| None, by_mx).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.until("all sent", async |house| house.kept().len() == 3).await;
    house.settled(0).await;
    assert_eq!(house.kept().len(), 3, "p and q each hear of the other's once, the third has both as authors");

    let many = |authors: &str| Tags::from([(AUTHORS_TAG.to_owned(), authors.to_owned())]);
    let message = new_message(&house.spool, house.clock.now(), "", &["x@mx.example"], "x\r\n");
    house.spool.enqueue(NewMessage { tags: many("a,b,c,d,e"), ..message }).await.unwrap();
    house.until("dropped", async |house| house.traced("dropped: refused: 5 messages led one to the next")).await;
    house.settled(0).await;
    assert_eq!(house.kept().len(), 4);
}

#[tokio::test]
async fn a_transport_plugin_that_fails_defers_or_holds() {
    let plugged = |_: u16| BTreeMap::from([("*".to_owned(), Route::to("plugged"))]);
    let deliver = |on_fault| {
        bound(on_fault, &[Hook::OnDeliver], |event, _| match event {
            Event::Deliver { recipients, .. } if recipients.len() == 2 => {
                let status = Status::local(EnhancedCode::new(2, 0, 0), "taken");
                says(Answer::Dispositions(vec![(0, Disposition::Delivered(status))]))
            }
            _ => fault(),
        })
    };
    let house = house_with(Wishes { bindings: vec![deliver(OnFault::Defer)], ..USUAL }, |_| None, plugged).await;
    house.send("", &["x@mx.example", "y@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.unit().await.recipients.len(), 1);
    let house = house_with(Wishes { bindings: vec![deliver(OnFault::Hold)], ..USUAL }, |_| None, plugged).await;
    house.send("", &["x@mx.example"], "x\r\n").await;
    house.held(1).await;
    house.until("told", async |house| house.events().contains(&"held".to_owned())).await;
}

#[tokio::test]
async fn a_plugin_is_not_called_where_it_is_not_bound() {
    let quiet = bound(OnFault::Reject, &[Hook::OnMessage, Hook::OnTick], |event, _| panic!("called at {}", event.hook()));
    let words: Words = |who| NOBODY(who).or_else(|| LATER(who));
    let house = with(words, quiet).await;
    house.send("s@mx.example", &["x@mx.example", "gone@mx.example", "later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.until("reported", async |house| house.kept().len() == 2).await;
}
