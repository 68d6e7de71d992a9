//! Accept loop behind a proxy: the PROXY header comes first and names the client.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;

use crate::accept::{ACCEPT_PAUSE, AcceptSettings, AcceptedConnection, spawn_session};
use crate::proxy_protocol::{self, ProxyHeader};
use crate::task::{Shutdown, spawn};

/// Maximum number of connections of a listener with a pending header; further connections are closed.
pub const PENDING_PROXY_HEADERS_MAX: usize = 1000;

/// Settings of a listener behind a proxy.
#[derive(Clone)]
pub struct ProxySettings {
    /// Name of the listener in the log.
    pub listener: Arc<str>,
    /// Returns whether an address is a proxy; connections from other addresses are closed.
    pub is_proxy: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    /// Timeout for the header (`smtpd_upstream_proxy_timeout`).
    pub time_max: Duration,
}

/// A connection after the PROXY header.
struct ProxiedConnection {
    stream: TcpStream,
    client: SocketAddr,
    server: SocketAddr,
}

/// Accepts connections like [`accept_loop`](crate::accept_loop), but every connection starts with a PROXY header.
/// Session limits apply to the client named in the header.
pub async fn accept_proxied<F, T>(
    listener: TcpListener,
    settings: AcceptSettings,
    proxy: ProxySettings,
    mut shutdown: Shutdown,
    serve: F,
) -> io::Result<()>
where
    F: Fn(AcceptedConnection) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let waiting = Arc::new(Semaphore::new(PENDING_PROXY_HEADERS_MAX));
    let (sender, mut named) = mpsc::channel(1);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => spawn_header_reader(stream, peer, &proxy, &waiting, &sender),
                Err(error) => {
                    tracing::warn!(listener = settings.task_name, %error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ProxiedConnection { stream, client, server }) = named.recv() => spawn_session(stream, client, server, &settings, &serve),
            () = shutdown.wait() => return Ok(()),
        }
    }
}

/// Reads the header in a task, unless the peer is no proxy or too many headers are pending.
fn spawn_header_reader(
    stream: TcpStream,
    peer: SocketAddr,
    proxy: &ProxySettings,
    waiting: &Arc<Semaphore>,
    sender: &mpsc::Sender<ProxiedConnection>,
) {
    let listener = Arc::clone(&proxy.listener);
    if !(proxy.is_proxy)(peer.ip()) {
        return tracing::warn!(target: "smtpd", client = %peer.ip(), listener = &*listener, "closed: not in proxy_networks");
    }
    let Ok(permit) = Arc::clone(waiting).try_acquire_owned() else {
        return tracing::warn!(target: "smtpd", proxy = %peer.ip(), listener = &*listener, "closed: too many pending PROXY headers");
    };
    let (time_max, sender) = (proxy.time_max, sender.clone());
    drop(spawn("proxy-header", async move {
        match read_header(stream, peer, time_max).await {
            // A send error means a closed listener.
            Ok(connection) => drop(sender.send(connection).await),
            Err(error) => tracing::warn!(target: "smtpd", proxy = %peer.ip(), listener = &*listener, "closed: {error}"),
        }
        drop(permit);
    }));
}

async fn read_header(
    mut stream: TcpStream,
    peer: SocketAddr,
    time_max: Duration,
) -> Result<ProxiedConnection, proxy_protocol::ProxyError> {
    let local = stream.local_addr()?;
    stream.set_nodelay(true)?;
    let ProxyHeader { addresses, .. } = proxy_protocol::read(&mut stream, time_max).await?;
    let (client, server) = addresses.unwrap_or((peer, local));
    Ok(ProxiedConnection { stream, client, server })
}
