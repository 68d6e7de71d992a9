//! The hooks beside those of `evil`: what a guest is told, what its answer becomes, and what is no answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;

use std::sync::Arc;

use common::{call, component, message, sandbox};
use waxwing_pipeline::{Answer, Context, Event, FaultKind, Hook, Plugin, Symbol};
use waxwing_sandbox::{PluginSettings, WasmPlugin};
use waxwing_types::{Reply, Verdict, Via};

async fn chorus() -> Arc<WasmPlugin> {
    sandbox().load(component("chorus"), PluginSettings::new("chorus")).await.unwrap_or_else(|e| panic!("{e}"))
}

fn in_a_mood(mood: &str) -> Context {
    let mut context = message();
    Arc::make_mut(&mut context.tags).insert("mood".to_owned(), mood.to_owned());
    context
}

async fn answer(event: Event) -> Answer {
    call(&chorus().await, event, &message()).await.unwrap().answer
}

fn loud(score: f32) -> Symbol {
    Symbol { name: "LOUD".to_owned(), score, detail: Some("in two lines".to_owned()) }
}

#[tokio::test]
async fn each_hook_has_its_answer() {
    let no = Reply::fixed(550, (5, 7, 1), "no");
    let refuse = Event::Refuse { stage: Hook::OnRcpt, by: "strict".to_owned(), reply: no };
    let recipient = message().recipients[0].clone();
    let verdict = |verdict: Verdict| Answer::Verdict(verdict);
    let reject = |text: &'static str| verdict(Verdict::Reject(Reply::fixed(554, (5, 7, 1), text)));
    assert_eq!(answer(Event::Data).await, reject("1 recipients"));
    let softer = Reply::fixed(451, (4, 7, 1), "strict at on-rcpt said 550 5.7.1 no");
    assert_eq!(answer(refuse).await, verdict(Verdict::Defer(softer)));
    assert_eq!(answer(Event::Score).await, Answer::Symbols(vec![loud(2.5)]));
    assert_eq!(answer(Event::Decide(Arc::default())).await, verdict(Verdict::Continue));
    let held = Verdict::Hold { reason: "2 symbols make 6".to_owned() };
    assert_eq!(answer(Event::Decide(Arc::new(vec![loud(3.0), loud(3.0)]))).await, verdict(held));
    let away = Verdict::Discard { reason: "to is away".to_owned() };
    assert_eq!(answer(Event::RecipientMessage(recipient)).await, verdict(away));
}

#[tokio::test]
async fn who_only_hears_can_log() {
    let plugin = chorus().await;
    let outcome = call(&plugin, Event::Abort, &message()).await.unwrap();
    assert_eq!((outcome.answer, outcome.log), (Answer::Done, vec!["heard of the end".to_owned()]));
    let outcome = call(&plugin, Event::Tick, &Context::new(Via::Api, None)).await.unwrap();
    assert_eq!((outcome.answer, outcome.log), (Answer::Done, vec!["tick, sender None".to_owned()]));
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
