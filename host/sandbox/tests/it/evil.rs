//! Plugins that misbehave: each is stopped within its limit, by the right fault, and leaves nothing behind.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{call, evil, load, message, open, reused, session};
use waxwing_pipeline::{Event, FaultKind, HookAnswer, Plugin as _, Resolution, SessionClient};
use waxwing_sandbox::WasmPlugin;
use waxwing_types::{Address, Edit, ReversePath, Verdict};

/// The fault of this misdeed at on-message, with the plugin's other calls unharmed before and after.
async fn fault_of(plugin: &Arc<WasmPlugin>) -> waxwing_pipeline::Fault {
    let fault = call(plugin, Event::Message, &message()).await.unwrap_err();
    let after = call(plugin, Event::Helo("x".into()), &session()).await.unwrap();
    assert_eq!(after.answer, HookAnswer::Verdict(Verdict::Next), "after {fault}");
    assert_eq!(after.log, ["call 1 of this instance"], "the faulty instance was used again");
    fault
}

#[tokio::test]
async fn each_misdeed_ends_in_its_fault() {
    for (act, kind, text) in [
        ("loop", FaultKind::CpuLimit, "computed for more than 50 ms"),
        ("panic", FaultKind::Trap, "unreachable"),
        ("recurse", FaultKind::Trap, "wasm trap"),
        ("memory", FaultKind::MemoryLimit, "asked for more than 16777216 bytes of memory"),
        ("reject-250", FaultKind::BadAnswer, "a reject has the reply code 250"),
        ("defer-550", FaultKind::BadAnswer, "a defer has the reply code 550"),
        ("mismatch", FaultKind::BadAnswer, "do not agree"),
        ("crlf-reply", FaultKind::BadAnswer, "line end or NUL"),
        ("long-reply", FaultKind::BadAnswer, "longer than 2048"),
        ("bad-tag", FaultKind::BadAnswer, "\"a b\" is no tag"),
    ] {
        for settings in [evil(act), reused(evil(act), 1000)] {
            let plugin = load(settings).await;
            let fault = fault_of(&plugin).await;
            assert_eq!(fault.kind, kind, "{act}: {fault}");
            assert!(fault.text.contains(text), "{act}: {fault}");
        }
    }
}

#[tokio::test]
async fn a_panic_leaves_its_words() {
    let plugin = load(evil("panic")).await;
    let fault = fault_of(&plugin).await;
    assert!(fault.log.iter().any(|l| l.contains("I was asked to") && l.contains("lib.rs")), "{:?}", fault.log);
}

#[tokio::test]
async fn wall_time_ends_what_cpu_time_does_not() {
    let mut settings = evil("loop");
    settings.limits.wall = Duration::from_millis(20);
    settings.limits.cpu = Duration::from_secs(60);
    let fault = fault_of(&load(settings).await).await;
    assert_eq!((fault.kind, &*fault.text), (FaultKind::TimeLimit, "took longer than 20 ms"));
    assert_eq!(fault.log, ["round and round"], "what it said before is kept");
}

/// The thread of the test is that of all sessions. A guest that loops must leave it after its first tick: had it stayed, its
/// neighbours would have had no turn at all, or one for each tick.
#[tokio::test]
async fn a_loop_leaves_the_thread_of_its_neighbours() {
    let (looping, good) = (load(evil("loop")).await, load(evil("good")).await);
    let spawn = tokio::runtime::Handle::current();
    let evil = spawn.spawn(async move { call(&looping, Event::Message, &message()).await });
    let mut calls = 0;
    while !evil.is_finished() {
        call(&good, Event::Helo("x".into()), &session()).await.unwrap();
        calls += 1;
        tokio::task::yield_now().await;
    }
    assert!(calls > 50, "{calls} turns in 50 ticks");
    assert_eq!(evil.await.unwrap().unwrap_err().kind, FaultKind::CpuLimit);
}

#[tokio::test]
async fn a_cancelled_call_leaves_no_instance() {
    let mut settings = reused(evil("loop"), 1000);
    settings.limits.cpu = Duration::from_secs(60);
    let plugin = load(settings).await;
    let before = plugin.instances();
    let cut = tokio::time::timeout(Duration::from_millis(5), call(&plugin, Event::Message, &message())).await;
    assert!(cut.is_err());
    // The instance on the list was taken, and dies with the call; on the thread where it computes that takes a moment.
    while plugin.instances() == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(plugin.instances(), before - 1);
    assert_eq!(call(&plugin, Event::Helo("x".into()), &session()).await.unwrap().log, ["call 1 of this instance"]);
}

#[tokio::test]
async fn too_much_is_refused_without_a_fault() {
    let outcome = call(&load(evil("log-flood")).await, Event::Message, &message()).await.unwrap();
    assert_eq!(outcome.log.len(), 51);
    assert!(outcome.log.iter().all(|l| l.len() <= 1024));
    assert_eq!(outcome.log.last().unwrap(), "(more than 50 lines; the rest is dropped)");

    let outcome = call(&load(evil("many-edits")).await, Event::Message, &message()).await.unwrap();
    assert_eq!(outcome.changes.edits.len(), 1000);
    assert!(outcome.log[0].contains("TooLarge"), "{:?}", outcome.log);

    let mut settings = evil("big-body");
    settings.limits.body_bytes_max = 3 << 20;
    let outcome = call(&load(settings).await, Event::Message, &message()).await.unwrap();
    assert!(outcome.log[0].contains("TooLarge(3145728)"), "{:?}", outcome.log);
}

#[tokio::test]
async fn what_would_break_the_message_is_malformed() {
    let outcome = call(&load(evil("crlf-header")).await, Event::Message, &message()).await.unwrap();
    assert!(outcome.log[0].contains("Malformed"), "{:?}", outcome.log);
    assert_eq!(outcome.changes.edits.len(), 1, "only the field before it");

    let outcome = call(&load(evil("early-edit")).await, Event::Mail(ReversePath::Null), &session()).await.unwrap();
    assert!(outcome.log[0].contains("NotHere") && outcome.log[0].contains("on-mail"), "{:?}", outcome.log);
    assert!(outcome.changes.edits.is_empty());

    let event = Event::RewriteAddress(Address::parse("a@b").unwrap(), waxwing_pipeline::AddressRole::EnvelopeSender);
    let fault = call(&load(evil("bad-address")).await, event.clone(), &message()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::BadAnswer);
    let outcome = call(&load(evil("")).await, event, &message()).await.unwrap();
    assert_eq!(outcome.answer, HookAnswer::Rewritten(Some(Address::parse("A@b").unwrap())));
}

#[tokio::test]
async fn a_verdict_out_of_place_is_a_fault() {
    let plugin = load(evil("discard")).await;
    let fault = call(&plugin, Event::Connect, &session()).await.unwrap_err();
    assert_eq!((fault.kind, &*fault.text), (FaultKind::BadAnswer, "the verdict discard is not possible at on-connect"));
    let outcome = call(&plugin, Event::Cleanup, &message()).await.unwrap();
    assert_eq!(outcome.answer, HookAnswer::Verdict(Verdict::Discard { reason: "gone".into() }));
}

#[tokio::test]
async fn good_work_is_handed_over_whole() {
    let outcome = call(&load(evil("good")).await, Event::Message, &message()).await.unwrap();
    let head = message().header.unwrap().to_bytes(false).len();
    assert_eq!(outcome.log[0], format!("{0} of {0} octets, 2 fields", head + 10));
    assert_eq!(outcome.log[1], "1 text/plain body Err(ReadError::NoSuchPart)");
    assert!(outcome.changes.skip_rest);
    assert_eq!(
        outcome.changes.edits,
        [
            Edit::AddHeader { name: "X-Evil".into(), value: "was here".into() },
            Edit::InsertHeader { at: 0, name: "X-Subject".into(), value: "hello world".into() },
            Edit::ReplaceHeader { name: "Subject".into(), nth: 0, value: "changed".into() },
            Edit::ReplaceBody("one\r\ntwo\r\nthree".into()),
        ]
    );
}

#[tokio::test]
async fn tables_answer_by_grant() {
    let plugin = load(evil("")).await;
    let event = Event::Resolve { recipient: Address::parse("root").unwrap(), verify: true };
    let outcome = call(&plugin, event, &message()).await.unwrap();
    assert_eq!(outcome.answer, HookAnswer::Resolution(Resolution::Targets(Default::default())));
    assert_eq!(outcome.log[..2], ["(host) lookup.get: unavailable", "(host) lookup.get: not-granted"]);
    let line = &outcome.log[2];
    assert!(line.contains("Ok(Some(\"value\"))") && line.contains("disk on fire") && line.contains("NotGranted"), "{line}");
    // Without `verify` a recipient that stands for nobody would lose mail.
    let event = Event::Resolve { recipient: Address::parse("root").unwrap(), verify: false };
    assert_eq!(call(&plugin, event, &message()).await.unwrap_err().kind, FaultKind::BadAnswer);
}

#[tokio::test]
async fn dispositions_agree_with_their_status() {
    let hop = waxwing_types::NextHop { transport: "evil".into(), host: String::new(), port: None };
    let event = Event::Deliver { hop, recipients: message().recipients.to_vec() };
    let outcome = call(&load(evil("")).await, event.clone(), &message()).await.unwrap();
    let HookAnswer::Dispositions(list) = outcome.answer else { panic!("{outcome:?}") };
    assert_eq!((list.len(), list[0].0, list[0].1.status().enhanced.class), (1, 0, 2));
    let fault = call(&load(evil("mismatch")).await, event, &message()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::BadAnswer);
}

#[tokio::test]
async fn an_instance_serves_its_own_transaction_only() {
    let plugin = load(evil("")).await;
    let (mut one, mut other) = (open(&plugin), open(&plugin));
    let helo = Event::Helo("x".into());
    for expected in ["call 1 of this instance", "call 2 of this instance"] {
        assert_eq!(one.call(&helo, &session()).await.unwrap().log, [expected]);
    }
    assert_eq!(other.call(&helo, &session()).await.unwrap().log, ["call 1 of this instance"]);
    assert_eq!(plugin.instances(), 2);
    drop((one, other));
    assert_eq!(plugin.instances(), 0);
}

#[tokio::test]
async fn a_reused_instance_is_recycled() {
    let plugin = load(reused(evil(""), 3)).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.extend(call(&plugin, Event::Helo("x".into()), &session()).await.unwrap().log);
    }
    let numbers: Vec<&str> = seen.iter().map(|l| l.split(' ').nth(1).unwrap()).collect();
    assert_eq!(numbers, ["1", "2", "3", "1", "2", "3", "1"]);
    assert_eq!(plugin.instances(), 1);
}

#[tokio::test]
async fn the_pool_has_an_end() {
    let mut settings = evil("");
    settings.name = "small".into();
    settings.limits.instances_max = 2;
    settings.limits.instance_wait = Duration::from_millis(20);
    let plugin = load(settings).await;
    let mut guests: Vec<_> = (0..3).map(|_| open(&plugin)).collect();
    let helo = Event::Helo("x".into());
    assert!(guests[0].call(&helo, &session()).await.is_ok());
    assert!(guests[1].call(&helo, &session()).await.is_ok());
    assert_eq!(guests[2].call(&helo, &session()).await.unwrap_err().kind, FaultKind::PoolExhausted);
    guests.swap_remove(0);
    assert!(guests[0].call(&helo, &session()).await.is_ok(), "the place of the first is free again");
}

#[tokio::test]
async fn a_client_has_a_share_and_waits_for_more() {
    let mut settings = evil("");
    settings.name = "shared".into();
    settings.limits.instances_per_client = 1;
    settings.limits.instance_wait = Duration::from_millis(50);
    let plugin = load(settings.clone()).await;
    let helo = Event::Helo("x".into());
    let mut held = open(&plugin);
    held.call(&helo, &session()).await.unwrap();
    let fault = call(&plugin, helo.clone(), &session()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::PoolExhausted);
    assert!(fault.text.contains("serve this client already"), "{fault}");
    // Another version of the plugin has no places of its own.
    let next = load(settings.clone()).await;
    assert_eq!(call(&next, helo.clone(), &session()).await.unwrap_err().kind, FaultKind::PoolExhausted);
    let mut other = session();
    let client = SessionClient { peer: "192.0.2.2:4242".parse().unwrap(), name: None, listener: "mx".into() };
    other.client = Some(std::sync::Arc::new(client));
    assert!(call(&plugin, helo.clone(), &other).await.is_ok());
    settings.limits.instance_wait = Duration::from_secs(60);
    let patient = load(settings).await;
    let (context, event) = (session(), helo);
    let (done, ()) = tokio::join!(call(&patient, event, &context), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(held);
    });
    assert!(done.is_ok(), "it waited until the first was done");
}

#[tokio::test]
async fn a_fault_does_not_cost_a_transaction_its_place() {
    let mut settings = evil("panic");
    settings.name = "faulty".into();
    settings.config.insert("at".into(), serde_json::json!("on-message"));
    settings.limits.instances_max = 1;
    settings.limits.instance_wait = Duration::from_millis(50);
    let plugin = load(settings).await;
    let mut first = open(&plugin);
    assert_eq!(first.call(&Event::Message, &message()).await.unwrap_err().kind, FaultKind::Trap);
    let other = call(&plugin, Event::Helo("x".into()), &session()).await;
    assert_eq!(other.unwrap_err().kind, FaultKind::PoolExhausted, "the place is kept");
    assert!(first.call(&Event::Helo("x".into()), &session()).await.is_ok(), "and used again");
}
