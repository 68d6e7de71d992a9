//! The accept loop and the limits on simultaneous sessions, in total, per client and per network.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::sleep;
use waxwing_types::{network_prefix, rate_limit_key};

use crate::task::{Shutdown, spawn};

/// Number of rejected sessions that get a 421 reply at the same time; further connections are closed without a reply.
pub const REJECTED_SESSIONS_MAX: usize = 100;
/// Delay after a failed accept, for lack of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Result of the session limits for a connection. A session over a limit replies 421 and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Connection within all limits.
    Admitted,
    /// Total number of sessions reached (`smtpd_sessions_max`).
    TooManySessions,
    /// Number of sessions of this client reached (`smtpd_client_connection_count_limit`).
    TooManyFromClient,
    /// Number of sessions of this network reached (`smtpd_network_limit_factor`).
    TooManyFromNetwork,
}

/// An accepted connection.
#[derive(Debug)]
pub struct AcceptedConnection<S = TcpStream> {
    /// Connected socket, with Nagle's algorithm disabled.
    pub stream: S,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Local address of the connection.
    pub local: SocketAddr,
    /// Result of the session limits.
    pub admission: Admission,
}

/// Settings of an accept loop.
#[derive(Clone)]
pub struct AcceptSettings {
    /// Task name of the sessions, for the log.
    pub task_name: &'static str,
    /// Session counters shared by all listeners.
    pub counts: Arc<SessionCounts>,
    /// Returns whether a client is exempt from per-client limits (`smtpd_client_event_limit_exceptions`; by default
    /// `mynetworks`).
    pub is_exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// Limits on the number of simultaneous sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Maximum number of sessions in total (`smtpd_sessions_max`).
    pub sessions_max: usize,
    /// Maximum number of sessions of an IPv4 address or IPv6 /64 (`smtpd_client_connection_count_limit`).
    pub client_sessions_max: usize,
    /// Maximum number of sessions of a network (client limit times `smtpd_network_limit_factor`).
    pub network_sessions_max: usize,
    /// Prefix length of an IPv4 network in bits.
    pub network_prefix_v4: u8,
    /// Prefix length of an IPv6 network in bits.
    pub network_prefix_v6: u8,
}

impl SessionLimits {
    /// Returns limits without a limit for networks.
    #[must_use]
    pub fn new(sessions_max: usize, client_sessions_max: usize) -> Self {
        Self { sessions_max, client_sessions_max, network_sessions_max: usize::MAX, network_prefix_v4: 24, network_prefix_v6: 48 }
    }
}

/// Counters of open sessions.
#[derive(Debug)]
pub struct SessionCounts {
    state: Mutex<OpenSessions>,
}

#[derive(Debug)]
struct OpenSessions {
    limits: SessionLimits,
    admitted: usize,
    rejected: usize,
    /// Number of connections closed without a reply.
    closed_silently: u64,
    by_client: HashMap<IpAddr, usize>,
    by_network: HashMap<IpAddr, usize>,
}

/// A counted session; dropping the permit ends the count.
#[derive(Debug)]
pub struct SessionPermit {
    counts: Arc<SessionCounts>,
    client: IpAddr,
    network: IpAddr,
    admission: Admission,
}

impl SessionCounts {
    /// Creates counters with a limit on sessions in total and a limit per IPv4 address or IPv6 /64.
    #[must_use]
    pub fn new(sessions_max: usize, client_sessions_max: usize) -> Arc<Self> {
        Self::with_limits(SessionLimits::new(sessions_max, client_sessions_max))
    }

    /// Creates counters with the given limits.
    #[must_use]
    pub fn with_limits(limits: SessionLimits) -> Arc<Self> {
        let (by_client, by_network) = (HashMap::new(), HashMap::new());
        Arc::new(Self {
            state: Mutex::new(OpenSessions { limits, admitted: 0, rejected: 0, closed_silently: 0, by_client, by_network }),
        })
    }

    /// Replaces the limits; open sessions stay open.
    pub fn set_limits(&self, limits: SessionLimits) {
        self.state.lock().limits = limits;
    }

    /// Returns the number of admitted open sessions and the maximum number.
    #[must_use]
    pub fn admitted_and_max(&self) -> (usize, usize) {
        let open = self.state.lock();
        (open.admitted, open.limits.sessions_max)
    }

    /// Returns the number of connections over a limit that were closed without a reply, because
    /// [`REJECTED_SESSIONS_MAX`] other sessions were being rejected.
    #[must_use]
    pub fn closed_silently(&self) -> u64 {
        self.state.lock().closed_silently
    }

    /// Returns the number of admitted open sessions.
    #[must_use]
    pub fn admitted(&self) -> usize {
        self.state.lock().admitted
    }

    /// Counts a new session. `None`: the limit on rejected sessions is reached too, and the connection must be
    /// closed.
    pub fn admit(self: &Arc<Self>, client: IpAddr, exempt: bool) -> Option<(Admission, SessionPermit)> {
        let mut open = self.state.lock();
        let limits = open.limits;
        let network = network_prefix(client.to_canonical(), limits.network_prefix_v4, limits.network_prefix_v6);
        let client = rate_limit_key(client);
        let of = |counts: &HashMap<IpAddr, usize>, address| counts.get(&address).copied().unwrap_or(0);
        let admission = if open.admitted >= limits.sessions_max {
            Admission::TooManySessions
        } else if !exempt && of(&open.by_client, client) >= limits.client_sessions_max {
            Admission::TooManyFromClient
        } else if !exempt && of(&open.by_network, network) >= limits.network_sessions_max {
            Admission::TooManyFromNetwork
        } else {
            Admission::Admitted
        };
        match admission {
            Admission::Admitted => {
                open.admitted += 1;
                *open.by_client.entry(client).or_default() += 1;
                *open.by_network.entry(network).or_default() += 1;
            }
            Admission::TooManySessions | Admission::TooManyFromClient | Admission::TooManyFromNetwork => {
                if open.rejected >= REJECTED_SESSIONS_MAX {
                    open.closed_silently += 1;
                    return None;
                }
                open.rejected += 1;
            }
        }
        Some((admission, SessionPermit { counts: Arc::clone(self), client, network, admission }))
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        let mut open = self.counts.state.lock();
        match self.admission {
            Admission::Admitted => {
                open.admitted = open.admitted.saturating_sub(1);
                decrement(&mut open.by_client, self.client);
                decrement(&mut open.by_network, self.network);
            }
            Admission::TooManySessions | Admission::TooManyFromClient | Admission::TooManyFromNetwork => {
                open.rejected = open.rejected.saturating_sub(1);
            }
        }
    }
}

fn decrement(counts: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    match counts.get(&address).map_or(0, |count| count.saturating_sub(1)) {
        0 => counts.remove(&address),
        left => counts.insert(address, left),
    };
}

/// Accepts connections until the shutdown, and runs `serve` for each connection in a separate task. The session is
/// counted until the future completes.
pub async fn accept_loop<F, T>(
    listener: TcpListener,
    settings: AcceptSettings,
    mut shutdown: Shutdown,
    serve: F,
) -> io::Result<()>
where
    F: Fn(AcceptedConnection) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A connection that failed in the backlog needs no handling. A connection that fails for lack of
                // descriptors is returned again at once by the kernel; the delay prevents a busy loop.
                tracing::warn!(listener = settings.task_name, %error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { continue };
        spawn_session(stream, peer, local, &settings, &serve);
    }
}

/// Serves a connection in a separate task, unless no permit is available.
pub(crate) fn spawn_session<S, F, T>(stream: S, peer: SocketAddr, local: SocketAddr, settings: &AcceptSettings, serve: &F)
where
    F: Fn(AcceptedConnection<S>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let exempt = (settings.is_exempt)(peer.ip());
    let Some((admission, permit)) = settings.counts.admit(peer.ip(), exempt) else { return };
    // Boxed before the move into other futures: an async block reserves twice the space of a captured and awaited
    // future.
    let session = Box::pin(serve(AcceptedConnection { stream, peer, local, admission }));
    drop(spawn(settings.task_name, async move {
        session.await;
        drop(permit);
    }));
}
