//! Outbound TCP connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Failure to connect to an address.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Connection not established within the time.
    #[error("Connection timed out")]
    TimedOut,
    /// Connection refused, network unreachable, or another error of the socket.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Connects to `address` within `time` (`smtp_connect_timeout`), from the source address `from` if given
/// (`smtp_bind_address`). Nagle's algorithm is disabled, because the drive loop writes complete batches.
pub async fn connect(address: SocketAddr, from: Option<IpAddr>, time: Duration) -> Result<TcpStream, ConnectError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    match timeout(time, socket.connect(address)).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(ConnectError::TimedOut),
    }
}
