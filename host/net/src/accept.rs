//! Who is let in: sessions in all and for each client are counted.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::task::{Shutdown, spawn};

/// Sessions over a limit that are told so at a time; more are closed without a word.
pub const REFUSED_SESSIONS_MAX: usize = 100;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a connection is within the limits. The session of one that is not says 421 and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Within.
    Admitted,
    /// All sessions are taken.
    TooManySessions,
    /// This client has all that one client may have.
    TooManyFromClient,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, without Nagle's delay.
    pub stream: TcpStream,
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

/// Counts open sessions.
#[derive(Debug)]
pub struct SessionCounts {
    sessions_max: usize,
    client_sessions_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    admitted: usize,
    refused: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A counted session; dropped with it.
#[derive(Debug)]
pub struct SessionPermit {
    counts: Arc<SessionCounts>,
    client: IpAddr,
    admission: Admission,
}

impl SessionCounts {
    /// Limits: sessions in all, and of one IPv4 address or one IPv6 /64.
    #[must_use]
    pub fn new(sessions_max: usize, client_sessions_max: usize) -> Arc<Self> {
        Arc::new(Self { sessions_max, client_sessions_max, open: Mutex::default() })
    }

    /// Admitted sessions that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().admitted
    }

    /// Counts one more. `None`: not even a refusal can be afforded.
    pub fn admit(self: &Arc<Self>, client: IpAddr, exempt: bool) -> Option<(Admission, SessionPermit)> {
        let client = network_of(client);
        let mut open = self.lock();
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        let admission = if open.admitted >= self.sessions_max {
            Admission::TooManySessions
        } else if !exempt && of_client >= self.client_sessions_max {
            Admission::TooManyFromClient
        } else {
            Admission::Admitted
        };
        match admission {
            Admission::Admitted => {
                open.admitted += 1;
                *open.by_client.entry(client).or_default() += 1;
            }
            Admission::TooManySessions | Admission::TooManyFromClient if open.refused >= REFUSED_SESSIONS_MAX => return None,
            Admission::TooManySessions | Admission::TooManyFromClient => open.refused += 1,
        }
        Some((admission, SessionPermit { counts: Arc::clone(self), client, admission }))
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
                let left = open.by_client.get(&self.client).map_or(0, |n| n.saturating_sub(1));
                match left {
                    0 => open.by_client.remove(&self.client),
                    _ => open.by_client.insert(self.client, left),
                };
            }
            Admission::TooManySessions | Admission::TooManyFromClient => open.refused = open.refused.saturating_sub(1),
        }
    }
}

/// An IPv6 client has a whole /64 to come from.
fn network_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        },
    }
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
        let exempt = (settings.exempt)(peer.ip());
        let Some((admission, permit)) = settings.counts.admit(peer.ip(), exempt) else { continue };
        let (Ok(local), Ok(())) = (stream.local_addr(), stream.set_nodelay(true)) else { continue };
        let session = serve(Accepted { stream, peer, local, admission });
        spawn(settings.name, async move {
            session.await;
            drop(permit);
        });
    }
}
