//! A connection to a milter over TCP or a Unix socket.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use waxwing_types::Endpoint;

use crate::error::MilterError;

/// Maximum number of addresses tried for a host name.
const ADDRESSES_MAX: usize = 8;

/// A connected socket. Nagle's algorithm is disabled for TCP, because complete batches are written.
pub(crate) enum MilterSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl MilterSocket {
    pub(crate) async fn connect(endpoint: &Endpoint, time: Duration) -> Result<Self, MilterError> {
        match timeout(time, Self::try_connect(endpoint)).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => Err(MilterError::Unreachable(error.to_string())),
            Err(_) => Err(MilterError::Unreachable(format!("no connection within {} ms", time.as_millis()))),
        }
    }

    async fn try_connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Endpoint::Inet { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in lookup_host((host.as_str(), *port)).await?.take(ADDRESSES_MAX) {
                    match TcpStream::connect(address).await {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer).await,
            Self::Unix(stream) => stream.read(buffer).await,
        }
    }

    pub(crate) async fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(octets).await,
            Self::Unix(stream) => stream.write_all(octets).await,
        }
    }

    /// Writes as many bytes as possible without blocking.
    pub(crate) fn try_write(&self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(octets),
            Self::Unix(stream) => stream.try_write(octets),
        }
    }
}
