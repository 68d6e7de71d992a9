//! Listening TCP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Maximum number of connections in the kernel's queue before accept.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Failure to listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}")]
pub struct TcpBindError {
    /// Address of the listener.
    pub address: SocketAddr,
    /// Error of the operating system.
    pub source: io::Error,
}

/// Binds and listens, without a runtime: the daemon binds as root and drops privileges before accepting. An IPv6
/// address accepts only IPv6, so that `0.0.0.0` and `[::]` can be used together.
pub fn bind_tcp(address: SocketAddr) -> Result<TcpListener, TcpBindError> {
    open_tcp(address).map_err(|source| TcpBindError { address, source })
}

fn open_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}
