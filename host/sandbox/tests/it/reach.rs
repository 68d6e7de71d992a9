//! The host functions that reach beyond the message: what they hand on, their limits, and what a guest is told when they can't.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{call, component, message, sandbox, session};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use waxwing_pipeline::{
    CallOutcome, Context, DnsError, DnsRecords, Event, Fault, FaultKind, HttpClient, HttpError, HttpRequest, HttpResponse,
    KvEntry, KvError, KvStore, Metrics, SUBMITTED_BY_TAG,
};
use waxwing_sandbox::{HostServices, MessageAccess, PluginLoadError, PluginSettings, WasmPlugin};
use waxwing_testkit::FakeResolver;
use waxwing_types::{QueueId, ReversePath};

/// Pairs in memory, or one error for everything; what it was told is kept.
#[derive(Default)]
struct Pairs {
    pairs: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    broken: Option<KvError>,
    told: Mutex<Vec<String>>,
}

impl Pairs {
    fn told(&self, what: String) -> Result<(), KvError> {
        self.told.lock().unwrap().push(what);
        self.broken.clone().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl KvStore for Pairs {
    async fn get(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, KvError> {
        self.told(format!("get {namespace}"))?;
        Ok(self.pairs.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, namespace: &str, max: u64, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        self.told(format!("set {namespace} {max} {ttl:?}"))?;
        if key.len() > 100 {
            return Err(KvError::TooLarge);
        }
        self.pairs.lock().unwrap().insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    async fn delete(&self, namespace: &str, key: &[u8]) -> Result<(), KvError> {
        self.told(format!("delete {namespace}"))?;
        self.pairs.lock().unwrap().remove(key);
        Ok(())
    }

    async fn add(&self, namespace: &str, max: u64, _: &[u8], delta: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        self.told(format!("add {namespace} {max} {ttl:?}"))?;
        Ok(delta + 40)
    }

    async fn scan(&self, namespace: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<KvEntry>, KvError> {
        self.told(format!("scan {namespace} {after:?} {limit}"))?;
        let pairs = self.pairs.lock().unwrap();
        Ok(pairs.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

struct Pages(Result<HttpResponse, HttpError>, Mutex<Vec<(Vec<String>, HttpRequest)>>);

#[async_trait]
impl HttpClient for Pages {
    async fn fetch(&self, allowed: &[String], request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.1.lock().unwrap().push((allowed.to_vec(), request));
        self.0.clone()
    }
}

#[derive(Default)]
struct Counted(Mutex<BTreeMap<String, u64>>);

impl Metrics for Counted {
    fn count(&self, name: &str, labels: &[(&str, &str)], delta: u64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        *self.0.lock().unwrap().entry(format!("{name} {}", labels.join(" "))).or_default() += delta;
    }

    fn observe(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.count(&format!("{name}~{value}"), labels, 1);
    }
}

struct World {
    settings: PluginSettings,
    counted: Arc<Counted>,
}

/// `reach` with every grant, these steps and no port but metrics.
fn world(steps: &str) -> World {
    let mut settings = PluginSettings::new("reach");
    settings.grants.message = MessageAccess::Full;
    settings.grants.kv = Some(1000);
    settings.grants.dns = vec!["*.zen.example".into()];
    settings.grants.http = vec!["https://api.example/".into()];
    (settings.grants.submit, settings.grants.clock, settings.grants.random) = (true, true, true);
    settings.config.insert("steps".into(), json!(steps));
    settings.limits.wall = Duration::from_millis(2000);
    settings.limits.cpu = Duration::from_millis(200);
    let counted = Arc::new(Counted::default());
    settings.services = HostServices { metrics: Some(Arc::clone(&counted) as _), ..HostServices::default() };
    World { settings, counted }
}

impl World {
    async fn load(&self) -> Arc<WasmPlugin> {
        sandbox().load(component("reach"), self.settings.clone()).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn run(&self, event: Event, context: &Context) -> Result<CallOutcome, Fault> {
        call(&self.load().await, event, context).await
    }

    async fn at_message(&self) -> CallOutcome {
        self.run(Event::Message, &message()).await.unwrap()
    }

    /// How often this was refused.
    fn refused(&self, call: &str, reason: &str) -> u64 {
        let key = format!("waxwing_plugin_refused_total plugin=reach call={call} reason={reason}");
        self.counted.0.lock().unwrap().get(&key).copied().unwrap_or_default()
    }
}

/// What a step was answered.
fn answer<'o>(outcome: &'o CallOutcome, step: &str) -> &'o str {
    let begin = format!("{step} = ");
    let line = outcome.log.iter().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("{step}: {:?}", outcome.log))
}

#[tokio::test]
async fn each_interface_needs_its_grant() {
    for (line, withdraw) in [
        ("kv = true", (|s: &mut PluginSettings| s.grants.kv = None) as fn(&mut PluginSettings)),
        ("dns = true", |s| s.grants.dns.clear()),
        ("http = [\"https://HOST/PATH/\"]", |s| s.grants.http.clear()),
        ("submit = true", |s| s.grants.submit = false),
        ("clock = true", |s| s.grants.clock = false),
        ("random = true", |s| s.grants.random = false),
    ] {
        let mut world = world("");
        withdraw(&mut world.settings);
        let error = sandbox().load(component("reach"), world.settings).await.err().unwrap();
        assert!(matches!(error, PluginLoadError::NotGranted { .. }), "{error}");
        assert!(error.to_string().contains(&format!("add {line} under [plugins.reach.grants]")), "{error}");
    }
}

#[tokio::test]
async fn pairs_are_kept_at_once() {
    let kv = Arc::new(Pairs::default());
    let mut world = world("set a 1 0; get a; set b 2 60; add n 2 0; scan a 9; delete a; get a; big 101 1; trap");
    world.settings.services.kv = Some(Arc::clone(&kv) as _);
    let fault = world.run(Event::Message, &message()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);
    assert_eq!(
        kv.pairs.lock().unwrap().keys().collect::<Vec<_>>(),
        [b"b"],
        "what was set is there though the call ended in a fault"
    );
    assert_eq!(
        *kv.told.lock().unwrap(),
        [
            "set reach 1000 None",
            "get reach",
            "set reach 1000 Some(60s)",
            "add reach 1000 None",
            "scan reach None 9",
            "delete reach",
            "get reach",
            "set reach 1000 None",
        ]
    );
    let log = fault.log.join("\n");
    for line in ["get a = Ok(Some(\"1\"))", "add n 2 0 = Ok(42)", "scan a 9 = Ok(1)", "get a = Ok(None)", "KvError::TooLarge"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(world.refused("kv.set", "too-large"), 1);
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_a_counter_and_a_line() {
    for (error, words, reason) in
        [(KvError::Full, "KvError::Full", "full"), (KvError::Unavailable("disk on fire".into()), "disk on fire", "unavailable")]
    {
        let mut world = world("get a; set a 1 0; delete a; add a 1 0; scan a 1");
        world.settings.services.kv = Some(Arc::new(Pairs { broken: Some(error), ..Pairs::default() }));
        let outcome = world.at_message().await;
        for (step, call) in [
            ("get a", "kv.get"),
            ("set a 1 0", "kv.set"),
            ("delete a", "kv.delete"),
            ("add a 1 0", "kv.add"),
            ("scan a 1", "kv.scan"),
        ] {
            assert!(answer(&outcome, step).contains(words), "{step}: {:?}", outcome.log);
            assert_eq!(world.refused(call, reason), 1, "{call}");
            assert!(outcome.log.contains(&format!("(host) {call}: {reason}")), "{:?}", outcome.log);
        }
    }
    let world = world("get a");
    assert!(answer(&world.at_message().await, "get a").contains("has no key-value store"));
}

#[tokio::test]
async fn names_are_looked_up_by_grant_and_within_limits() {
    let records = DnsRecords { rdata: vec![Bytes::from_static(&[127, 0, 0, 2])], ttl: 60, authentic: true };
    let mut world = world("dns 1.zen.example 1; dns zen.example 1; dns other.example 1; dns a.zen.example 252; flood 60");
    world.settings.services.resolver = Some(Arc::new(FakeResolver::default().with_default_records(Ok(records))));
    let outcome = world.at_message().await;
    assert_eq!(answer(&outcome, "dns 1.zen.example 1"), "Ok(([[127, 0, 0, 2]], 60, true))");
    assert!(answer(&outcome, "dns zen.example 1").contains("NotGranted"));
    assert!(answer(&outcome, "dns other.example 1").contains("NotGranted"));
    assert!(answer(&outcome, "dns a.zen.example 252").contains("no type of records"));
    assert_eq!(answer(&outcome, "flood 60"), "11 refused", "50 questions, one was asked before");
    assert_eq!((world.refused("dns.lookup", "not-granted"), world.refused("dns.lookup", "too-many")), (2, 11));
}

#[tokio::test]
async fn what_the_resolver_says_is_passed_on() {
    let large = DnsRecords { rdata: vec![Bytes::from(vec![0; 40_000]); 2], ttl: 1, authentic: false };
    for (answered, words, refused) in [
        (Err(DnsError::NoSuchName), "NoSuchName", None),
        (Err(DnsError::NoData), "NoData", None),
        (Err(DnsError::Temporary("servfail".into())), "servfail", Some("failed")),
        (Ok(large), "more than 65536 octets", Some("too-large")),
    ] {
        let mut world = world("dns a.zen.example 16");
        world.settings.services.resolver = Some(Arc::new(FakeResolver::default().with_default_records(answered)));
        let outcome = world.at_message().await;
        assert!(answer(&outcome, "dns a.zen.example 16").contains(words), "{:?}", outcome.log);
        assert_eq!(refused.map_or(1, |reason| world.refused("dns.lookup", reason)), 1);
        assert_eq!(world.counted.0.lock().unwrap().len(), usize::from(refused.is_some()), "{words}: not there is no refusal");
    }
}

#[tokio::test]
async fn a_request_goes_out_with_its_grant_and_what_is_left_of_the_time() {
    let response = HttpResponse { status: 200, headers: Vec::new(), body: Bytes::from_static(b"fine") };
    let web = Arc::new(Pages(Ok(response), Mutex::default()));
    let mut world = world(
        "http POST https://api.example/x text 50; http POST https://api.example/y message; http GET https://api.example/z part 0",
    );
    world.settings.services.http_client = Some(Arc::clone(&web) as _);
    let outcome = world.at_message().await;
    assert_eq!(answer(&outcome, "http POST https://api.example/x text 50"), "Ok((200, \"fine\"))");
    let asked = web.1.lock().unwrap();
    assert!(asked.iter().all(|(allowed, request)| allowed == &["https://api.example/"] && request.response_bytes_max == 1 << 20));
    let (first, second, third) = (&asked[0].1, &asked[1].1, &asked[2].1);
    assert_eq!(
        (&*first.method, &*first.url, &first.body[..], first.timeout),
        ("POST", "https://api.example/x", &b"text"[..], Duration::from_millis(50))
    );
    assert_eq!(first.headers, [("x-a".to_owned(), "b".to_owned())]);
    assert!(
        second.body.starts_with(b"From: from@a.example\r\n") && second.body.ends_with(b"\r\n\r\nthe body\r\n"),
        "{:?}",
        second.body
    );
    assert!(second.timeout < Duration::from_millis(2000) && second.timeout > Duration::from_millis(500), "{:?}", second.timeout);
    assert_eq!(&third.body[..], b"the body\r\n");
}

#[tokio::test]
async fn a_request_that_fails_is_an_error_a_counter_and_a_line() {
    let step = "http GET https://api.example/ x";
    for (error, words, reason) in [
        (HttpError::NotGranted("that way".into()), "NotGranted", "not-granted"),
        (HttpError::Timeout, "Timeout", "timeout"),
        (HttpError::TooLarge, "TooLarge", "too-large"),
        (HttpError::Failed("no connection".into()), "no connection", "failed"),
    ] {
        let mut world = world(step);
        world.settings.services.http_client = Some(Arc::new(Pages(Err(error), Mutex::default())));
        let outcome = world.at_message().await;
        assert!(answer(&outcome, step).contains(words), "{:?}", outcome.log);
        assert_eq!(world.refused("http.fetch", reason), 1);
        assert!(outcome.log.contains(&format!("(host) http.fetch: {reason}")));
    }
    // The message is not a guest's that may not read it, and there is none yet.
    let mut limited = world("http POST https://api.example/ message");
    limited.settings.grants.message = MessageAccess::Headers;
    let outcome = limited.at_message().await;
    assert!(answer(&outcome, "http POST https://api.example/ message").contains("NotGranted"));
    let outcome = world("http POST https://api.example/ message").run(Event::Connect, &session()).await.unwrap();
    assert!(outcome.log[0].contains("malformed") && outcome.log[1].contains("no message"), "{:?}", outcome.log);
    let mut many = world(&["http GET https://api.example/ x"; 12].join("; "));
    many.settings.services.http_client = Some(Arc::new(Pages(Err(HttpError::Timeout), Mutex::default())));
    many.at_message().await;
    assert_eq!((many.refused("http.fetch", "timeout"), many.refused("http.fetch", "too-many")), (10, 2));
}

fn submitting(steps: &str) -> World {
    let mut world = world(steps);
    world.settings.services.new_id = Some(Arc::new(|| QueueId::from_u64(7)));
    world
}

#[tokio::test]
async fn mail_is_staged_whole() {
    let outcome = submitting("submit hello a@b.example c@d.example; submit message e@f.example").at_message().await;
    assert_eq!(answer(&outcome, "submit message e@f.example"), "Ok(13)");
    let [first, second] = &outcome.changes.submissions[..] else { panic!("{:?}", outcome.changes) };
    assert_eq!((first.id, &first.sender, &*first.submitter), (QueueId::from_u64(7), &ReversePath::Null, "reach"));
    assert_eq!(first.recipients.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a@b.example", "c@d.example"]);
    assert_eq!(&first.content[..], b"Subject: hello\r\n\r\nbody\r\n", "line ends are those of mail");
    assert!(second.content.ends_with(b"\r\n\r\nthe body\r\n"));
    // A fault stages nothing.
    assert!(submitting("submit hello a@b.example; trap").run(Event::Message, &message()).await.is_err());
}

#[tokio::test]
async fn mail_has_its_limits() {
    let refused = async |world: &World, event: Event, context: &Context, reason: &str| {
        let outcome = world.run(event, context).await.unwrap();
        assert!(world.refused("submit.send", reason) > 0, "{reason}: {:?}", outcome.log);
        outcome.changes.submissions.len()
    };
    let world = submitting(&["submit x a@b.example"; 12].join("; "));
    assert_eq!(refused(&world, Event::Message, &message(), "too-many").await, 10);
    let mut world = submitting("large 600; large 600; large 300");
    world.settings.limits.submission_bytes_max = 1000;
    assert_eq!(refused(&world, Event::Message, &message(), "too-large").await, 2);
    assert_eq!(refused(&submitting("submit x"), Event::Message, &message(), "malformed").await, 0);
    assert_eq!(refused(&submitting("submit x a@b@c"), Event::Message, &message(), "malformed").await, 0);
    let many = format!("submit x{}", " a@b.example".repeat(101));
    assert_eq!(refused(&submitting(&many), Event::Message, &message(), "malformed").await, 0);
    assert_eq!(refused(&submitting("submit x a@b.example"), Event::Connect, &session(), "not-here").await, 0);
    assert_eq!(refused(&self::world("submit x a@b.example"), Event::Message, &message(), "unavailable").await, 0);
    let mut answered = message();
    Arc::make_mut(&mut answered.tags).insert(SUBMITTED_BY_TAG.into(), "a,b,c,d,e".into());
    assert_eq!(refused(&submitting("submit x a@b.example"), Event::Message, &answered, "too-many").await, 0);
    let mut limited = submitting("submit message a@b.example");
    limited.settings.grants.message = MessageAccess::None;
    // It imports nothing that needs the grant but the payload.
    assert_eq!(refused(&limited, Event::Message, &message(), "not-granted").await, 0);
}

#[tokio::test]
async fn the_servers_own_tags_are_nobodys() {
    for tag in ["waxwing.authors", "WAXWING.x"] {
        let fault = world(&format!("tag {tag} v")).run(Event::Message, &message()).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BadAnswer);
        assert!(fault.text.contains("the server's own"), "{fault}");
    }
    assert!(world("tag waxwing v").run(Event::Message, &message()).await.is_ok());
}

#[tokio::test]
async fn time_and_chance_by_grant() {
    let outcome = world("clock; random 64; random 0").at_message().await;
    assert!(answer(&outcome, "clock").parse::<u64>().unwrap() >= 1_700_000_000_000);
    assert_eq!(answer(&outcome, "random 64"), "64 octets, false zero");
    assert_eq!(answer(&outcome, "random 0"), "0 octets, true zero");
    let fault = world("random 65537").run(Event::Message, &message()).await.unwrap_err();
    assert_eq!((fault.kind, &*fault.text), (FaultKind::BadAnswer, "random: 65537 octets, where 65536 are possible"));
}

#[tokio::test]
async fn metrics_are_counted_under_the_plugins_name_and_bounded() {
    let world = world("count seen 3; count seen 4; names 60");
    world.at_message().await;
    let counted = world.counted.0.lock().unwrap();
    assert_eq!(counted.get("waxwing_plugin_seen plugin=reach"), Some(&7));
    assert_eq!(counted.get("waxwing_plugin_seen_seconds~0.5 plugin=reach"), Some(&2));
    assert_eq!(counted.get("waxwing_plugin_metrics_dropped_total plugin=reach"), Some(&12));
}
