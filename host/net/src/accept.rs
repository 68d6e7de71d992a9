//! Who is let in: sessions in all and for each client are counted.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;
use waxwing_types::{client_of, prefix_of};

use crate::task::{Shutdown, spawn};

/// Sessions over a limit that are told so at a time; more are closed without a word.
pub const REFUSED_SESSIONS_MAX: usize = 100;
/// After an accept that failed for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a connection is within the limits. The session of one that is not says 421 and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Within.
    Admitted,
    /// All sessions are taken.
    TooManySessions,
    /// This client has all that one client may have.
    TooManyFromClient,
    /// This client's network has all that one network may have.
    TooManyFromNetwork,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Accepted<S = TcpStream> {
    /// The socket, without Nagle's delay.
    pub stream: S,
    /// The client.
    pub peer: SocketAddr,
    /// The address that it came to.
    pub local: SocketAddr,
    /// Within the limits or not.
    pub admission: Admission,
}

/// What the accept loop needs to know.
#[derive(Clone)]
pub struct AcceptSettings {
    /// Name of its tasks in the log.
    pub name: &'static str,
    /// Shared by all listeners.
    pub counts: Arc<SessionCounts>,
    /// Clients without a limit of their own (`smtpd_client_event_limit_exceptions`: by default those of `mynetworks`).
    pub exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// How many sessions there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// In all (`smtpd_sessions_max`).
    pub sessions_max: usize,
    /// Of one IPv4 address or one IPv6 /64 (`smtpd_client_connection_count_limit`).
    pub client_sessions_max: usize,
    /// Of one network (`smtpd_network_limit_factor` times as many).
    pub network_sessions_max: usize,
    /// Bits of an IPv4 network.
    pub network_prefix_v4: u8,
    /// Bits of an IPv6 network.
    pub network_prefix_v6: u8,
}

impl SessionLimits {
    /// Without a limit for networks.
    #[must_use]
    pub fn new(sessions_max: usize, client_sessions_max: usize) -> Self {
        Self { sessions_max, client_sessions_max, network_sessions_max: usize::MAX, network_prefix_v4: 24, network_prefix_v6: 48 }
    }
}

/// Counts open sessions.
#[derive(Debug)]
pub struct SessionCounts {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    limits: SessionLimits,
    admitted: usize,
    refused: usize,
    /// Closed without a word.
    dropped: u64,
    by_client: HashMap<IpAddr, usize>,
    by_network: HashMap<IpAddr, usize>,
}

/// A counted session; dropped with it.
#[derive(Debug)]
pub struct SessionPermit {
    counts: Arc<SessionCounts>,
    client: IpAddr,
    network: IpAddr,
    admission: Admission,
}

impl SessionCounts {
    /// Limits: sessions in all, and of one IPv4 address or one IPv6 /64.
    #[must_use]
    pub fn new(sessions_max: usize, client_sessions_max: usize) -> Arc<Self> {
        Self::with(SessionLimits::new(sessions_max, client_sessions_max))
    }

    /// These limits.
    #[must_use]
    pub fn with(limits: SessionLimits) -> Arc<Self> {
        let (by_client, by_network) = (HashMap::new(), HashMap::new());
        Arc::new(Self { open: Mutex::new(Open { limits, admitted: 0, refused: 0, dropped: 0, by_client, by_network }) })
    }

    /// Other limits from now on; sessions that are open stay.
    pub fn set_limits(&self, limits: SessionLimits) {
        self.lock().limits = limits;
    }

    /// Admitted sessions that are open, and how many there may be.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let open = self.lock();
        (open.admitted, open.limits.sessions_max)
    }

    /// Connections over a limit that were closed without a word, because as many as can be afforded were being told.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Admitted sessions that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().admitted
    }

    /// Counts one more. `None`: not even a refusal can be afforded.
    pub fn admit(self: &Arc<Self>, client: IpAddr, exempt: bool) -> Option<(Admission, SessionPermit)> {
        let mut open = self.lock();
        let limits = open.limits;
        let network = prefix_of(client.to_canonical(), limits.network_prefix_v4, limits.network_prefix_v6);
        let client = client_of(client);
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
                if open.refused >= REFUSED_SESSIONS_MAX {
                    open.dropped += 1;
                    return None;
                }
                open.refused += 1;
            }
        }
        Some((admission, SessionPermit { counts: Arc::clone(self), client, network, admission }))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The counts are whole between any two statements under this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SessionPermit {
    fn drop(&mut self) {
        let mut open = self.counts.lock();
        match self.admission {
            Admission::Admitted => {
                open.admitted = open.admitted.saturating_sub(1);
                one_less(&mut open.by_client, self.client);
                one_less(&mut open.by_network, self.network);
            }
            Admission::TooManySessions | Admission::TooManyFromClient | Admission::TooManyFromNetwork => {
                open.refused = open.refused.saturating_sub(1);
            }
        }
    }
}

fn one_less(counts: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    match counts.get(&address).map_or(0, |count| count.saturating_sub(1)) {
        0 => counts.remove(&address),
        left => counts.insert(address, left),
    };
}

/// Accepts until the shutdown, and runs `serve` for each connection in a task of its own. The session stays counted as
/// long as that future lives.
pub async fn accept_loop<F, T>(
    listener: TcpListener,
    settings: AcceptSettings,
    mut shutdown: Shutdown,
    serve: F,
) -> io::Result<()>
where
    F: Fn(Accepted) -> T,
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
                // A connection that died in the queue is no matter; one that can't be had for want of descriptors comes
                // again at once, so that we must not spin.
                tracing::warn!(listener = settings.name, %error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { continue };
        begin(stream, peer, local, &settings, &serve);
    }
}

/// Serves a connection in a task of its own, unless there are too many.
pub(crate) fn begin<S, F, T>(stream: S, peer: SocketAddr, local: SocketAddr, settings: &AcceptSettings, serve: &F)
where
    F: Fn(Accepted<S>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let exempt = (settings.exempt)(peer.ip());
    let Some((admission, permit)) = settings.counts.admit(peer.ip(), exempt) else { return };
    // In a box before it moves into others: each async block that awaits what it took has room for it twice.
    let session = Box::pin(serve(Accepted { stream, peer, local, admission }));
    drop(spawn(settings.name, async move {
        session.await;
        drop(permit);
    }));
}
