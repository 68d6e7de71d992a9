//! The hooks of the queue and of delivery: what a guest is told, and what its answer becomes.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Fixed, call, component, message, sandbox};
use bytes::Bytes;
use waxwing_pipeline::{
    Context, ContextRecipient, DeferralInfo, Event, FaultKind, Hook, HookAnswer, NextTry, Plugin, RecipientFate,
    RecipientOutcome, ReplyClass, TableLookup,
};
use waxwing_sandbox::{MessageAccess, PluginGrants, PluginSettings, WasmPlugin};
use waxwing_types::{Address, Edit, MemoryBody, NextHop, Reply, Source, Verdict};

async fn outbound() -> Arc<WasmPlugin> {
    let mut settings = PluginSettings::new("outbound");
    settings.grants =
        PluginGrants { message: MessageAccess::Full, edit: true, lookup: vec!["plugin:keys".into()], ..PluginGrants::default() };
    settings.tables.insert("plugin:keys".into(), Arc::new(Fixed(Ok(Some("a key".into())))));
    sandbox().load(component("outbound"), settings).await.unwrap_or_else(|e| panic!("{e}"))
}

fn with_body(body: &'static str) -> Context {
    Context { body: Some(Arc::new(MemoryBody::new(Bytes::from_static(body.as_bytes())))), ..message() }
}

fn to(local: &str) -> ContextRecipient {
    let mut recipient = message().recipients[0].clone();
    recipient.recipient.address = Address::new(local, "b.example").unwrap();
    recipient
}

async fn answer(event: Event) -> HookAnswer {
    call(&outbound().await, event, &message()).await.unwrap().answer
}

#[tokio::test]
async fn a_scan_reads_the_body() {
    let plugin = outbound().await;
    for (body, code) in
        [("clean\r\n", None), ("a VIRUS\r\n", Some((554, "this has a virus"))), ("BUSY\r\n", Some((451, "the scanner is busy")))]
    {
        let verdict = match (code, call(&plugin, Event::Scan, &with_body(body)).await.unwrap().answer) {
            (None, HookAnswer::Verdict(Verdict::Next)) => continue,
            (Some(_), HookAnswer::Verdict(verdict)) => verdict,
            (_, other) => panic!("{other:?}"),
        };
        let (Verdict::Reject(reply) | Verdict::Defer(reply)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(Some((reply.code(), reply.text())), code);
    }
}

#[tokio::test]
async fn routes_have_a_transport_and_perhaps_a_host() {
    let hop = |transport: &str, host: &str, port| NextHop { transport: transport.into(), host: host.into(), port };
    assert_eq!(answer(Event::Route(to("usual"))).await, HookAnswer::Route(None));
    assert_eq!(answer(Event::Route(to("away"))).await, HookAnswer::Route(Some(hop("discard", "", None))));
    assert_eq!(answer(Event::Route(to("far"))).await, HookAnswer::Route(Some(hop("smtp", "[192.0.2.7]", Some(26)))));
    let fault = call(&outbound().await, Event::Route(to("port")), &message()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::BadAnswer);
}

#[tokio::test]
async fn what_is_sent_can_be_signed_or_refused() {
    let plugin = outbound().await;
    let outcome = call(&plugin, Event::Send("smtp:mx.example".into()), &message()).await.unwrap();
    let value = Bytes::from_static(b"for smtp:mx.example with a key");
    assert_eq!(outcome.changes.edits, [Edit::AddHeader { name: "X-Signed".into(), value }]);
    assert_eq!(outcome.answer, HookAnswer::Verdict(Verdict::Next));
    let refused = answer(Event::Send("smtp:forbidden.example".into())).await;
    assert_eq!(refused, HookAnswer::Verdict(Verdict::Reject(Reply::fixed(554, (5, 7, 1), "nothing goes there"))));
}

#[tokio::test]
async fn replies_and_retries_are_judged() {
    let reply = |code| Event::Reply { destination: "smtp:mx.example".into(), code, text: "5.1.1 words".into() };
    for (code, class) in
        [(250, ReplyClass::AsIs), (450, ReplyClass::Permanent), (550, ReplyClass::Temporary), (571, ReplyClass::DestinationDead)]
    {
        assert_eq!(answer(reply(code)).await, HookAnswer::ReplyClass(class));
    }
    let outcome = call(&outbound().await, reply(550), &message()).await.unwrap();
    assert_eq!(outcome.log, ["smtp:mx.example said 550 5.1.1 words"]);
    let failure = |attempt| {
        Event::Retry(DeferralInfo {
            attempt,
            age: Duration::from_secs(9),
            destination: "smtp:mx.example".into(),
            status: "4.2.0".into(),
            text: "later".into(),
        })
    };
    assert_eq!(answer(failure(1)).await, HookAnswer::NextTry(NextTry::After(Duration::from_secs(1))));
    assert_eq!(answer(failure(2)).await, HookAnswer::NextTry(NextTry::AsPlanned));
    assert_eq!(answer(failure(3)).await, HookAnswer::NextTry(NextTry::GiveUp));
}

#[tokio::test]
async fn outcomes_reports_and_events_are_heard() {
    let plugin = outbound().await;
    let outcome = RecipientOutcome {
        recipient: to("ann"),
        fate: RecipientFate::Expired,
        destination: "smtp:mx.example".into(),
        status: "5.4.7".into(),
        text: "too late".into(),
    };
    let heard = call(&plugin, Event::Outcome(outcome), &message()).await.unwrap();
    assert_eq!((heard.answer, heard.log), (HookAnswer::Done, vec!["ann Fate::Expired smtp:mx.example 5.4.7".to_owned()]));
    let report = call(&plugin, Event::Dsn("failure".into()), &message()).await.unwrap();
    assert_eq!(report.answer, HookAnswer::SendDsn(true));
    assert_eq!(report.changes.edits, [Edit::AddHeader { name: "X-Report".into(), value: Bytes::from_static(b"failure") }]);
    let quiet = Context { recipients: Arc::new(vec![to("quiet")]), ..message() };
    assert_eq!(call(&plugin, Event::Dsn("failure".into()), &quiet).await.unwrap().answer, HookAnswer::SendDsn(false));
    let event = Event::Accounting { name: "delivered".into(), json: "{}".into() };
    let heard = call(&plugin, event, &Context::new(Source::Api, None)).await.unwrap();
    assert_eq!((heard.answer, heard.log), (HookAnswer::Done, vec!["delivered {}".to_owned()]));
}

#[tokio::test]
async fn a_table_has_a_value_none_or_trouble() {
    let found = |key: &str| answer(Event::Table(key.to_owned()));
    assert_eq!(found("signing").await, HookAnswer::TableLookup(TableLookup::Value("the key".into())));
    assert_eq!(found("other").await, HookAnswer::TableLookup(TableLookup::Absent));
    assert_eq!(found("broken").await, HookAnswer::TableLookup(TableLookup::Unavailable("disk on fire".into())));
}

#[tokio::test]
async fn it_is_called_for_what_it_exports() {
    let hooks: Vec<&str> = outbound().await.exports().iter().map(Hook::as_str).collect();
    let names = ["on-scan", "on-route", "on-send", "on-reply", "on-retry", "on-outcome", "on-dsn", "on-event", "on-table"];
    assert_eq!(hooks, names);
}
