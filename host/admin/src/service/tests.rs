use std::time::Duration;

use bytes::Bytes;
use waxwing_config::{HostEnvironment, RecordingConfig, TraceConfig};
use waxwing_control::{PasswordRecordText, USER_PAGE_MAX, UserStatus};
use waxwing_net::{SessionCounts, SessionLimits};
use waxwing_pipeline::{Trace, TraceRecord, UserChange};
use waxwing_queue::{EmbeddedSpool, SpoolSettings};
use waxwing_spool::{MemorySpool, MemorySpoolSettings, NewBody, NewMessage, NextState, Settlement};
use waxwing_state::{RECORDING_KEYSPACE, StoredUsers, TRACE_KEYSPACE, USERS_KEYSPACE};
use waxwing_store::{Store, StoreOptions};
use waxwing_testkit::FixedClassifier;
use waxwing_types::{Address, BodyType, Clock, EnhancedCode, ManualClock, Origin, Recipient, ReversePath, Source, Status};

use super::*;

struct Bench {
    admin: AdminService,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let keyspaces: Vec<&str> =
        waxwing_queue::KEYSPACES.into_iter().chain([TRACE_KEYSPACE, RECORDING_KEYSPACE, USERS_KEYSPACE]).collect();
    let store = Store::open(&dir.path().join("store"), &StoreOptions::new(&keyspaces)).unwrap();
    let mut settings = SpoolSettings::new(1 << 20, Arc::clone(&clock) as _);
    settings.queue_minfree = 0;
    let spool = EmbeddedSpool::open(&store, &dir.path().join("bodies"), settings).await.unwrap();
    bench_on(Arc::new(spool), &store, dir, clock).await
}

/// The service on a given queue; the other stores are in `store`.
async fn bench_on(spool: Arc<dyn Spool>, store: &Store, dir: tempfile::TempDir, clock: Arc<ManualClock>) -> Bench {
    let limits = TraceConfig { bytes_max: 1 << 20, age_max: Duration::from_secs(1000) };
    let facts = HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| false };
    let info = DaemonInfo { version: "1".into(), pid: 7, hostname: "h.example".into(), started_at: Timestamp::default() };
    let text = "[plugins.cleanup]\nenabled = false\n[plugins.aliases]\nenabled = false\n";
    let config = Arc::new(Config::parse("w.toml".as_ref(), text, &facts).unwrap());
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let accounts = Arc::new(waxwing_accounts::Accounts::open(&config, &shared).unwrap());
    let (engine, services) = (waxwing_plugins::sandbox_settings(&config), waxwing_sandbox::HostServices::default());
    let loaded = waxwing_plugins::load(engine, &config, &accounts, &shared, |_| None, services).await.unwrap();
    let pipeline = Arc::new(Pipeline::new(Vec::new(), Arc::new(FixedClassifier::REMOTE), shared));
    let kept = RecordingConfig {
        enabled: true,
        bytes_max: 1 << 20,
        age_max: Duration::from_secs(1000),
        redact_body: false,
        redact_headers: Vec::new(),
    };
    let (recordings, waiting) = RecordingStore::open(store, kept, Arc::clone(&clock) as _).unwrap();
    drop(waxwing_net::spawn("recordings", Arc::clone(&recordings).run(waiting)));
    let admin = AdminService {
        info,
        file: "w.toml".into(),
        spool,
        traces: Arc::new(TraceStore::open(store, limits).unwrap()),
        recordings,
        plugin_manager: PluginManager::new(loaded, Arc::clone(&pipeline)),
        pipeline,
        metrics: Arc::default(),
        guard_state: GuardState::new(
            SessionCounts::with_limits(SessionLimits::new(10, 10)),
            Arc::new(MetricsRegistry::default()),
            Arc::clone(&clock) as _,
        ),
        config: Arc::new(arc_swap::ArcSwap::new(config)),
        reload_handler: Arc::new(Stays),
        active_units: ActiveUnits::default(),
        listeners: None,
        users: StoredUsers::open(store, [7; 32]).unwrap(),
    };
    Bench { admin, clock, _dir: dir }
}

/// A configuration that does not change.
struct Stays;

#[async_trait::async_trait]
impl ReloadHandler for Stays {
    async fn reload(&self) -> Result<waxwing_control::ReloadReport, ControlError> {
        Err(control_error(ControlErrorKind::Failed, "the configuration has a mistake"))
    }
}

impl Bench {
    async fn put(&self, hold: Option<&str>) -> QueueId {
        let id = self.admin.spool.next_queue_id(self.clock.now());
        let address = |text: &str| Address::parse(text).unwrap();
        let envelope = Envelope {
            sender: ReversePath::Address(address("a@x.example")),
            recipients: ["b@y.example", "c@y.example"].map(|to| Recipient::new(address(to))).to_vec(),
            body_type: BodyType::EightBitMime,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Source::Forward, self.clock.now()),
        };
        let message = NewMessage {
            id,
            envelope,
            header: Bytes::from_static(b"Subject: hi\r\n\r\n"),
            body: NewBody::inline(Bytes::from_static(b"text\r\n")).unwrap(),
            tags: [("k".to_owned(), "v".to_owned())].into(),
            hold: hold.map(str::to_owned),
            not_before: Duration::ZERO,
            priority: 0,
            attached: Vec::new(),
        };
        self.admin.spool.enqueue(message).await.unwrap();
        self.clock.advance(Duration::from_secs(1));
        id
    }

    /// One recipient of the first due unit is done, the other deferred.
    async fn defer_one(&self) {
        let spool = &self.admin.spool;
        let lease = spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        let unit = spool.scan_due(&lease, None, self.clock.now(), 1).await.unwrap().remove(0);
        let mut left = unit.recipients[1].clone();
        left.last_status = Some(Status::local(EnhancedCode::new(4, 4, 1), "no route"));
        let after = NextState::RetryAt(self.clock.now() + Duration::from_secs(300));
        let settle = Settlement { unit, remaining: vec![left], attempts: 1, next_state: after, generated: Vec::new() };
        spool.settle(&lease, settle).await.unwrap();
    }

    async fn page(&self, after: Option<String>, limit: u32) -> QueuePage {
        let ControlResponse::Queue(page) = self.admin.handle(ControlRequest::QueueList { after, limit }).await else {
            panic!("no page")
        };
        page
    }

    async fn refused(&self, request: ControlRequest) -> ControlErrorKind {
        let ControlResponse::Error(problem) = self.admin.handle(request).await else { panic!("not refused") };
        problem.kind
    }
}

#[tokio::test]
async fn the_queue_is_listed_page_by_page() {
    let bench = bench().await;
    assert_eq!(bench.page(None, 10).await, QueuePage::default());
    let first = bench.put(None).await;
    bench.defer_one().await;
    let second = bench.put(None).await;
    let held = bench.put(Some("looks odd")).await;
    let whole = bench.page(None, 10).await;
    let seen: Vec<_> = whole.units.iter().map(|u| (u.id, u.state, u.recipients.len())).collect();
    let wanted = [(held, QueueState::Hold, 2), (second, QueueState::Incoming, 2), (first, QueueState::Deferred, 1)];
    assert_eq!(seen, wanted);
    assert_eq!(whole.units[0].reason.as_deref(), Some("looks odd"));
    assert_eq!(whole.units[0].next_at, None);
    let deferred = &whole.units[2];
    assert_eq!((deferred.attempts, deferred.recipients[0].address.as_str()), (1, "c@y.example"));
    assert_eq!(deferred.recipients[0].last.as_ref().map(|last| last.enhanced.as_str()), Some("4.4.1"));
    assert_eq!(whole.totals, QueueTotals { incoming: 1, deferred: 1, hold: 1, corrupt: 0 });
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = bench.page(after, 1).await;
        pages.extend(page.units);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, whole.units);
    let nowhere = ControlRequest::QueueList { after: Some("due.x".into()), limit: 1 };
    assert_eq!(bench.refused(nowhere).await, ControlErrorKind::BadRequest);
}

#[tokio::test]
async fn any_engine_of_the_queue_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(&[TRACE_KEYSPACE, RECORDING_KEYSPACE, USERS_KEYSPACE]);
    let store = Store::open(&dir.path().join("store"), &options).unwrap();
    let spool = Arc::new(MemorySpool::new(MemorySpoolSettings::default()));
    let bench = bench_on(spool, &store, dir, Arc::default()).await;
    let id = bench.put(Some("why")).await;
    let page = bench.page(None, 10).await;
    assert_eq!(page.units.iter().map(|unit| (unit.id, unit.state)).collect::<Vec<_>>(), [(id, QueueState::Hold)]);
    assert_eq!(page.totals.hold, 1);
}

#[tokio::test]
async fn a_message_is_shown_with_its_header() {
    let bench = bench().await;
    let id = bench.put(None).await;
    bench.defer_one().await;
    let ControlResponse::Message(message) = bench.admin.handle(ControlRequest::QueueShow { id }).await else { panic!() };
    assert_eq!(message.header.as_deref(), Some("Subject: hi\r\n\r\n"));
    assert_eq!((message.source.as_deref(), message.eight_bit, message.size), (Some("forward"), true, 21));
    assert_eq!(message.tags, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(message.units.len(), 1);
    assert_eq!(message.units[0].recipients[0].address, "c@y.example");
    let other = QueueId::from_u64(1);
    assert_eq!(bench.refused(ControlRequest::QueueShow { id: other }).await, ControlErrorKind::NotFound);
}

#[tokio::test]
async fn traces_are_found_or_missed() {
    let bench = bench().await;
    let id = bench.admin.spool.next_queue_id(bench.clock.now());
    assert_eq!(bench.refused(ControlRequest::Trace { id }).await, ControlErrorKind::NotFound);
    let record = TraceRecord {
        id: id.to_string(),
        at: bench.clock.now(),
        part: "intake".into(),
        peer: "internal".into(),
        sender: "a@x.example".into(),
        recipients: vec!["b@y.example".into()],
        size: 5,
        result: "550 5.7.1 no".into(),
        entries: Vec::new(),
    };
    bench.admin.traces.record(record.clone());
    for request in [ControlRequest::Trace { id }, ControlRequest::TraceLast { limit: 5 }] {
        let ControlResponse::Trace { records } = bench.admin.handle(request).await else { panic!() };
        let records: Vec<TraceRecord> = records.into_iter().map(|r| serde_json::from_value(r).unwrap()).collect();
        assert_eq!(records, std::slice::from_ref(&record));
    }
}

#[tokio::test]
async fn the_rest_is_answered_too() {
    let bench = bench().await;
    assert_eq!(bench.admin.handle(ControlRequest::Ping).await, ControlResponse::Pong(bench.admin.info.clone()));
    assert_eq!(bench.admin.handle(ControlRequest::PluginList).await, ControlResponse::Plugins { plugins: Vec::new() });
    let nothing = ControlResponse::PluginChanges { changes: Vec::new() };
    assert_eq!(bench.admin.handle(ControlRequest::PluginReload { name: None }).await, nothing);
    let name = || "spam".to_owned();
    for request in [
        ControlRequest::PluginReload { name: Some(name()) },
        ControlRequest::PluginRollback { name: name() },
        ControlRequest::PluginPromote { name: name() },
    ] {
        assert_eq!(bench.refused(request).await, ControlErrorKind::NotFound);
    }
    let ControlResponse::Config { file, text } = bench.admin.handle(ControlRequest::ConfigShow).await else { panic!() };
    assert!(file == "w.toml" && text.contains("myhostname = \"h.example\""));
}

#[test]
fn page_keys_read_back() {
    let id = QueueId::from_u64(5);
    let due = ListKey::Due(DueKey { next_at: Timestamp::from_millis(7), id, number: 2 });
    for key in [ListKey::Suspended(id, 3), due] {
        assert_eq!(parse_page_key(&format_page_key(key)), Some(key));
    }
    assert_eq!(parse_page_key("parked.x.1"), None);
}

#[tokio::test]
async fn what_is_being_tried_is_active_unless_it_is_held() {
    let mut bench = bench().await;
    let (tried, held, waiting) = (bench.put(None).await, bench.put(Some("why")).await, bench.put(None).await);
    bench.admin.active_units = [(tried, 0), (held, 0)].into_iter().collect();
    let ControlResponse::Queue(page) = bench.admin.handle(ControlRequest::QueueList { after: None, limit: 10 }).await else {
        panic!()
    };
    let states: Vec<_> = page.units.iter().map(|unit| (unit.id, unit.state)).collect();
    assert_eq!(states, [(held, QueueState::Hold), (tried, QueueState::Active), (waiting, QueueState::Incoming)]);
    let ControlResponse::Message(shown) = bench.admin.handle(ControlRequest::QueueShow { id: tried }).await else { panic!() };
    assert_eq!(shown.units[0].state, QueueState::Active);
}

#[tokio::test]
async fn numbers_are_shown_as_prometheus_reads_them() {
    use waxwing_pipeline::Metrics;
    let bench = bench().await;
    bench.put(Some("why")).await;
    bench.admin.metrics.count("waxwing_plugin_seen", &[("plugin", "x")], 3);
    let ControlResponse::Metrics { text } = bench.admin.handle(ControlRequest::Metrics).await else { panic!("another answer") };
    for line in [
        "# TYPE waxwing_queue_units gauge",
        "waxwing_queue_units{state=\"hold\"} 1",
        "waxwing_queue_messages_total 1",
        "# TYPE waxwing_plugin_breaker_state gauge",
        "waxwing_plugin_seen{plugin=\"x\"} 3",
        "waxwing_metrics_dropped_total 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn users_come_and_go_by_records_and_none_of_plain_text() {
    let bench = bench().await;
    let records = |texts: &[&str]| texts.iter().map(|text| PasswordRecordText((*text).to_owned())).collect::<Vec<_>>();
    let hash = "{CRYPT}$6$salt$hash";
    let add = |name: &str, texts: &[&str]| ControlRequest::UserAdd { name: name.into(), records: records(texts) };
    assert_eq!(bench.admin.handle(add("Anna", &[hash])).await, ControlResponse::UserChanged);
    let list = bench.admin.handle(ControlRequest::UserList { after: None }).await;
    let anna = UserStatus { name: "anna".into(), schemes: vec!["SHA512-CRYPT".into()] };
    assert_eq!(list, ControlResponse::Users { users: vec![anna.clone()], next: None });
    assert_eq!(bench.admin.handle(ControlRequest::UserShow { name: "ANNA".into() }).await, list);
    for (request, kind) in [
        (add("anna", &[hash]), ControlErrorKind::Exists),
        (add("a:b", &[hash]), ControlErrorKind::BadRequest),
        (add("bob", &["{PLAIN}x"]), ControlErrorKind::BadRequest),
        (add("bob", &[]), ControlErrorKind::Failed),
        (ControlRequest::UserPasswd { name: "bob".into(), records: records(&[hash]) }, ControlErrorKind::NotFound),
        (ControlRequest::UserDelete { name: "bob".into() }, ControlErrorKind::NotFound),
    ] {
        let ControlResponse::Error(problem) = bench.admin.handle(request).await else { panic!("done") };
        assert_eq!(problem.kind, kind, "{problem}");
    }
    assert_eq!(bench.admin.handle(ControlRequest::UserDelete { name: "anna".into() }).await, ControlResponse::UserChanged);
    for number in 0..=USER_PAGE_MAX {
        bench.admin.users.change(&format!("u{number:04}"), UserChange::Add(vec![hash.to_owned()])).await.unwrap();
    }
    let ControlResponse::Users { users, next } = bench.admin.handle(ControlRequest::UserList { after: None }).await else {
        panic!("no page")
    };
    assert_eq!((users.len(), next.as_deref()), (USER_PAGE_MAX, Some("u0999")));
    let ControlResponse::Users { users, next } = bench.admin.handle(ControlRequest::UserList { after: next }).await else {
        panic!("no page")
    };
    assert_eq!((users.len(), next), (1, None));
}
