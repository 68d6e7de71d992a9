//! Wires the parts: the one place that knows which part gets which.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use waxwing_accounts::{Accounts, LoginMemory, random};
use waxwing_config::Config;
use waxwing_control::ServerInfo;
use waxwing_delivery::{CurrentWays, QueueManager};
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Context, Event, Pipeline, UserStore};
use waxwing_queue::{EmbeddedSpool, Spool, SpoolError, SpoolSettings};
use waxwing_state::{
    KV_KEYSPACE, MetricsRegistry, RECORDING_KEYSPACE, RecordingLimits, RecordingStore, Redaction, StoredUsers, TRACE_KEYSPACE,
    TraceLimits, TraceStore, USERS_KEYSPACE, Waiting,
};
use waxwing_store::{Store, StoreOptions};
use waxwing_types::{Clock, Via};

use crate::desk::Desk;
use crate::events::EventLine;
use crate::listen::{Doors, shared};
use crate::outbound::Joined;
use crate::plugins::Keeper;
use crate::ports::Opened;
use crate::reload::{Lasting, Reloader};
use crate::supervisor::Supervisor;
use crate::tls::Handshakes;
use crate::{control, outbound, plugins, ports};

/// Below `queue_directory`: the database.
const STORE_DIRECTORY: &str = "store";
/// Below `queue_directory`: bodies that are too large for it.
const BODIES_DIRECTORY: &str = "bodies";
/// Between two sweeps of the traces.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Between two calls of on-tick.
const TICK_PERIOD: Duration = Duration::from_secs(60);

/// What the start has prepared.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) file: PathBuf,
    pub(crate) control: UnixListener,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) shutdown: Shutdown,
}

/// What has been built.
pub(crate) struct Server {
    /// Closes when the last part that holds it is gone.
    pub(crate) store: Store,
    /// Still closed: mail comes in when they are opened.
    pub(crate) doors: Arc<Doors>,
    /// Ends with the shutdown, or because it can't go on: then the server is of no use.
    pub(crate) manager: JoinHandle<Result<(), SpoolError>>,
    /// Reads the configuration again. It holds a [`Shutdown`], so that it must go before the end is waited for.
    pub(crate) reloader: Arc<Reloader>,
}

/// Builds everything and starts its tasks. When this returns, the server can serve.
pub(crate) async fn start(parts: Parts) -> anyhow::Result<Server> {
    let Parts { config, file, control, handshakes, clock, supervisor, shutdown } = parts;
    let store = open_store(&config)?;
    // Ends with the store; it is told of nothing else.
    drop(spawn("store", store.pump()));
    let spool: Arc<dyn Spool> = Arc::new(open_spool(&config, &store, &clock).await?);
    let (traces, recordings) = open_records(&config, &store, &clock, &shutdown)?;
    let accounts = Arc::new(Accounts::open(&config, &clock)?);
    let (users, logins) = logins(&store, &clock)?;
    let resolver = outbound::resolver(&config);
    let metrics = Arc::new(MetricsRegistry::default());
    let opened =
        Opened { store: &store, spool: &spool, resolver: &resolver, metrics: &metrics, clock: &clock, shutdown: &shutdown };
    let (answers, ports) = ports::open(&config, &opened)?;
    let loaded = plugins::load(&config, &accounts, &clock, waxwing_bundle::standard, ports).await?;
    let pipeline = Arc::new(Pipeline::new(loaded.bindings(), Arc::clone(&accounts) as _, Arc::clone(&clock)));
    let keeper = Keeper::new(loaded, Arc::clone(&pipeline));
    drop(spawn("plugin files", Arc::clone(&keeper).poll(shutdown.clone())));
    let door = shared(&config, Arc::clone(&metrics) as _, &clock);
    let lasting = Lasting {
        file: file.clone(),
        pipeline: Arc::clone(&pipeline),
        spool: Arc::clone(&spool),
        trace: Arc::clone(&traces) as _,
        recorder: Arc::clone(&recordings) as _,
        resolver,
        answers,
        clock: Arc::clone(&clock),
        door: Arc::clone(&door),
        users: Arc::clone(&users),
        logins,
        shutdown: shutdown.clone(),
    };
    let (ways, prober) = lasting.ways(&config, &accounts)?;
    let current = lasting.current(&config, &accounts, handshakes, prober)?;
    let doors = Doors::new(current, Arc::clone(&door), shutdown.clone());
    drop(spawn("ticks", ticks(Arc::clone(&pipeline), Arc::clone(&doors), shutdown.clone())));
    let ways = CurrentWays::new(ways);
    let manager = queue_manager(&lasting, &ways, &doors).await?;
    let active = manager.active();
    let manager = spawn("queue manager", manager.run(shutdown.clone()));
    let config = Arc::new(ArcSwap::new(config));
    let reloader = Arc::new(Reloader {
        lasting,
        config: Arc::clone(&config),
        keeper: Arc::clone(&keeper),
        ways,
        doors: Arc::clone(&doors),
        supervisor,
        turn: tokio::sync::Mutex::default(),
    });
    let (reloads, info) = (Arc::clone(&reloader) as _, server_info(&config.load(), &clock));
    let desk = {
        let doors = Some(Arc::clone(&doors));
        Desk { info, config, file, spool, traces, recordings, pipeline, keeper, metrics, active, door, reloads, users, doors }
    };
    drop(spawn("control", answer(control, Arc::new(desk), shutdown)));
    Ok(Server { store, doors, manager, reloader })
}

/// The users of the store, and what is remembered of logins.
fn logins(store: &Store, clock: &Arc<dyn Clock>) -> anyhow::Result<(Arc<dyn UserStore>, Arc<LoginMemory>)> {
    let none = "no random octets for the logins";
    let users = StoredUsers::open(store, random().context(none)?)?;
    let memory = LoginMemory::new(Arc::clone(clock), users.secret()).context(none)?;
    Ok((users, memory))
}

fn server_info(config: &Config, clock: &Arc<dyn Clock>) -> ServerInfo {
    ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        hostname: config.myhostname.clone(),
        started_at: clock.now(),
    }
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let own = [TRACE_KEYSPACE, RECORDING_KEYSPACE, KV_KEYSPACE, USERS_KEYSPACE];
    let keyspaces: Vec<&'static str> = waxwing_queue::KEYSPACES.into_iter().chain(own).collect();
    Ok(Store::open(&config.queue_directory.join(STORE_DIRECTORY), &StoreOptions::new(&keyspaces))?)
}

/// What is remembered of each transaction.
fn open_records(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> anyhow::Result<(Arc<TraceStore>, Arc<RecordingStore>)> {
    let limits = TraceLimits { bytes_max: config.trace.bytes_max, age_max: config.trace.age_max };
    let traces = Arc::new(TraceStore::open(store, limits)?);
    drop(spawn("traces", sweep(Arc::clone(&traces), Arc::clone(clock), shutdown.clone())));
    let (recordings, waiting) = RecordingStore::open(store, recording_limits(config), Arc::clone(clock))?;
    drop(spawn("recordings", record(Arc::clone(&recordings), waiting, shutdown.clone())));
    Ok((traces, recordings))
}

async fn queue_manager(lasting: &Lasting, ways: &Arc<CurrentWays>, doors: &Arc<Doors>) -> anyhow::Result<QueueManager> {
    outbound::queue_manager(Joined {
        ways: Arc::clone(ways),
        pipeline: Arc::clone(&lasting.pipeline),
        spool: Arc::clone(&lasting.spool),
        submit: Arc::clone(doors) as _,
        events: EventLine::start(&lasting.pipeline, lasting.shutdown.clone()) as _,
        trace: Arc::clone(&lasting.trace),
        clock: Arc::clone(&lasting.clock),
    })
    .await
}

async fn open_spool(config: &Config, store: &Store, clock: &Arc<dyn Clock>) -> anyhow::Result<EmbeddedSpool> {
    let mut settings = SpoolSettings::new(config.message_size_limit, Arc::clone(clock));
    settings.queue_minfree = config.queue_minfree;
    Ok(EmbeddedSpool::open(store, &config.queue_directory.join(BODIES_DIRECTORY), settings).await?)
}

async fn sweep(traces: Arc<TraceStore>, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PERIOD) => {}
            () = shutdown.wait() => return,
        }
        match traces.sweep(clock.now()).await {
            Ok(swept) if swept.records > 0 => tracing::debug!(swept.records, swept.bytes, "old traces removed"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old traces could not be removed"),
        }
    }
}

fn recording_limits(config: &Config) -> RecordingLimits {
    let recording = &config.recording;
    RecordingLimits {
        bytes_max: recording.bytes_max,
        age_max: recording.age_max,
        redaction: Redaction { body: recording.redact_body, headers: recording.redact_headers.clone() },
    }
}

/// Writes recordings, and removes old ones also where none are made any more.
async fn record(recordings: Arc<RecordingStore>, waiting: Waiting, mut shutdown: Shutdown) {
    tokio::select! {
        result = recordings.run(waiting) => if let Err(error) = result {
            tracing::warn!(%error, "transactions can't be recorded");
        },
        () = shutdown.wait() => {}
    }
}

/// Calls on-tick, and sends what plugins have to send then.
async fn ticks(pipeline: Arc<Pipeline>, doors: Arc<Doors>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK_PERIOD) => {}
            () = shutdown.wait() => return,
        }
        let mut context = Context::new(Via::Api, None);
        pipeline.tell(&mut pipeline.chain(), &mut context, Event::Tick).await;
        doors.intake().send(&mut context).await;
    }
}

async fn answer(listener: UnixListener, desk: Arc<Desk>, shutdown: Shutdown) {
    if let Err(error) = control::serve(listener, desk, shutdown).await {
        tracing::error!(%error, "the control socket is closed");
    }
}
