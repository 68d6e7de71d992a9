#![allow(clippy::wildcard_enum_match_arm, reason = "a script answers some events")]

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context as TaskContext, Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use waxwing_message::HeaderBlock;
use waxwing_types::{
    Disposition, Edit, EnhancedCode, ManualClock, MemoryBody, NextHop, Recipient, Reply, ReversePath, Source, Status,
};

use super::*;
use waxwing_types::Timestamp;

use crate::{
    AddressRole, BindingConditions, BindingSettings, CallOutcome, FaultPolicy, Hook, HookSet, Plugin, PluginSession,
    StagedChanges, TraceEntry,
};

type Script = Box<dyn Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync>;

/// A plugin in native code that answers by a script and remembers what it was asked.
struct Fake {
    exports: HookSet,
    script: Script,
    asked: Mutex<Vec<String>>,
}

struct FakeGuest(Arc<Fake>);

impl Plugin for Fake {
    fn version(&self) -> &str {
        "1"
    }
    fn exports(&self) -> HookSet {
        self.exports
    }
    fn open_session(self: Arc<Self>) -> Box<dyn PluginSession> {
        Box::new(FakeGuest(self))
    }
}

#[async_trait]
impl PluginSession for FakeGuest {
    async fn call(&mut self, event: &Event, context: &Context) -> Result<CallOutcome, Fault> {
        self.0.asked.lock().unwrap().push(event.subject());
        (self.0.script)(event, context)
    }
}

struct AllRemote;

impl AddressClassifier for AllRemote {
    fn class_of(&self, _: &Address) -> AddressClass {
        AddressClass::Remote
    }
}

fn fake(hooks: &[Hook], script: impl Fn(&Event, &Context) -> Result<CallOutcome, Fault> + Send + Sync + 'static) -> Arc<Fake> {
    Arc::new(Fake { exports: hooks.iter().copied().collect(), script: Box::new(script), asked: Mutex::default() })
}

fn says(verdict: Verdict) -> Result<CallOutcome, Fault> {
    Ok(CallOutcome::from_answer(HookAnswer::Verdict(verdict)))
}

fn edits(edits: Vec<Edit>) -> Result<CallOutcome, Fault> {
    let changes = StagedChanges { edits, ..StagedChanges::default() };
    Ok(CallOutcome { answer: HookAnswer::Verdict(Verdict::Next), changes, log: Vec::new() })
}

fn pipeline(plugins: &[(&Arc<Fake>, BindingMode, FaultPolicy)]) -> Pipeline {
    let bind = |(i, (plugin, mode, on_fault)): (usize, &(&Arc<Fake>, BindingMode, FaultPolicy))| {
        Binding::new(
            &format!("p{i}"),
            Arc::clone(*plugin) as Arc<dyn Plugin>,
            BindingSettings { mode: *mode, on_fault: *on_fault, ..BindingSettings::default() },
        )
    };
    Pipeline::new(plugins.iter().enumerate().map(bind).collect(), Arc::new(AllRemote), Arc::new(ManualClock::default()))
}

fn context() -> Context {
    let mut c = Context::new(Source::Smtp, None);
    c.sender = Some(Arc::new(ReversePath::Null));
    c.push_recipient(Recipient::new(address("a@x.example")), AddressClass::Remote, Vec::new());
    c.header = Some(Arc::new(HeaderBlock::parse(Bytes::from_static(b"Subject: s\r\n"), true)));
    c.body = Some(Arc::new(MemoryBody::new(Bytes::from_static(b"body\r\n"))));
    c
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Fakes never wait, so one poll is enough.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited"),
    }
}

fn refusal() -> Verdict {
    Verdict::Reject(Reply::fixed(550, (5, 7, 1), "no"))
}

#[test]
fn the_first_decisive_verdict_ends_the_chain() {
    let first = fake(&[Hook::OnMessage], |_, _| says(Verdict::Next));
    let second = fake(&[Hook::OnMessage], |_, _| says(refusal()));
    let third = fake(&[Hook::OnMessage], |_, _| says(Verdict::Accept));
    let p = pipeline(&[
        (&first, BindingMode::Enforce, FaultPolicy::Defer),
        (&second, BindingMode::Enforce, FaultPolicy::Defer),
        (&third, BindingMode::Enforce, FaultPolicy::Defer),
    ]);
    let mut chain = p.open_session();
    assert_eq!(now(p.verdict(&mut chain, &mut context(), Event::Message)), refusal());
    assert_eq!(third.asked.lock().unwrap().len(), 0);
    assert_eq!(chain.trace.iter().map(|e| &*e.result).collect::<Vec<_>>(), ["next", "reject 550 5.7.1 no"]);
}

#[test]
fn a_later_plugin_sees_what_the_earlier_left() {
    let first = fake(&[Hook::OnMessage], |_, _| {
        edits(vec![
            Edit::AddHeader { name: "X".into(), value: "1".into() },
            Edit::ChangeRecipient { index: 0, to: address("b@y.example") },
            Edit::ReplaceBody(Bytes::from_static(b"new\r\n")),
        ])
    });
    let second = fake(&[Hook::OnMessage], |_, c| {
        assert_eq!(c.header.as_ref().unwrap().first("X").unwrap().value(), b"1");
        assert_eq!(c.recipients[0].recipient.address.to_string(), "b@y.example");
        assert_eq!(c.body.as_ref().unwrap().size(), 5);
        says(Verdict::Next)
    });
    let p = pipeline(&[(&first, BindingMode::Enforce, FaultPolicy::Defer), (&second, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mut c = context();
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut c, Event::Message)), Verdict::Next);
    assert_eq!(second.asked.lock().unwrap().len(), 1);
    assert!(c.replaced_body.is_some());
}

#[test]
fn a_fault_has_the_configured_consequence_and_changes_nothing() {
    let broken = fake(&[Hook::OnMessage], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
    for (on_fault, expected) in [
        (FaultPolicy::Defer, "defer"),
        (FaultPolicy::Skip, "next"),
        (FaultPolicy::Reject, "reject"),
        (FaultPolicy::Hold, "accept"),
    ] {
        let p = pipeline(&[(&broken, BindingMode::Enforce, on_fault)]);
        let mut c = context();
        let mut chain = p.open_session();
        assert_eq!(now(p.verdict(&mut chain, &mut c, Event::Message)).as_str(), expected);
        assert_eq!(c.hold.is_some(), on_fault == FaultPolicy::Hold);
        assert_eq!(chain.trace[0].fault.as_deref(), Some("trap: boom"));
        assert_eq!((p.status()[0].hooks[0].calls, p.status()[0].hooks[0].faults), (1, 1));
    }
}

#[test]
fn an_exhausted_pool_defers_whatever_is_configured() {
    let busy = fake(&[Hook::OnMessage], |_, _| Err(Fault::new(FaultKind::PoolExhausted, "all taken")));
    let p = pipeline(&[(&busy, BindingMode::Enforce, FaultPolicy::Skip)]);
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut context(), Event::Message)).as_str(), "defer");
}

#[test]
fn an_edit_that_cannot_be_applied_is_a_fault() {
    let bad = fake(&[Hook::OnMessage], |_, _| {
        edits(vec![Edit::AddHeader { name: "Good".into(), value: "1".into() }, Edit::RemoveRecipient { index: 9 }])
    });
    let p = pipeline(&[(&bad, BindingMode::Enforce, FaultPolicy::Reject)]);
    let mut c = context();
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut c, Event::Message)).as_str(), "reject");
    assert!(c.header.as_ref().unwrap().first("Good").is_none());
}

#[test]
fn a_shadow_is_asked_and_has_no_effect() {
    let shadow = fake(&[Hook::OnMessage], |_, _| says(refusal()));
    let p = pipeline(&[(&shadow, BindingMode::Shadow, FaultPolicy::Defer)]);
    let mut chain = p.open_session();
    assert_eq!(now(p.verdict(&mut chain, &mut context(), Event::Message)), Verdict::Next);
    assert!(chain.trace[0].shadow && chain.trace[0].result.starts_with("reject"));
}

#[test]
fn rewriting_is_a_cascade_and_quiet_calls_share_an_entry() {
    let upper = fake(&[Hook::OnRewriteAddress], |e, _| {
        let Event::RewriteAddress(a, _) = e else { panic!("asked {e:?}") };
        Ok(CallOutcome::from_answer(HookAnswer::Rewritten(a.has_no_domain().then(|| a.with_domain("host.example").unwrap()))))
    });
    let p = pipeline(&[(&upper, BindingMode::Enforce, FaultPolicy::Defer), (&upper, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mut chain = p.open_session();
    let mut c = context();
    let out = now(p.rewrite(&mut chain, &mut c, address("root"), AddressRole::EnvelopeRecipient)).unwrap();
    assert_eq!(out.to_string(), "root@host.example");
    for _ in 0..3 {
        now(p.rewrite(&mut chain, &mut c, address("a@b.example"), AddressRole::HeaderSender)).unwrap();
    }
    assert_eq!(upper.asked.lock().unwrap().len(), 8);
    let entries: Vec<_> = chain.trace.iter().map(|e| (&*e.actor, &*e.result, e.calls)).collect();
    assert_eq!(entries, [("p0", "rewritten root@host.example", 1), ("p1", "unchanged", 4), ("p0", "unchanged", 3)]);
}

#[test]
fn who_only_completes_addresses_is_not_asked_about_whole_ones() {
    let upper = fake(&[Hook::OnRewriteAddress, Hook::OnMessage], |e, _| match e {
        Event::RewriteAddress(a, _) => {
            Ok(CallOutcome::from_answer(HookAnswer::Rewritten(Some(a.with_domain("host.example").unwrap()))))
        }
        _ => says(Verdict::Next),
    });
    let when = BindingConditions { bare_addresses: true, ..BindingConditions::default() };
    let settings = BindingSettings { when, ..BindingSettings::default() };
    let binding = Binding::new("p0", Arc::clone(&upper) as Arc<dyn Plugin>, settings);
    let p = Pipeline::new(vec![binding], Arc::new(AllRemote), Arc::new(ManualClock::default()));
    let (mut chain, mut c) = (p.open_session(), context());
    for (given, made) in [("root", "root@host.example"), ("a@b.example", "a@b.example")] {
        let out = now(p.rewrite(&mut chain, &mut c, address(given), AddressRole::EnvelopeSender)).unwrap();
        assert_eq!(out.to_string(), made);
    }
    now(p.verdict(&mut chain, &mut c, Event::Message));
    assert_eq!(upper.asked.lock().unwrap().len(), 2, "about the bare one, and about the message");
}

#[test]
fn a_missing_disposition_is_deferred() {
    let transport = fake(&[Hook::OnDeliver], |_, _| {
        let status = Status::local(EnhancedCode::new(2, 0, 0), "ok");
        Ok(CallOutcome::from_answer(HookAnswer::Dispositions(vec![(0, Disposition::Delivered(status))])))
    });
    let p = pipeline(&[(&transport, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mut c = context();
    c.push_recipient(Recipient::new(address("b@x.example")), AddressClass::Remote, Vec::new());
    let recipients = c.recipients.to_vec();
    let hop = NextHop { transport: "p0".into(), host: String::new(), port: None };
    let out = now(p.deliver("p0", &mut p.open_session(), &mut c, hop, recipients));
    assert!(matches!(out[0], (0, Disposition::Delivered(_))));
    assert!(matches!(out[1], (1, Disposition::Deferred { .. })));
}

#[test]
fn a_refusal_can_be_softened_but_not_hardened() {
    let strict = fake(&[Hook::OnMail], |_, _| says(refusal()));
    let after = fake(&[Hook::OnMail], |_, _| says(Verdict::Next));
    let later = Verdict::Defer(Reply::fixed(451, (4, 7, 1), "later"));
    let end = Verdict::Disconnect(Reply::fixed(554, (5, 7, 1), "go"));
    for (softer, expected, goes_on) in
        [(Verdict::Next, refusal(), 0), (Verdict::Accept, Verdict::Next, 1), (later.clone(), later, 0), (end, refusal(), 0)]
    {
        let mild = fake(&[Hook::OnRefuse], move |_, _| says(softer.clone()));
        after.asked.lock().unwrap().clear();
        let p = pipeline(&[
            (&strict, BindingMode::Enforce, FaultPolicy::Defer),
            (&mild, BindingMode::Enforce, FaultPolicy::Defer),
            (&after, BindingMode::Enforce, FaultPolicy::Defer),
        ]);
        let verdict = now(p.verdict(&mut p.open_session(), &mut context(), Event::Mail(ReversePath::Null)));
        assert_eq!(verdict, expected);
        assert_eq!(*mild.asked.lock().unwrap(), ["p0: 550 5.7.1 no"]);
        assert_eq!(after.asked.lock().unwrap().len(), goes_on, "what was let through goes on to the next");
    }
}

#[test]
fn a_refused_session_is_not_discarded() {
    let strict = fake(&[Hook::OnConnect, Hook::OnMail], |_, _| says(refusal()));
    let discard = Verdict::Discard { reason: "quietly".to_owned() };
    let said = discard.clone();
    let mild = fake(&[Hook::OnRefuse], move |_, _| says(said.clone()));
    let p = pipeline(&[(&strict, BindingMode::Enforce, FaultPolicy::Defer), (&mild, BindingMode::Enforce, FaultPolicy::Defer)]);
    assert_eq!(
        now(p.verdict(&mut p.open_session(), &mut context(), Event::Connect)),
        refusal(),
        "there is nothing to discard yet"
    );
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut context(), Event::Mail(ReversePath::Null))), discard);
}

#[test]
fn the_refusal_of_a_fault_is_not_put_to_others() {
    let broken = fake(&[Hook::OnMail], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
    let mild = fake(&[Hook::OnRefuse], |_, _| says(Verdict::Accept));
    let p = pipeline(&[(&broken, BindingMode::Enforce, FaultPolicy::Reject), (&mild, BindingMode::Enforce, FaultPolicy::Defer)]);
    let verdict = now(p.verdict(&mut p.open_session(), &mut context(), Event::Mail(ReversePath::Null)));
    assert!(matches!(verdict, Verdict::Reject(_)));
    assert!(mild.asked.lock().unwrap().is_empty());
}

#[test]
fn symbols_of_all_plugins_come_together() {
    let symbol = |name: &str| crate::Symbol { name: name.to_owned(), score: 1.0, detail: None };
    let one = fake(&[Hook::OnScore], move |_, _| Ok(CallOutcome::from_answer(HookAnswer::Symbols(vec![symbol("A")]))));
    let broken = fake(&[Hook::OnScore], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
    let two = fake(&[Hook::OnScore], move |_, _| Ok(CallOutcome::from_answer(HookAnswer::Symbols(vec![symbol("B")]))));
    let with = |on_fault| {
        pipeline(&[
            (&one, BindingMode::Enforce, FaultPolicy::Defer),
            (&broken, BindingMode::Enforce, on_fault),
            (&two, BindingMode::Enforce, FaultPolicy::Defer),
        ])
    };
    let p = with(FaultPolicy::Skip);
    let names: Vec<String> = now(p.score(&mut p.open_session(), &mut context())).unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["A", "B"]);
    let p = with(FaultPolicy::Defer);
    assert!(matches!(now(p.score(&mut p.open_session(), &mut context())), Err(Rejected(Verdict::Defer(_)))));
}

#[test]
fn what_has_begun_keeps_its_plugins() {
    let old = fake(&[Hook::OnMessage], |_, _| says(refusal()));
    let new = fake(&[Hook::OnMessage], |_, _| says(Verdict::Accept));
    let p = pipeline(&[(&old, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mut begun = p.open_session();
    p.replace(pipeline(&[(&new, BindingMode::Enforce, FaultPolicy::Defer)]).bindings());
    assert_eq!(now(p.verdict(&mut begun, &mut context(), Event::Message)), refusal());
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut context(), Event::Message)), Verdict::Accept);
}

#[test]
fn what_goes_well_at_one_hook_does_not_excuse_another() {
    let broken = fake(&[Hook::OnMail, Hook::OnMessage], |event, _| match event {
        Event::Mail(_) => says(Verdict::Next),
        _other => Err(Fault::new(FaultKind::Trap, "unreachable")),
    });
    let p = pipeline(&[(&broken, BindingMode::Enforce, FaultPolicy::Defer)]);
    for _ in 0..crate::BreakerSettings::default().faults + 5 {
        let (mut chain, mut c) = (p.open_session(), context());
        assert_eq!(now(p.verdict(&mut chain, &mut c, Event::Mail(ReversePath::Null))), Verdict::Next);
        assert!(matches!(now(p.verdict(&mut chain, &mut c, Event::Message)), Verdict::Defer(_)));
    }
    let status = p.status().remove(0);
    assert_eq!(status.breaker, crate::BreakerState::Open);
    assert_eq!(status.hooks.iter().map(|h| h.calls).collect::<Vec<_>>(), [15, 10]);
}

#[test]
fn a_plugin_is_not_called_for_what_it_sent() {
    let author = fake(&[Hook::OnMessage], |_, _| says(refusal()));
    let p = pipeline(&[(&author, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mut c = context();
    Arc::make_mut(&mut c.tags).insert(crate::SUBMITTED_BY_TAG.to_owned(), "other,p0".to_owned());
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut c, Event::Message)), Verdict::Next);
    Arc::make_mut(&mut c.tags).insert(crate::SUBMITTED_BY_TAG.to_owned(), "other,p00".to_owned());
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut c, Event::Message)), refusal());
}

#[test]
fn a_plugin_that_keeps_failing_is_left_alone_and_never_passed_over() {
    let broken = fake(&[Hook::OnMail], |_, _| Err(Fault::new(FaultKind::Trap, "unreachable")));
    let settings = BindingSettings {
        breaker: crate::BreakerSettings { faults: 2, time: std::time::Duration::from_secs(30) },
        ..BindingSettings::default()
    };
    let binding = Binding::new("p0", Arc::clone(&broken) as Arc<dyn Plugin>, settings);
    let clock = Arc::new(ManualClock::default());
    let pipeline = Pipeline::new(vec![binding], Arc::new(AllRemote), Arc::clone(&clock) as Arc<dyn Clock>);
    let ask = || {
        let (mut chain, mut context) = (pipeline.open_session(), context());
        let step = now(pipeline.call_plugin(0, &mut chain, &mut context, &Event::Mail(ReversePath::Null)));
        assert!(matches!(step, Some(CallResult::Faulted(Verdict::Defer(_)))), "every fault defers");
        chain.trace.pop().and_then(|entry| entry.fault).unwrap()
    };
    assert!(ask().starts_with("trap") && ask().starts_with("trap"));
    assert!(ask().starts_with("breaker-open"));
    assert_eq!(broken.asked.lock().unwrap().len(), 2, "it was not called");
    assert_eq!(pipeline.status()[0].breaker, crate::BreakerState::Open);
    assert_eq!(pipeline.status()[0].hooks[0].calls, 2);
    clock.advance(std::time::Duration::from_secs(30));
    assert!(ask().starts_with("trap"), "one call tries it");
    assert!(ask().starts_with("breaker-open"));
}

/// A hundred transactions at one hook, each with an id of its own.
fn transactions(p: &Pipeline) -> Vec<Vec<TraceEntry>> {
    let ids = waxwing_types::QueueIdGenerator::default();
    let one = |_| {
        let (mut chain, mut c) = (p.open_session(), context());
        c.id = Some(ids.next(waxwing_types::Timestamp::from_millis(1_800_000_000_000)));
        now(p.verdict(&mut chain, &mut c, Event::Mail(ReversePath::Null)));
        now(p.verdict(&mut chain, &mut c, Event::Message));
        chain.trace
    };
    (0..100).map(one).collect()
}

#[test]
fn a_canary_has_its_share_and_each_transaction_one_version() {
    let stable = fake(&[Hook::OnMail, Hook::OnMessage], |_, _| says(Verdict::Next));
    let fresh = fake(&[Hook::OnMail, Hook::OnMessage], |_, _| says(Verdict::Next));
    for (percent, share) in [(0, 0..=0), (20, 8..=35), (100, 100..=100)] {
        let binding = Binding::new("p0", Arc::clone(&stable) as _, BindingSettings::default());
        let canary = crate::Canary { binding: binding.as_canary(Arc::clone(&fresh) as _, 2, Timestamp::default()), percent };
        let p = pipeline(&[]);
        p.replace(vec![binding.with_canary(Some(canary))]);
        let traces = transactions(&p);
        for trace in &traces {
            assert_eq!(trace.len(), 2);
            assert_eq!(trace[0].version, trace[1].version, "one version serves all of a transaction");
        }
        let by_canary = traces.iter().filter(|trace| &*trace[0].version == "v2:1").count();
        assert!(share.contains(&by_canary), "{by_canary} of 100 at {percent} %");
        let status = p.status();
        let calls: Vec<u64> = status.iter().map(|version| version.hooks[0].calls).collect();
        assert_eq!(calls, [100 - by_canary as u64, by_canary as u64], "each counts for itself");
        assert_eq!((status[0].canary, status[1].canary), (None, Some(percent)));
    }
}

#[test]
fn the_next_version_goes_on_counting_with_breakers_of_its_own() {
    let broken = fake(&[Hook::OnMail], |_, _| Err(Fault::new(FaultKind::Trap, "unreachable")));
    let good = fake(&[Hook::OnMail], |_, _| says(Verdict::Next));
    let p = pipeline(&[(&broken, BindingMode::Enforce, FaultPolicy::Defer)]);
    let mail = |p: &Pipeline| {
        let mut chain = p.open_session();
        now(p.verdict(&mut chain, &mut context(), Event::Mail(ReversePath::Null)));
        chain.trace.remove(0).version
    };
    for _ in 0..crate::BreakerSettings::default().faults {
        assert_eq!(&*mail(&p), "v1:1");
    }
    assert_eq!(p.status()[0].breaker, crate::BreakerState::Open);
    let next = p.bindings()[0].replaced_by(Arc::clone(&good) as _, 2, Timestamp::from_millis(7));
    p.replace(vec![next]);
    assert_eq!(&*mail(&p), "v2:1");
    let status = p.status().remove(0);
    assert_eq!((status.version.as_str(), status.loaded_at), ("v2:1", Timestamp::from_millis(7)));
    assert_eq!(status.breaker, crate::BreakerState::Closed);
    assert_eq!((status.hooks[0].calls, status.hooks[0].faults), (11, 10));
}

#[test]
fn a_shadow_is_compared_with_what_the_chain_decided() {
    let shadow = fake(&[Hook::OnMessage], |_, _| says(refusal()));
    for (decided, agreed, differed) in [
        (refusal(), 1, 0),
        (Verdict::Reject(Reply::fixed(554, (5, 3, 0), "in other words")), 1, 0),
        (Verdict::Next, 0, 1),
        (Verdict::Accept, 0, 1),
        (Verdict::Defer(Reply::fixed(451, (4, 7, 1), "later")), 0, 1),
    ] {
        let said = decided.clone();
        let plugin = fake(&[Hook::OnMessage], move |_, _| says(said.clone()));
        // The shadow stands behind a plugin that ends the chain, and is asked all the same.
        let p =
            pipeline(&[(&plugin, BindingMode::Enforce, FaultPolicy::Defer), (&shadow, BindingMode::Shadow, FaultPolicy::Defer)]);
        let mut chain = p.open_session();
        assert_eq!(now(p.verdict(&mut chain, &mut context(), Event::Message)), decided);
        let count = &p.status()[1].hooks[0];
        assert_eq!((count.calls, count.agreed, count.differed), (1, agreed, differed), "{decided:?}");
        let words: Vec<_> = chain.trace.iter().filter(|e| e.result.starts_with("differs: ")).collect();
        assert_eq!(words.len(), differed as usize);
        assert!(words.iter().all(|e| e.shadow && &*e.actor == "p1" && &*e.version == "v1:1"), "{words:?}");
    }
}

#[test]
fn shadows_of_other_hooks_are_compared_too() {
    let upper = fake(&[Hook::OnRewriteAddress], |e, _| {
        let Event::RewriteAddress(a, _) = e else { panic!("asked {e:?}") };
        Ok(CallOutcome::from_answer(HookAnswer::Rewritten(a.has_no_domain().then(|| a.with_domain("host.example").unwrap()))))
    });
    let idle = fake(&[Hook::OnRewriteAddress], |_, _| Ok(CallOutcome::from_answer(HookAnswer::Rewritten(None))));
    let p = pipeline(&[
        (&idle, BindingMode::Shadow, FaultPolicy::Defer),
        (&upper, BindingMode::Enforce, FaultPolicy::Defer),
        (&idle, BindingMode::Shadow, FaultPolicy::Defer),
    ]);
    let mut chain = p.open_session();
    now(p.rewrite(&mut chain, &mut context(), address("root"), AddressRole::EnvelopeRecipient)).unwrap();
    let counts = |at: usize| (p.status()[at].hooks[0].agreed, p.status()[at].hooks[0].differed);
    assert_eq!((counts(0), counts(2)), ((0, 1), (1, 0)), "the first would have left it bare");
    assert!(chain.trace[3].result.starts_with("differs: rewritten root; the chain: rewritten root@"), "{:?}", chain.trace[3]);
}

#[test]
fn a_fault_of_a_shadow_is_no_difference() {
    let broken = fake(&[Hook::OnMessage], |_, _| Err(Fault::new(FaultKind::Trap, "boom")));
    let p = pipeline(&[(&broken, BindingMode::Shadow, FaultPolicy::Reject)]);
    assert_eq!(now(p.verdict(&mut p.open_session(), &mut context(), Event::Message)), Verdict::Next);
    let count = &p.status()[0].hooks[0];
    assert_eq!((count.faults, count.agreed, count.differed), (1, 0, 0));
}
