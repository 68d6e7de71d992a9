//! The hooks beside those of `evil`: what a guest is told, what its answer becomes, and what is no answer.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{call, component, message, sandbox};
use bytes::Bytes;
use waxwing_pipeline::{Context, Event, FaultKind, Hook, HookAnswer, Placement, Plugin, Symbol};
use waxwing_sandbox::{PluginSettings, WasmPlugin};
use waxwing_types::{Address, Reply, Source, Verdict};

async fn chorus() -> Arc<WasmPlugin> {
    sandbox().load(component("chorus"), PluginSettings::new("chorus")).await.unwrap_or_else(|e| panic!("{e}"))
}

fn in_a_mood(mood: &str) -> Context {
    let mut context = message();
    Arc::make_mut(&mut context.tags).insert("mood".to_owned(), mood.to_owned());
    context
}

async fn answer(event: Event) -> HookAnswer {
    call(&chorus().await, event, &message()).await.unwrap().answer
}

fn loud(score: f32) -> Symbol {
    Symbol { name: "LOUD".to_owned(), score, detail: Some("in two lines".to_owned()) }
}

#[tokio::test]
async fn each_hook_has_its_answer() {
    let no = Reply::fixed(550, (5, 7, 1), "no");
    let refuse = Event::Refuse { stage: Hook::OnRcpt, plugin: "strict".to_owned(), reply: no };
    let recipient = message().recipients[0].clone();
    let verdict = |verdict: Verdict| HookAnswer::Verdict(verdict);
    let reject = |text: &'static str| verdict(Verdict::Reject(Reply::fixed(554, (5, 7, 1), text)));
    assert_eq!(answer(Event::Data).await, reject("1 recipients"));
    let softer = Reply::fixed(451, (4, 7, 1), "strict at on-rcpt said 550 5.7.1 no");
    assert_eq!(answer(refuse).await, verdict(Verdict::Defer(softer)));
    assert_eq!(answer(Event::Score).await, HookAnswer::Symbols(vec![loud(2.5)]));
    assert_eq!(answer(Event::Decide(Arc::default())).await, verdict(Verdict::Next));
    let held = Verdict::Hold { reason: "2 symbols make 6".to_owned() };
    assert_eq!(answer(Event::Decide(Arc::new(vec![loud(3.0), loud(3.0)]))).await, verdict(held));
    let away = Verdict::Discard { reason: "to is away".to_owned() };
    assert_eq!(answer(Event::RecipientMessage(recipient)).await, verdict(away));
}

#[tokio::test]
async fn who_only_hears_can_log() {
    let plugin = chorus().await;
    let outcome = call(&plugin, Event::Abort, &message()).await.unwrap();
    assert_eq!((outcome.answer, outcome.log), (HookAnswer::Done, vec!["heard of the end".to_owned()]));
    let outcome = call(&plugin, Event::Tick, &Context::new(Source::Api, None)).await.unwrap();
    assert_eq!((outcome.answer, outcome.log), (HookAnswer::Done, vec!["tick, sender None".to_owned()]));
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault() {
    let plugin = chorus().await;
    let recipient = message().recipients[0].clone();
    for (mood, event, words) in [
        ("nan", Event::Score, "\"LOUD\" has no name or the score NaN"),
        ("many", Event::Score, "1001 symbols, where 1000 are allowed"),
        ("leave", Event::RecipientMessage(recipient), "the verdict disconnect is not possible at on-recipient-message"),
    ] {
        let fault = call(&plugin, event, &in_a_mood(mood)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadAnswer);
        assert!(fault.text.contains(words), "{}", fault.text);
    }
}

#[tokio::test]
async fn it_is_called_for_what_it_exports() {
    let hooks: Vec<&str> = chorus().await.exports().iter().map(Hook::as_str).collect();
    let names = ["on-data", "on-refuse", "on-score", "on-decide", "on-recipient-message", "on-abort", "on-tick"];
    assert_eq!(hooks, names);
}

async fn usher(event: Event, mood: &str) -> Result<waxwing_pipeline::CallOutcome, waxwing_pipeline::Fault> {
    let mut settings = PluginSettings::new("usher");
    settings.grants.message = waxwing_sandbox::MessageAccess::Headers;
    let plugin = sandbox().load(component("usher"), settings).await.unwrap_or_else(|e| panic!("{e}"));
    call(&plugin, event, &in_a_mood(mood)).await
}

#[tokio::test]
async fn a_session_has_hooks_beside_its_commands() {
    let recipient = message().recipients[0].clone();
    let targets = vec![Address::new("a", "x.example").unwrap(), Address::new("b", "x.example").unwrap()];
    let command = |verb: &str| Event::Command { verb: verb.to_owned(), argument: Bytes::from_static(b"\xff\x00") };
    let deferred = Verdict::Defer(Reply::fixed(450, (4, 7, 1), "to is a@x.example and b@x.example"));
    assert_eq!(usher(Event::RcptResolved { recipient, targets }, "").await.unwrap().answer, HookAnswer::Verdict(deferred));
    assert_eq!(usher(command("VRFY"), "").await.unwrap().answer, HookAnswer::Reply(None));
    let said = Reply::plain(250, "XSIZE of 2 octets");
    assert_eq!(usher(command("XSIZE"), "").await.unwrap().answer, HookAnswer::Reply(Some(said)));
    for (verb, words) in [("XCLOSE", "has the code 421"), ("XLINES", "has a line end")] {
        let fault = usher(command(verb), "").await.unwrap_err();
        assert!(fault.kind == FaultKind::BadAnswer && fault.text.contains(words), "{}", fault.text);
    }
    let placed = Placement { priority: -5, not_before: Duration::from_secs(90), hold: Some("odd".to_owned()) };
    assert_eq!(usher(Event::Enqueue, "odd").await.unwrap().answer, HookAnswer::Placement(placed));
    let heard = usher(Event::Disconnect("lost".to_owned()), "").await.unwrap();
    assert_eq!((heard.answer, heard.log), (HookAnswer::Done, vec!["gone: lost".to_owned()]));
    let HookAnswer::Verdict(Verdict::Reject(reply)) = usher(Event::Headers, "").await.unwrap().answer else { panic!() };
    assert!(reply.text().ends_with(" fields"), "{reply}");
}
