//! The order of start and end.
//!
//! Start: limits, log file, ports, directories, control socket, all still as root where root started us; then the rights are
//! given up; then threads, plugins, the store; then the first byte from the network. End: no new connections, sessions and
//! deliveries come to their next resting point, the store closes, the log is written.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nix::sys::stat::{Mode, umask};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use waxwing_config::{Config, Listen, ListenAddress};
use waxwing_net::{LocalListener, Shutdown, ShutdownTrigger, spawn};
use waxwing_queue::SpoolError;
use waxwing_store::{Store, StoreError};

use crate::clock::SystemClock;
use crate::desk::Reloads as _;
use crate::log::{self, Logging, Reopener};
use crate::privilege::Owner;
use crate::reload::Reloader;
use crate::signals::{Asked, Signals};
use crate::supervisor::{Handed, Supervisor};
use crate::tls::Handshakes;
use crate::wire::{self, Server};
use crate::{control, limits};

/// How long sessions and deliveries have to come to an end. What is cut off is tried again after the next start.
const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(20);
/// How long threads of the runtime that still read or write files are waited for after that.
const RUNTIME_END_MAX: Duration = Duration::from_secs(2);
/// Threads for blocking file work.
const BLOCKING_THREADS_MAX: usize = 32;
/// How long such a thread is kept without work.
const BLOCKING_IDLE: Duration = Duration::from_secs(5);
/// The store or the queue manager failed: the supervisor should start the server again (sysexits' EX_TEMPFAIL).
pub(crate) const EXIT_FAILED: u8 = 75;
/// Rights that nobody else gets on anything that the server makes.
pub(crate) const UMASK: Mode = Mode::S_IRWXG.union(Mode::S_IRWXO);

/// What to start.
pub(crate) struct Start {
    /// Checked.
    pub(crate) config: Arc<Config>,
    /// Where it was read.
    pub(crate) file: PathBuf,
    /// The one clock.
    pub(crate) clock: SystemClock,
    /// Called once when the server serves.
    pub(crate) at_hand: AtHand,
}

/// Learns where the server listens.
pub(crate) type AtHand = Box<dyn FnOnce(&[Bound])>;

/// A listener that is bound.
pub(crate) struct Bound {
    /// As configured.
    pub(crate) listen: Listen,
    /// Where it is in truth: port 0 took a free one.
    pub(crate) address: ListenAddress,
    /// Not accepted from yet.
    pub(crate) socket: ListenSocket,
}

/// Its socket.
pub(crate) enum ListenSocket {
    Inet(std::net::TcpListener),
    /// At a path.
    Local(LocalListener),
}

impl Bound {
    /// Ports below 1024 can be had only before root's rights are given up, and so can paths in directories of root's.
    pub(crate) fn open(listen: &Listen, owner: &Owner) -> anyhow::Result<Self> {
        Self::try_open(listen, owner).with_context(|| format!("listener \"{}\"", listen.name))
    }

    fn try_open(listen: &Listen, owner: &Owner) -> anyhow::Result<Self> {
        let socket = match &listen.address {
            ListenAddress::Inet(address) => ListenSocket::Inet(waxwing_net::bind(*address)?),
            ListenAddress::Unix(path) => {
                // For nobody but us, by the umask, until it is whose it shall be.
                let socket = waxwing_net::bind_local(path)?;
                owner.give_to(path, listen.user.as_deref(), listen.group.as_deref())?;
                std::fs::set_permissions(path, Permissions::from_mode(listen.socket_mode()))
                    .with_context(|| path.display().to_string())?;
                ListenSocket::Local(socket)
            }
        };
        Self::of(listen, socket)
    }

    /// With a socket that is there.
    pub(crate) fn of(listen: &Listen, socket: ListenSocket) -> anyhow::Result<Self> {
        let address = match &socket {
            ListenSocket::Inet(socket) => ListenAddress::Inet(socket.local_addr()?),
            ListenSocket::Local(_) => listen.address.clone(),
        };
        Ok(Self { listen: listen.clone(), address, socket })
    }
}

/// Serves until a signal comes or the store fails.
pub(crate) fn run(start: Start) -> anyhow::Result<ExitCode> {
    umask(UMASK);
    let Prepared { ports, control, handshakes, logging } = prepare(&start)?;
    let runtime = build_runtime(start.config.runtime.workers)?;
    let (store, code) = runtime.block_on(main_task(start, ports, control, handshakes, logging.reopener()))?;
    runtime.shutdown_timeout(RUNTIME_END_MAX);
    // The last one that holds it: what waits is written, the database is closed.
    drop(store);
    drop(logging);
    Ok(code)
}

/// What is left of root's work.
struct Prepared {
    ports: Vec<Bound>,
    control: UnixListener,
    handshakes: Handshakes,
    logging: Logging,
}

/// Everything that may need root, and then its end.
fn prepare(start: &Start) -> anyhow::Result<Prepared> {
    let config = &start.config;
    let open_files = limits::raise_open_files().context("raising the limit of open files")?;
    let owner = Owner::find(config.mail_owner.as_deref())?;
    let target = open_log(config, &owner)?;
    let mut handed = Handed::from_env().context("sockets of the supervisor")?;
    let bind = |listen| handed.take(listen).map_or_else(|| Bound::open(listen, &owner), |socket| Bound::of(listen, socket));
    let ports = config.listen.iter().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    owner.directory(&config.queue_directory)?;
    if !config.virtual_mailbox_base.exists() && !config.virtual_mailbox_domains.is_empty() {
        owner.directory(&config.virtual_mailbox_base)?;
    }
    let control = control::bind(&config.control_socket(), &owner)?;
    let handshakes = Handshakes::open(config)?;
    owner.become_it()?;
    let logging = log::start(target, config.log.level, Arc::new(start.clock)).context("starting the log")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %start.file.display(), %owner, open_files, "starting");
    for socket in handed.left() {
        tracing::warn!(socket, "a socket of the supervisor has neither the name nor the address of a listener");
    }
    Ok(Prepared { ports, control, handshakes, logging })
}

fn open_log(config: &Config, owner: &Owner) -> anyhow::Result<log::Target> {
    let target = log::Target::open(config.log.file.as_deref());
    let name = |path: &Path| format!("log file {}", path.display());
    match &config.log.file {
        None => Ok(target?),
        Some(path) => {
            let target = target.with_context(|| name(path))?;
            owner.give(path)?;
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
        .thread_keep_alive(BLOCKING_IDLE)
        .thread_name("waxwing")
        .enable_all()
        .build()
}

/// Why the server ends.
enum Reason {
    Signal(&'static str),
    StoreFailed(StoreError),
    /// What the queue manager said at its end, which came before the server's.
    DeliveryEnded(String),
}

impl Reason {
    /// Logs it; what the process ends with.
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Signal(name) => {
                tracing::info!("{name}: shutting down");
                return ExitCode::SUCCESS;
            }
            Self::StoreFailed(error) => tracing::error!(%error, "the store failed: shutting down, to be started again"),
            Self::DeliveryEnded(why) => tracing::error!("the queue manager ended: shutting down, to be started again: {why}"),
        }
        ExitCode::from(EXIT_FAILED)
    }
}

/// Waits for the end of the queue manager, which nobody has told to stop.
async fn delivery_ended(manager: &mut JoinHandle<Result<(), SpoolError>>) -> Reason {
    Reason::DeliveryEnded(match manager.await {
        Ok(Ok(())) => "without a reason".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic.to_string(),
    })
}

/// SIGHUP: as `waxwing reload`. What became of it is in the log.
async fn reload(reloader: Arc<Reloader>) {
    tracing::info!("SIGHUP: reading the configuration again");
    // The reloader has written down why not.
    drop(reloader.reload().await);
}

async fn main_task(
    start: Start,
    ports: Vec<Bound>,
    control: UnixListener,
    handshakes: Handshakes,
    reopener: Reopener,
) -> anyhow::Result<(Store, ExitCode)> {
    let Start { config, file, clock, at_hand } = start;
    let mut signals = Signals::listen()?;
    let (trigger, shutdown) = Shutdown::new();
    let socket = config.control_socket();
    let supervisor = Arc::new(Supervisor::from_env());
    let told = (Arc::clone(&supervisor), shutdown.clone());
    let (clock, supervised, handshakes) = (Arc::new(clock), Arc::clone(&supervisor), Arc::new(handshakes));
    let parts = wire::Parts { config: Arc::clone(&config), file, control, handshakes, clock, supervisor: supervised, shutdown };
    let Server { store, doors, mut manager, reloader } = wire::start(parts).await?;
    for port in &ports {
        tracing::info!(
            name = port.listen.name,
            kind = crate::listen::via(port.listen.kind).as_str(),
            "listening on {}",
            port.address
        );
    }
    at_hand(&ports);
    doors.open(ports);
    drop(doors);
    supervisor.ready();
    drop(spawn("watchdog", async move { told.0.watch(told.1).await }));
    let reason = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::End(name) => break Reason::Signal(name),
                Asked::Reload => {
                    reopener.reopen();
                    drop(spawn("reload", reload(Arc::clone(&reloader))));
                }
                Asked::Reopen => reopener.reopen(),
            },
            error = store.poisoned() => break Reason::StoreFailed(error),
            reason = delivery_ended(&mut manager) => break reason,
        }
    };
    let code = reason.exit_code();
    supervisor.stopping();
    // It holds a Shutdown, as everything does that is waited for.
    drop(reloader);
    end(&trigger, &mut signals).await;
    // Gone already, or not ours to remove in a directory of root's: the next start removes it.
    let _ = std::fs::remove_file(socket);
    Ok((store, code))
}

/// Waits for every task that holds a [`Shutdown`], within a limit, or until a second signal.
async fn end(trigger: &ShutdownTrigger, signals: &mut Signals) {
    trigger.trigger();
    tokio::select! {
        () = trigger.finished() => tracing::info!("all sessions and deliveries have ended"),
        () = tokio::time::sleep(SHUTDOWN_TIME_MAX) => tracing::warn!("some sessions or deliveries did not end in time"),
        name = signals.end() => tracing::warn!("{name} again: not waiting for sessions and deliveries"),
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
            let reason = delivery_ended(&mut manager).await;
            assert!(matches!(&reason, Reason::DeliveryEnded(why) if why.contains(words)));
            assert_eq!(format!("{:?}", reason.exit_code()), format!("{:?}", ExitCode::from(EXIT_FAILED)));
        }
    }
}
