//! Queue manager over the spool in memory, in two shards, with real SMTP over loopback and a scripted server.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::net::TcpListener;
use waxwing_config::{QueueConfig, Route, ScanRejectAction, SmtpConfig};
use waxwing_net::{SessionHandler, Shutdown, ShutdownTrigger, TlsConnector, TlsMode, drive, spawn};
use waxwing_pipeline::{
    Binding, DnsError, EventSink, InternalMessage, MxHost, Pipeline, Placement, PreparedMessage, Submit, SubmitError, Trace,
    TraceRecord, Transport,
};
use waxwing_smtp::server::{DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_smtp::{ClientSettings, ServerSession, ServerSettings};
use waxwing_spool::{MemorySpool, MemorySpoolSettings, NewBody, NewMessage, Spool};
use waxwing_testkit::{FakeResolver, FixedClassifier};
use waxwing_types::{
    Address, BodyType, Clock, Envelope, ManualClock, Origin, Recipient, Reply, ReversePath, Source, Tags, Timestamp, TlsLevel,
};

use super::*;

mod commands;
mod extensions;
mod faults;
mod hooks;

/// What a server says: by recipient, and at the end of data.
type ReplyScript = fn(&str) -> Option<Reply>;

#[derive(Default)]
struct RemoteLog {
    messages: Mutex<Vec<(Vec<String>, Vec<u8>)>>,
    connections: AtomicUsize,
}

/// A remote server's host: keeps what it gets.
struct Remote {
    seen: Arc<RemoteLog>,
    script: ReplyScript,
    to: Vec<String>,
    octets: Vec<u8>,
}

impl SessionHandler<ServerSession> for Remote {
    async fn answer(&mut self, question: ServerQuestion) -> ServerAnswer {
        match question {
            ServerQuestion::Connect => (self.script)("connect").map_or(StepAnswer::Ok, StepAnswer::Reply).into(),
            ServerQuestion::Rcpt { recipient, .. } => match (self.script)(recipient.local()) {
                Some(reply) => ServerAnswer::Step(StepAnswer::Reply(reply)),
                None => {
                    self.to.push(recipient.to_string());
                    ServerAnswer::Step(StepAnswer::Ok)
                }
            },
            ServerQuestion::EndOfData => {
                let message = (std::mem::take(&mut self.to), std::mem::take(&mut self.octets));
                match (self.script)("data") {
                    Some(reply) => ServerAnswer::Message(MessageAnswer::Reject(reply)),
                    None => {
                        self.seen.messages.lock().unwrap().push(message);
                        ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "kept")))
                    }
                }
            }
            ServerQuestion::Reset => {
                self.to.clear();
                ServerAnswer::Drop(DropAnswer::Done)
            }
            ServerQuestion::Secured(_)
            | ServerQuestion::Auth(_)
            | ServerQuestion::Xclient(_)
            | ServerQuestion::Command { .. }
            | ServerQuestion::Helo { .. }
            | ServerQuestion::Mail { .. }
            | ServerQuestion::Data => ServerAnswer::Step(StepAnswer::Ok),
        }
    }

    async fn body(&mut self, chunk: Bytes) {
        self.octets.extend_from_slice(&chunk);
    }
}

/// Serves on a port of its own until the test ends.
async fn remote(words: ReplyScript, clock: Arc<dyn Clock>, shutdown: Shutdown) -> (SocketAddr, Arc<RemoteLog>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(RemoteLog::default());
    let kept = Arc::clone(&seen);
    drop(spawn("remote", async move {
        while let Ok((stream, _)) = listener.accept().await {
            kept.connections.fetch_add(1, Ordering::Relaxed);
            let session = ServerSession::new(Arc::new(ServerSettings::new("remote.test")));
            let host = Remote { seen: Arc::clone(&kept), script: words, to: Vec::new(), octets: Vec::new() };
            drop(spawn("session", drive(stream, TlsMode::None, session, host, Arc::clone(&clock), shutdown.clone())));
        }
    }));
    (address, seen)
}

/// Takes reports as they are, but for the first few.
struct FakeSubmit {
    unavailable: AtomicUsize,
}

#[async_trait]
impl Submit for FakeSubmit {
    async fn prepare(&self, mail: InternalMessage) -> Result<PreparedMessage, SubmitError> {
        if self.unavailable.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            return Err(SubmitError::Temporary("a plugin rests".to_owned()));
        }
        let InternalMessage { id, envelope, content, tags, .. } = mail;
        let at = content.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        Ok(PreparedMessage {
            id,
            envelope,
            header: content.slice(..at),
            body: content.slice(at..),
            tags,
            placement: Placement::default(),
            attached: Vec::new(),
        })
    }
}

/// What was recorded and told.
#[derive(Default)]
struct EventRecorder {
    traces: Mutex<Vec<TraceRecord>>,
    events: Mutex<Vec<(String, String)>>,
}

impl Trace for EventRecorder {
    fn record(&self, record: TraceRecord) {
        self.traces.lock().unwrap().push(record);
    }
}

impl EventSink for EventRecorder {
    fn has_subscribers(&self) -> bool {
        true
    }

    fn publish(&self, name: &str, json: String) {
        self.events.lock().unwrap().push((name.to_owned(), json));
    }
}

struct DeliveryHarness {
    spool: Arc<MemorySpool>,
    clock: Arc<ManualClock>,
    remote: SocketAddr,
    seen: Arc<RemoteLog>,
    stop: ShutdownTrigger,
    active: ActiveUnits,
    recorder: Arc<EventRecorder>,
    manager: tokio::task::JoinHandle<()>,
    handle: QueueManagerHandle,
}

/// What a test may want otherwise.
struct HarnessOptions {
    new_units_max: usize,
    active_limit: usize,
    /// Reports that can't be made at first.
    reports_unavailable: usize,
    /// Messages that are there before the manager.
    waiting: usize,
    /// Plugins.
    bindings: Vec<Arc<Binding>>,
    scan_refusal: ScanRejectAction,
    tls: TlsLevel,
    connector: Option<TlsConnector>,
}

const DEFAULT_OPTIONS: HarnessOptions = HarnessOptions {
    new_units_max: 4_096,
    active_limit: 20_000,
    reports_unavailable: 0,
    waiting: 0,
    bindings: Vec::new(),
    scan_refusal: ScanRejectAction::Hold,
    tls: TlsLevel::None,
    connector: None,
};

async fn harness(words: ReplyScript, routes: impl FnOnce(u16) -> BTreeMap<String, Route>) -> DeliveryHarness {
    harness_with(DEFAULT_OPTIONS, words, routes).await
}

async fn harness_with(
    wishes: HarnessOptions,
    words: ReplyScript,
    routes: impl FnOnce(u16) -> BTreeMap<String, Route>,
) -> DeliveryHarness {
    let clock = Arc::new(ManualClock::default());
    let (stop, shutdown) = Shutdown::new();
    let settings = MemorySpoolSettings { shards: 2, new_units_max: wishes.new_units_max, ..MemorySpoolSettings::default() };
    let spool = Arc::new(MemorySpool::new(settings));
    let (remote, seen) = remote(words, clock.clone(), shutdown.clone()).await;
    let mx = |names: &[&str]| Ok(names.iter().map(|name| MxHost { preference: 10, name: (*name).to_owned() }).collect());
    let names = FakeResolver::default()
        .with_mx("mx.example", mx(&["remote.test"]))
        .with_mx("self.example", mx(&["us.test"]))
        .with_mx("null.example", Err(DnsError::NullMx))
        .with_mx("two.example", mx(&["broken.test", "remote.test"]))
        .with_addresses("broken.test", Ok(vec![IpAddr::from([127, 0, 0, 2])]))
        .with_addresses("nowhere.test", Err(DnsError::NoSuchName))
        .with_default_addresses(Ok(vec![IpAddr::from([127, 0, 0, 1])]));
    let smtp = smtp_settings(remote.port(), wishes.tls, wishes.connector);
    let pipeline = Arc::new(Pipeline::new(wishes.bindings, Arc::new(FixedClassifier::REMOTE), clock.clone()));
    let transports: [Arc<dyn Transport>; 4] = [
        Arc::new(PluginTransport::new("plugged".into(), "p".into(), pipeline.clone(), 4)),
        Arc::new(SmtpTransport::new(smtp, Arc::new(names), clock.clone(), shutdown.clone())),
        Arc::new(DiscardTransport),
        Arc::new(ErrorTransport),
    ];
    let routes = waxwing_config::TransportsConfig {
        transport_maps: routes(remote.port()),
        relayhost: None,
        local_transport: Route::for_transport("local"),
        virtual_transport: Route::for_transport("virtual"),
        relay_transport: Route::for_transport("relay"),
        default_transport: Route::for_transport("smtp"),
    };
    let kept = Arc::new(EventRecorder::default());
    let queue = QueueConfig {
        qmgr_message_active_limit: wishes.active_limit,
        scan_refusal: wishes.scan_refusal,
        ..QueueConfig::default()
    };
    let ways = RoutingConfig {
        settings: DeliverySettings::new("us.test", queue),
        router: Router::new(Arc::new(FixedClassifier::REMOTE), routes),
        transports: transports.into_iter().map(|t| (t.name().to_owned(), t)).collect(),
    };
    let parts = DeliveryServices {
        routing: CurrentRouting::new(ways),
        spool: spool.clone(),
        pipeline,
        submit: Arc::new(FakeSubmit { unavailable: AtomicUsize::new(wishes.reports_unavailable) }),
        events: kept.clone(),
        trace: kept.clone(),
        clock: clock.clone(),
    };
    for number in 0..wishes.waiting {
        enqueue(&spool, clock.now(), "a@us.test", &["x@mx.example"], &format!("waiting {number}\r\n")).await;
    }
    let manager = QueueManager::new(parts).await.unwrap();
    let (active, handle) = (manager.active_units(), manager.handle());
    let manager = spawn("manager", async move { manager.run(shutdown).await.unwrap() });
    DeliveryHarness { spool, clock, remote, seen, stop, active, recorder: kept, manager, handle }
}

fn smtp_settings(port: u16, tls: TlsLevel, connector: Option<TlsConnector>) -> SmtpSettings {
    let config = SmtpConfig {
        smtp_helo_name: "us.test".into(),
        smtp_tcp_port: port,
        smtp_connect_timeout: Duration::from_secs(5),
        smtp_connection_cache_time_limit: Duration::from_millis(200),
        ..SmtpConfig::default()
    };
    SmtpSettings {
        name: "smtp".into(),
        myhostname: "us.test".into(),
        relayhost: None,
        client: Arc::new(ClientSettings::new(Arc::new(config))),
        connector,
        tls: TlsPolicy { default: tls, ..TlsPolicy::default() },
        smtp_mx_address_limit: 5,
        default_destination_concurrency_limit: 20,
        conversion_bytes_max: 1 << 20,
    }
}

async fn enqueue(spool: &MemorySpool, received_at: Timestamp, sender: &str, to: &[&str], body: &str) {
    spool.enqueue(new_message(spool, received_at, sender, to, body)).await.unwrap();
}

fn new_message(spool: &MemorySpool, received_at: Timestamp, sender: &str, to: &[&str], body: &str) -> NewMessage {
    let sender = if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(address(sender)) };
    NewMessage {
        id: spool.next_queue_id(received_at),
        envelope: Envelope {
            sender,
            recipients: to.iter().map(|a| Recipient::new(address(a))).collect(),
            body_type: BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Source::Smtp, received_at),
        },
        header: Bytes::from_static(b"Subject: s\r\n\r\n"),
        body: NewBody::inline(Bytes::copy_from_slice(body.as_bytes())).unwrap(),
        tags: Tags::new(),
        hold: None,
        not_before: Duration::ZERO,
        priority: 0,
        attached: Vec::new(),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

impl DeliveryHarness {
    async fn send(&self, sender: &str, to: &[&str], body: &str) {
        enqueue(&self.spool, self.clock.now(), sender, to, body).await;
    }

    /// Waits until the queue holds this many units; a test that waits too long fails.
    async fn settled(&self, units: usize) {
        let wait = async {
            loop {
                // The list reads the disk, the counts know what is on its way there.
                let stats = self.spool.stats();
                let page = self.spool.list(None, 1_000).await.unwrap();
                let counted = usize::try_from(stats.incoming + stats.deferred).unwrap();
                if counted == units
                    && page.entries.len() == units
                    && page.entries.iter().all(|e| e.unit.as_ref().is_some_and(|u| u.attempts > 0))
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
    }

    fn received_messages(&self) -> Vec<(Vec<String>, String)> {
        let kept = self.seen.messages.lock().unwrap();
        kept.iter().map(|(to, octets)| (to.clone(), String::from_utf8(octets.clone()).unwrap())).collect()
    }
}

fn by_mx(_: u16) -> BTreeMap<String, Route> {
    BTreeMap::new()
}

#[tokio::test]
async fn relays_to_the_mx_octet_for_octet() {
    let house = harness(|_| None, by_mx).await;
    house.send("a@us.test", &["x@mx.example", "y@mx.example"], ".dot\r\n..\r\nend\r\n").await;
    house.settled(0).await;
    let message = "Subject: s\r\n\r\n.dot\r\n..\r\nend\r\n".to_owned();
    assert_eq!(house.received_messages(), [(vec!["x@mx.example".to_owned(), "y@mx.example".to_owned()], message)]);
}

#[tokio::test]
async fn many_messages_share_few_connections() {
    let house = harness(|_| None, by_mx).await;
    for number in 0..200 {
        house.send("a@us.test", &["x@mx.example"], &format!("{number}\r\n")).await;
    }
    house.settled(0).await;
    let mut bodies: Vec<String> = house.received_messages().into_iter().map(|(_, m)| m).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 200, "each exactly once");
    assert!(house.seen.connections.load(Ordering::Relaxed) <= 20);
}

#[tokio::test]
async fn a_deferred_recipient_is_tried_again_and_the_others_are_not() {
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    let words: ReplyScript = |who| {
        let first = who == "later" && TRIES.fetch_add(1, Ordering::Relaxed) == 0;
        first.then(|| Reply::fixed(450, (4, 2, 0), "come back"))
    };
    let house = harness(words, by_mx).await;
    house.send("a@us.test", &["now@mx.example", "later@mx.example"], "x\r\n").await;
    house.settled(1).await;
    let page = house.spool.list(None, 10).await.unwrap();
    let unit = page.entries[0].unit.clone().unwrap();
    assert_eq!(unit.recipients[0].last_status.as_ref().unwrap().text, "4.2.0 come back");
    assert!(unit.next_at.since(house.clock.now()) >= Duration::from_secs(290));
    house.clock.advance(Duration::from_secs(301));
    // Time was moved by hand: any event makes the manager look at the clock.
    house.send("a@us.test", &["wake@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let to: Vec<String> = house.received_messages().into_iter().flat_map(|(to, _)| to).collect();
    assert_eq!(to.iter().filter(|t| t.starts_with("now")).count(), 1);
    assert_eq!(to.iter().filter(|t| t.starts_with("later")).count(), 1);
}

#[tokio::test]
async fn a_failure_is_reported_to_the_sender_once_and_a_failed_report_to_nobody() {
    let words: ReplyScript = |who| (who == "gone").then(|| Reply::fixed(550, (5, 1, 1), "no such user"));
    let house = harness(words, by_mx).await;
    house.send("sender@mx.example", &["gone@mx.example"], "x\r\n").await;
    house.send("", &["gone@mx.example"], "x\r\n").await;
    house.settled(0).await;
    let kept = house.received_messages();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(kept[0].0, ["sender@mx.example"]);
    assert!(kept[0].1.contains("Final-Recipient: rfc822; gone@mx.example"), "{}", kept[0].1);
    assert!(kept[0].1.contains("Status: 5.1.1"), "{}", kept[0].1);
}

#[tokio::test]
async fn names_without_servers_fail_and_servers_that_are_down_defer() {
    let house = harness(
        |_| None,
        |port| {
            let down = Route { transport: "smtp".into(), nexthop: format!("[127.0.0.9]:{port}") };
            let bounce = Route { transport: "error".into(), nexthop: "5.7.1 not here".into() };
            BTreeMap::from([("down.example".to_owned(), down), ("no.example".to_owned(), bounce)])
        },
    )
    .await;
    for domain in ["self.example", "null.example", "unknown.example", "no.example"] {
        house.send("", &[&format!("x@{domain}")], "x\r\n").await;
    }
    house.send("", &["x@down.example"], "x\r\n").await;
    house.settled(1).await;
    let page = house.spool.list(None, 10).await.unwrap();
    let last = page.entries[0].unit.clone().unwrap().recipients[0].last_status.clone().unwrap();
    assert_eq!(last.enhanced.to_string(), "4.4.1");
    assert!(last.text.contains(&house.remote.port().to_string()), "{}", last.text);
}

#[tokio::test]
async fn a_greeting_that_refuses_defers() {
    let words: ReplyScript = |who| (who == "connect").then(|| Reply::fixed(421, (4, 3, 2), "too busy"));
    let house = harness(words, by_mx).await;
    house.send("a@us.test", &["x@mx.example"], "x\r\n").await;
    house.settled(1).await;
    house.stop.trigger();
}
