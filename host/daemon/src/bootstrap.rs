//! Composition root: builds all services and connects them.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use waxwing_accounts::{Accounts, LoginCache, random_bytes};
use waxwing_admin::AdminService;
use waxwing_config::Config;
use waxwing_control::DaemonInfo;
use waxwing_delivery::{CurrentRouting, DeliveryServices, QueueManager};
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Context, Event, Pipeline, UserStore};
use waxwing_plugins::{PluginManager, ServiceInput, open_services, sandbox_settings};
use waxwing_queue::{EmbeddedSpool, SpoolSettings};
use waxwing_sandbox::HostServices;
use waxwing_spool::{Spool, SpoolError};
use waxwing_state::{
    KV_KEYSPACE, MetricsRegistry, RECORDING_KEYSPACE, RecordingQueue, RecordingStore, StoredUsers, TRACE_KEYSPACE, TraceStore,
    USERS_KEYSPACE,
};
use waxwing_store::{Store, StoreOptions};
use waxwing_types::{Clock, Source};

use crate::event_queue::EventQueue;
use crate::generation::CurrentGeneration;
use crate::listeners::{Listeners, new_guard_state};
use crate::reload::Reloader;
use crate::services::Services;
use crate::supervisor::Supervisor;
use crate::tls::ListenerTls;
use crate::transports;

/// Directory of the database, below `queue_directory`.
const STORE_DIRECTORY: &str = "store";
/// Directory of large message bodies, below `queue_directory`.
const BODIES_DIRECTORY: &str = "bodies";
/// Interval of the sweeps of old traces.
const SWEEP_PERIOD: Duration = Duration::from_secs(5);

/// Interval of the `on-tick` calls.
const TICK_PERIOD: Duration = Duration::from_secs(60);

/// Input of the startup, prepared with root privileges.
pub(crate) struct StartInput {
    pub(crate) config: Arc<Config>,
    pub(crate) file: PathBuf,
    pub(crate) control_socket: UnixListener,
    pub(crate) listener_tls: Arc<ListenerTls>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) shutdown: Shutdown,
}

/// Services of a running server.
pub(crate) struct RunningServer {
    /// Database; closes with the last handle.
    pub(crate) store: Store,
    /// Listeners, still closed: mail arrives once opened.
    pub(crate) listeners: Arc<Listeners>,
    /// Queue manager task; ends at shutdown, or on a fatal error that must stop the server.
    pub(crate) queue_manager: JoinHandle<Result<(), SpoolError>>,
    /// Reloads the configuration. Holds a [`Shutdown`], so must be dropped before waiting for the shutdown.
    pub(crate) reloader: Arc<Reloader>,
}

/// Builds all services and starts their tasks. The server can accept mail after the return.
pub(crate) async fn start(parts: StartInput) -> anyhow::Result<RunningServer> {
    let StartInput { config, file, control_socket: control, listener_tls, clock, supervisor, shutdown } = parts;
    let store = open_store(&config)?;
    // Ends with the store, not with the shutdown signal.
    drop(spawn("store", store.completion_dispatcher()));
    let spool: Arc<dyn Spool> = Arc::new(open_spool(&config, &store, &clock).await?);
    let (traces, recordings) = open_trace_stores(&config, &store, &clock, &shutdown)?;
    let accounts = Arc::new(Accounts::open(&config, &clock)?);
    let (users, logins) = open_users(&store, &clock)?;
    let resolver = transports::resolver(&config);
    let metrics = Arc::new(MetricsRegistry::default());
    let opened =
        ServiceInput { store: &store, spool: &spool, resolver: &resolver, metrics: &metrics, clock: &clock, shutdown: &shutdown };
    let (verify_cache, plugin_services) = open_services(&config, &opened)?;
    let plugin_manager = load_plugins(&config, &accounts, &clock, plugin_services).await?;
    let pipeline = plugin_manager.pipeline();
    drop(spawn("plugin files", Arc::clone(&plugin_manager).watch_files(shutdown.clone())));
    let guard_state = new_guard_state(&config, Arc::clone(&metrics) as _, &clock);
    let services = Services {
        file: file.clone(),
        pipeline: Arc::clone(&pipeline),
        spool: Arc::clone(&spool),
        trace: Arc::clone(&traces) as _,
        recorder: Arc::clone(&recordings) as _,
        resolver,
        verify_cache,
        clock: Arc::clone(&clock),
        guard_state: Arc::clone(&guard_state),
        users: Arc::clone(&users),
        logins,
        shutdown: shutdown.clone(),
    };
    let (routing, prober) = transports::build_routing(&config, &accounts, &services)?;
    let generation = CurrentGeneration::new(services.new_generation(&config, &accounts, listener_tls, prober)?);
    let listeners = Listeners::new(Arc::clone(&generation), Arc::clone(&guard_state), shutdown.clone());
    drop(spawn("ticks", run_ticks(Arc::clone(&pipeline), Arc::clone(&generation), shutdown.clone())));
    let routing = CurrentRouting::new(routing);
    let manager = start_queue_manager(&services, &routing, generation).await?;
    let active = manager.active_units();
    let manager = spawn("queue manager", manager.run(shutdown.clone()));
    let config = Arc::new(ArcSwap::new(config));
    let reloader = Arc::new(Reloader {
        services,
        config: Arc::clone(&config),
        plugin_manager: Arc::clone(&plugin_manager),
        routing,
        listeners: Arc::clone(&listeners),
        supervisor,
        reload_lock: tokio::sync::Mutex::default(),
    });
    let admin = AdminService {
        info: server_info(&config.load(), &clock),
        config,
        file,
        spool,
        traces,
        recordings,
        pipeline,
        plugin_manager,
        metrics,
        active_units: active,
        guard_state,
        reload_handler: Arc::clone(&reloader) as _,
        users,
        listeners: Some(Arc::clone(&listeners) as _),
    };
    drop(spawn("control", serve_control(control, Arc::new(admin), shutdown)));
    Ok(RunningServer { store, listeners, queue_manager: manager, reloader })
}

/// Loads the plugins of the configuration and binds them.
async fn load_plugins(
    config: &Arc<Config>,
    accounts: &Arc<Accounts>,
    clock: &Arc<dyn Clock>,
    services: HostServices,
) -> anyhow::Result<Arc<PluginManager>> {
    let builtin = waxwing_bundle::standard_component;
    let loaded = waxwing_plugins::load(sandbox_settings(config), config, accounts, clock, builtin, services).await?;
    let pipeline = Arc::new(Pipeline::new(loaded.bindings(), Arc::clone(accounts) as _, Arc::clone(clock)));
    Ok(PluginManager::new(loaded, pipeline))
}

/// Opens the users of the store and the login cache.
fn open_users(store: &Store, clock: &Arc<dyn Clock>) -> anyhow::Result<(Arc<dyn UserStore>, Arc<LoginCache>)> {
    let message = "no system randomness";
    let users = StoredUsers::open(store, random_bytes().context(message)?)?;
    let memory = LoginCache::new(Arc::clone(clock), users.secret()).context(message)?;
    Ok((users, memory))
}

fn server_info(config: &Config, clock: &Arc<dyn Clock>) -> DaemonInfo {
    DaemonInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        hostname: config.general.myhostname.clone(),
        started_at: clock.now(),
    }
}

fn open_store(config: &Config) -> anyhow::Result<Store> {
    let additional = [TRACE_KEYSPACE, RECORDING_KEYSPACE, KV_KEYSPACE, USERS_KEYSPACE];
    let keyspaces: Vec<&'static str> = waxwing_queue::KEYSPACES.into_iter().chain(additional).collect();
    Ok(Store::open(&config.general.queue_directory.join(STORE_DIRECTORY), &StoreOptions::new(&keyspaces))?)
}

/// Opens the stores of traces and recordings and starts their tasks.
fn open_trace_stores(
    config: &Config,
    store: &Store,
    clock: &Arc<dyn Clock>,
    shutdown: &Shutdown,
) -> anyhow::Result<(Arc<TraceStore>, Arc<RecordingStore>)> {
    let traces = Arc::new(TraceStore::open(store, config.trace.clone())?);
    drop(spawn("traces", sweep_traces(Arc::clone(&traces), Arc::clone(clock), shutdown.clone())));
    let (recordings, waiting) = RecordingStore::open(store, config.recording.clone(), Arc::clone(clock))?;
    drop(spawn("recordings", run_recorder(Arc::clone(&recordings), waiting, shutdown.clone())));
    Ok((traces, recordings))
}

async fn start_queue_manager(
    services: &Services,
    routing: &Arc<CurrentRouting>,
    generation: Arc<CurrentGeneration>,
) -> anyhow::Result<QueueManager> {
    let services = DeliveryServices {
        routing: Arc::clone(routing),
        pipeline: Arc::clone(&services.pipeline),
        spool: Arc::clone(&services.spool),
        submit: generation,
        events: EventQueue::start(&services.pipeline, services.shutdown.clone()) as _,
        trace: Arc::clone(&services.trace),
        clock: Arc::clone(&services.clock),
    };
    Ok(QueueManager::new(services).await?)
}

async fn open_spool(config: &Config, store: &Store, clock: &Arc<dyn Clock>) -> anyhow::Result<EmbeddedSpool> {
    let mut settings = SpoolSettings::new(config.smtpd.message_size_limit, Arc::clone(clock));
    settings.queue_minfree = config.queue.queue_minfree;
    Ok(EmbeddedSpool::open(store, &config.general.queue_directory.join(BODIES_DIRECTORY), settings).await?)
}

async fn sweep_traces(traces: Arc<TraceStore>, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
    while shutdown.sleep(SWEEP_PERIOD).await {
        match traces.sweep(clock.now()).await {
            Ok(swept) if swept.records > 0 => tracing::debug!(records = swept.records, bytes = swept.bytes, "old traces removed"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old traces could not be removed"),
        }
    }
}

/// Writes recordings, and removes old recordings even with recording disabled.
async fn run_recorder(recordings: Arc<RecordingStore>, waiting: RecordingQueue, mut shutdown: Shutdown) {
    tokio::select! {
        result = recordings.run(waiting) => if let Err(error) = result {
            tracing::warn!(%error, "transactions can't be recorded");
        },
        () = shutdown.wait() => {}
    }
}

/// Calls `on-tick` at each interval, and enqueues the submissions of plugins.
async fn run_ticks(pipeline: Arc<Pipeline>, generation: Arc<CurrentGeneration>, mut shutdown: Shutdown) {
    while shutdown.sleep(TICK_PERIOD).await {
        let mut context = Context::new(Source::Api, None);
        pipeline.notify(&mut pipeline.open_session(), &mut context, Event::Tick).await;
        generation.intake().enqueue_submissions(&mut context).await;
    }
}

async fn serve_control(listener: UnixListener, admin: Arc<AdminService>, shutdown: Shutdown) {
    if let Err(error) = waxwing_admin::serve(listener, admin, shutdown).await {
        tracing::error!(%error, "the control socket is closed");
    }
}
