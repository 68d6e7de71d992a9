//! Composition root: builds all services and connects them.

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

/// Directory of the database, below `queue_directory`.
const STORE_DIRECTORY: &str = "store";
/// Directory of large message bodies, below `queue_directory`.
const BODIES_DIRECTORY: &str = "bodies";
/// Interval of the sweeps of old traces.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Interval of the `on-tick` calls.
const TICK_PERIOD: Duration = Duration::from_secs(60);

/// Input of the startup, prepared with root privileges.
pub(crate) struct Parts {
    pub(crate) config: Arc<Config>,
    pub(crate) file: PathBuf,
    pub(crate) control: UnixListener,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) shutdown: Shutdown,
}

/// Services of a running server.
pub(crate) struct Server {
    /// Database; closes with the last handle.
    pub(crate) store: Store,
    /// Listeners, still closed: mail arrives once opened.
    pub(crate) doors: Arc<Doors>,
    /// Queue manager task; ends at shutdown, or on a fatal error that must stop the server.
    pub(crate) manager: JoinHandle<Result<(), SpoolError>>,
    /// Reloads the configuration. Holds a [`Shutdown`], so must be dropped before waiting for the shutdown.
    pub(crate) reloader: Arc<Reloader>,
}

/// Builds all services and starts their tasks. The server can accept mail after the return.
pub(crate) async fn start(parts: Parts) -> anyhow::Result<Server> {
    let Parts { config, file, control, handshakes, clock, supervisor, shutdown } = parts;
    let store = open_store(&config)?;
    // Ends with the store, not with the shutdown signal.
    drop(spawn("store", store.pump()));
    let spool: Arc<dyn Spool> = Arc::new(open_spool(&config, &store, &clock).await?);
    let (traces, recordings) = open_records(&config, &store, &clock, &shutdown)?;
    let accounts = Arc::new(Accounts::open(&config, &clock)?);
    let (users, logins) = logins(&store, &clock)?;
    let resolver = outbound::resolver(&config);
    let metrics = Arc::new(MetricsRegistry::default());
    let opened =
        Opened { store: &store, spool: &spool, resolver: &resolver, metrics: &metrics, clock: &clock, shutdown: &shutdown };
    let (verify_cache, plugin_services) = ports::open(&config, &opened)?;
    let loaded = plugins::load(&config, &accounts, &clock, waxwing_bundle::standard, plugin_services).await?;
    let pipeline = Arc::new(Pipeline::new(loaded.bindings(), Arc::clone(&accounts) as _, Arc::clone(&clock)));
    let plugin_manager = Keeper::new(loaded, Arc::clone(&pipeline));
    drop(spawn("plugin files", Arc::clone(&plugin_manager).poll(shutdown.clone())));
    let guard_state = shared(&config, Arc::clone(&metrics) as _, &clock);
    let shared_services = Lasting {
        file: file.clone(),
        pipeline: Arc::clone(&pipeline),
        spool: Arc::clone(&spool),
        trace: Arc::clone(&traces) as _,
        recorder: Arc::clone(&recordings) as _,
        resolver,
        answers: verify_cache,
        clock: Arc::clone(&clock),
        door: Arc::clone(&guard_state),
        users: Arc::clone(&users),
        logins,
        shutdown: shutdown.clone(),
    };
    let (routing, prober) = shared_services.ways(&config, &accounts)?;
    let current = shared_services.current(&config, &accounts, handshakes, prober)?;
    let listeners = Doors::new(current, Arc::clone(&guard_state), shutdown.clone());
    drop(spawn("ticks", ticks(Arc::clone(&pipeline), Arc::clone(&listeners), shutdown.clone())));
    let routing = CurrentWays::new(routing);
    let manager = queue_manager(&shared_services, &routing, &listeners).await?;
    let active = manager.active();
    let manager = spawn("queue manager", manager.run(shutdown.clone()));
    let config = Arc::new(ArcSwap::new(config));
    let reloader = Arc::new(Reloader {
        lasting: shared_services,
        config: Arc::clone(&config),
        keeper: Arc::clone(&plugin_manager),
        ways: routing,
        doors: Arc::clone(&listeners),
        supervisor,
        turn: tokio::sync::Mutex::default(),
    });
    let admin = Desk {
        info: server_info(&config.load(), &clock),
        config,
        file,
        spool,
        traces,
        recordings,
        pipeline,
        keeper: plugin_manager,
        metrics,
        active,
        door: guard_state,
        reloads: Arc::clone(&reloader) as _,
        users,
        doors: Some(Arc::clone(&listeners)),
    };
    drop(spawn("control", answer(control, Arc::new(admin), shutdown)));
    Ok(Server { store, doors: listeners, manager, reloader })
}

/// Opens the users of the store and the login cache.
fn logins(store: &Store, clock: &Arc<dyn Clock>) -> anyhow::Result<(Arc<dyn UserStore>, Arc<LoginMemory>)> {
    let message = "no system randomness";
    let users = StoredUsers::open(store, random().context(message)?)?;
    let memory = LoginMemory::new(Arc::clone(clock), users.secret()).context(message)?;
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
    let additional = [TRACE_KEYSPACE, RECORDING_KEYSPACE, KV_KEYSPACE, USERS_KEYSPACE];
    let keyspaces: Vec<&'static str> = waxwing_queue::KEYSPACES.into_iter().chain(additional).collect();
    Ok(Store::open(&config.queue_directory.join(STORE_DIRECTORY), &StoreOptions::new(&keyspaces))?)
}

/// Opens the stores of traces and recordings and starts their tasks.
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

async fn queue_manager(services: &Lasting, routing: &Arc<CurrentWays>, listeners: &Arc<Doors>) -> anyhow::Result<QueueManager> {
    outbound::queue_manager(Joined {
        ways: Arc::clone(routing),
        pipeline: Arc::clone(&services.pipeline),
        spool: Arc::clone(&services.spool),
        submit: Arc::clone(listeners) as _,
        events: EventLine::start(&services.pipeline, services.shutdown.clone()) as _,
        trace: Arc::clone(&services.trace),
        clock: Arc::clone(&services.clock),
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

/// Writes recordings, and removes old recordings even with recording disabled.
async fn record(recordings: Arc<RecordingStore>, waiting: Waiting, mut shutdown: Shutdown) {
    tokio::select! {
        result = recordings.run(waiting) => if let Err(error) = result {
            tracing::warn!(%error, "transactions can't be recorded");
        },
        () = shutdown.wait() => {}
    }
}

/// Calls `on-tick` at each interval, and enqueues the submissions of plugins.
async fn ticks(pipeline: Arc<Pipeline>, listeners: Arc<Doors>, mut shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK_PERIOD) => {}
            () = shutdown.wait() => return,
        }
        let mut context = Context::new(Via::Api, None);
        pipeline.tell(&mut pipeline.chain(), &mut context, Event::Tick).await;
        listeners.intake().send(&mut context).await;
    }
}

async fn answer(listener: UnixListener, admin: Arc<Desk>, shutdown: Shutdown) {
    if let Err(error) = control::serve(listener, admin, shutdown).await {
        tracing::error!(%error, "the control socket is closed");
    }
}
