//! Startup and shutdown order of the server.
//!
//! Startup, still as root if started by root: resource limits, log file, listening sockets, directories, control socket. Then privileges are dropped;
//! then threads, plugins and the store; then the first byte from the network. Shutdown: no new connections, sessions and deliveries finish
//! their current step, the store closes, the log is flushed.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::stat::{Mode, umask};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use waxwing_admin::ReloadHandler as _;
use waxwing_config::Config;
use waxwing_logging::{LogHandle, LogOutput, LogRotation};
use waxwing_net::{Shutdown, ShutdownTrigger, spawn};
use waxwing_spool::SpoolError;
use waxwing_store::{Store, StoreError};

use crate::bootstrap::{self, RunningServer};
use crate::bound_listener::BoundListener;
use crate::clock::SystemClock;
use crate::privilege::RunAs;
use crate::reload::Reloader;
use crate::rlimits;
use crate::signals::{SignalEvent, Signals};
use crate::supervisor::{InheritedSockets, Supervisor};
use crate::tls::ListenerTls;

/// Time for sessions and deliveries to finish. Aborted deliveries are tried again after the next start.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(20);
/// Additional time for runtime threads that still read or write files.
const RUNTIME_SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(2);
/// Threads for blocking file operations.
const BLOCKING_THREADS_MAX: usize = 32;
/// Idle time before a blocking thread ends.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(5);
/// Exit code after a failure of the store or the queue manager, a request to the supervisor for a restart (EX_TEMPFAIL of sysexits).
pub(crate) const EXIT_TEMPFAIL: u8 = 75;
/// Umask: no permissions for group and others on any file of the server.
pub(crate) const UMASK: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// Options of a server run.
pub(crate) struct RunOptions {
    /// Configuration, already validated.
    pub(crate) config: Arc<Config>,
    /// Path of the configuration file.
    pub(crate) file: PathBuf,
    /// Clock of the process.
    pub(crate) clock: SystemClock,
    /// Callback, called once when the server is ready.
    pub(crate) on_ready: OnReady,
}

/// Callback that receives the bound listeners.
pub(crate) type OnReady = Box<dyn FnOnce(&[BoundListener])>;

/// Runs the server until a signal arrives or the store fails.
pub(crate) fn run(start: RunOptions) -> anyhow::Result<ExitCode> {
    umask(UMASK);
    let PrivilegedResources { listeners: bound, control, listener_tls, logging } = prepare_privileged(&start)?;
    let runtime = build_runtime(start.config.runtime.workers)?;
    let (store, code) = runtime.block_on(main_task(start, bound, control, listener_tls, logging.rotation()))?;
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIME_MAX);
    // Last handle of the store: writes pending data and closes the database.
    drop(store);
    drop(logging);
    Ok(code)
}

/// Resources acquired with root privileges.
struct PrivilegedResources {
    listeners: Vec<BoundListener>,
    control: UnixListener,
    listener_tls: ListenerTls,
    logging: LogHandle,
}

/// Acquires all resources that may need root, then drops privileges.
fn prepare_privileged(start: &RunOptions) -> anyhow::Result<PrivilegedResources> {
    let config = &start.config;
    let open_files = rlimits::raise_open_files().context("raising the limit of open files")?;
    let owner = RunAs::resolve(config.general.mail_owner.as_deref())?;
    let target = open_log(config, &owner)?;
    let mut inherited = InheritedSockets::from_env().context("sockets of the supervisor")?;
    let bind = |listen| {
        inherited
            .take(listen)
            .map_or_else(|| BoundListener::open(listen, &owner), |socket| BoundListener::from_socket(listen, socket))
    };
    let bound = config.listen.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    owner.create_directory(&config.general.queue_directory)?;
    if !config.domains.virtual_mailbox_base.exists() && !config.domains.virtual_mailbox_domains.is_empty() {
        owner.create_directory(&config.domains.virtual_mailbox_base)?;
    }
    let control_socket = config.control_socket();
    let control = waxwing_admin::bind(&control_socket)?;
    owner.set_owner(&control_socket)?;
    let listener_tls = ListenerTls::open(config)?;
    owner.drop_privileges()?;
    let logging = waxwing_logging::start(target, config.log.level, Arc::new(start.clock)).context("starting the log")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %start.file.display(), %owner, open_files, "starting");
    for socket in inherited.unclaimed() {
        tracing::warn!(socket, "socket of the supervisor matches no listener by name or address");
    }
    Ok(PrivilegedResources { listeners: bound, control, listener_tls, logging })
}

fn open_log(config: &Config, owner: &RunAs) -> anyhow::Result<LogOutput> {
    let target = LogOutput::open(config.log.file.as_deref());
    let name = |path: &Path| format!("log file {}", path.display());
    match &config.log.file {
        None => Ok(target?),
        Some(path) => {
            let target = target.with_context(|| name(path))?;
            owner.set_owner(path)?;
            Ok(target)
        }
    }
}

fn build_runtime(workers: usize) -> std::io::Result<Runtime> {
    let mut builder = match workers {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    builder
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("waxwing")
        .enable_all()
        .build()
}

/// Reason for the exit of the server.
enum ExitReason {
    Signal(&'static str),
    StoreFailed(StoreError),
    /// Error text of the queue manager, when ended before the server.
    DeliveryEnded(String),
}

impl ExitReason {
    /// Logs the reason and returns the exit code of the process.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Signal(name) => {
                tracing::info!("{name}: shutting down");
                return ExitCode::SUCCESS;
            }
            Self::StoreFailed(error) => tracing::error!(%error, "the store failed: shutting down for a restart"),
            Self::DeliveryEnded(why) => tracing::error!("the queue manager ended: shutting down for a restart: {why}"),
        }
        ExitCode::from(EXIT_TEMPFAIL)
    }
}

/// Waits for the queue manager to end without a shutdown request, a failure.
async fn wait_for_queue_manager(manager: &mut JoinHandle<Result<(), SpoolError>>) -> ExitReason {
    ExitReason::DeliveryEnded(match manager.await {
        Ok(Ok(())) => "no error reported".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    })
}

/// Reloads after SIGHUP, as `waxwing reload`; the result goes to the log.
async fn reload_on_sighup(reloader: Arc<Reloader>) {
    tracing::info!("SIGHUP: reading the configuration again");
    // The reloader has logged the error.
    drop(reloader.reload().await);
}

async fn main_task(
    start: RunOptions,
    bound: Vec<BoundListener>,
    control: UnixListener,
    listener_tls: ListenerTls,
    reopener: LogRotation,
) -> anyhow::Result<(Store, ExitCode)> {
    let RunOptions { config, file, clock, on_ready } = start;
    let mut signals = Signals::install()?;
    let (trigger, shutdown) = Shutdown::new();
    let socket = config.control_socket();
    let supervisor = Arc::new(Supervisor::from_env());
    let watchdog = (Arc::clone(&supervisor), shutdown.clone());
    let (clock, supervised, listener_tls) = (Arc::new(clock), Arc::clone(&supervisor), Arc::new(listener_tls));
    let parts = bootstrap::StartInput {
        config: Arc::clone(&config),
        file,
        control_socket: control,
        listener_tls,
        clock,
        supervisor: supervised,
        shutdown,
    };
    let RunningServer { store, listeners, queue_manager: mut manager, reloader } = bootstrap::start(parts).await?;
    for listener in &bound {
        tracing::info!(
            listener = listener.listen.name,
            kind = crate::listener_settings::mail_source(listener.listen.kind).as_str(),
            "listening on {}",
            listener.address
        );
    }
    on_ready(&bound);
    listeners.open(bound);
    drop(listeners);
    supervisor.ready();
    drop(spawn("watchdog", async move { watchdog.0.send_watchdog(watchdog.1).await }));
    let reason = loop {
        tokio::select! {
            event = signals.next() => match event {
                SignalEvent::Stop(name) => break ExitReason::Signal(name),
                SignalEvent::Reload => {
                    reopener.request_reopen();
                    drop(spawn("reload", reload_on_sighup(Arc::clone(&reloader))));
                }
                SignalEvent::Reopen => reopener.request_reopen(),
            },
            error = store.poisoned() => break ExitReason::StoreFailed(error),
            reason = wait_for_queue_manager(&mut manager) => break reason,
        }
    };
    let code = reason.exit_code();
    supervisor.stopping();
    // The reloader holds a [`Shutdown`], and the shutdown waits for all holders.
    drop(reloader);
    shut_down(&trigger, &mut signals).await;
    // Failure is ignored: already removed, or in a directory of root; the next start removes the socket.
    let _ = std::fs::remove_file(socket);
    Ok((store, code))
}

/// Waits for every task with a [`Shutdown`], until a time limit or a second signal.
async fn shut_down(trigger: &ShutdownTrigger, signals: &mut Signals) {
    trigger.trigger();
    tokio::select! {
        () = trigger.all_dropped() => tracing::info!("all sessions and deliveries have ended"),
        () = tokio::time::sleep(SHUTDOWN_TIME_MAX) => tracing::warn!("some sessions or deliveries did not end in time"),
        name = signals.next_stop() => tracing::warn!("{name} again: not waiting for sessions and deliveries"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_queue_manager_is_a_failure_for_the_supervisor() {
        let lost = waxwing_net::spawn("test", async { Err(SpoolError::Fenced) });
        let panics = waxwing_net::spawn("test", async { panic!("a bug") });
        for (mut manager, words) in [(lost, "later owner"), (panics, "panicked")] {
            let reason = wait_for_queue_manager(&mut manager).await;
            assert!(matches!(&reason, ExitReason::DeliveryEnded(why) if why.contains(words)));
            assert_eq!(format!("{:?}", reason.exit_code()), format!("{:?}", ExitCode::from(EXIT_TEMPFAIL)));
        }
    }
}
