//! A stream that can switch to TLS during the connection.

use std::io::{self, IoSlice};
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::CommonState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::{client, server};
use waxwing_types::TlsSession;

use super::{TlsClient, TlsError, TlsServer, session_info};

/// A plain or encrypted stream. TLS streams are boxed to keep plain connections small.
pub(crate) enum MaybeTlsStream<IO> {
    Plain(IO),
    Server(Box<server::TlsStream<IO>>),
    Client(Box<client::TlsStream<IO>>),
    /// Stream closed by a failed handshake, or in use by a handshake.
    Closed,
}

/// Role in the next handshake.
#[derive(Clone, Debug)]
pub(crate) enum HandshakeRole {
    Server(Arc<TlsServer>, SocketAddr),
    Client(TlsClient),
}

impl HandshakeRole {
    fn timeout(&self) -> Duration {
        match self {
            Self::Server(server, _) => server.handshake_timeout(),
            Self::Client(client) => client.handshake_timeout,
        }
    }

    /// Returns the address of the client, on the server side.
    fn client_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Server(_, client) => Some(*client),
            Self::Client(_) => None,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> MaybeTlsStream<IO> {
    /// Performs the handshake over a plain stream within the timeout. Any failure closes the stream.
    pub(crate) async fn handshake(&mut self, role: HandshakeRole) -> Result<TlsSession, TlsError> {
        let Self::Plain(io) = mem::replace(self, Self::Closed) else {
            return Err(TlsError::Unusable("the connection is encrypted already, or has ended".to_owned()));
        };
        let (time_max, client) = (role.timeout(), role.client_address());
        let handshake = async {
            Ok(match role {
                HandshakeRole::Server(server, _) => accept(io, &server).await?,
                HandshakeRole::Client(client) => connect(io, client).await?,
            })
        };
        let result = timeout(time_max, handshake).await.unwrap_or(Err(TlsError::Timeout));
        if let (Some(client), Err(error)) = (client, &result) {
            tracing::info!(target: "smtpd", client = %client.ip(), "TLS handshake failed: {error}");
        }
        let (stream, session) = result?;
        *self = stream;
        Ok(session)
    }
}

async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, server: &TlsServer) -> io::Result<(MaybeTlsStream<IO>, TlsSession)> {
    let handshake = server.handshake_config();
    let stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&handshake.config)).accept(io).await?;
    let (_, connection) = stream.get_ref();
    let state: &CommonState = connection;
    let export = |octets, label: &[u8]| connection.export_keying_material(octets, label, None).ok().map(|o: [u8; 32]| o.to_vec());
    let chain = state.peer_certificates().unwrap_or_default();
    let session = TlsSession {
        server_name: connection.server_name().map(str::to_owned),
        client_fingerprint: chain.first().map(|certificate| session_info::fingerprint(certificate)),
        verified: handshake.is_verified(chain),
        exporter: session_info::channel_binding(state.protocol_version(), export),
        ..session_info::session_from_state(state)
    };
    Ok((MaybeTlsStream::Server(Box::new(stream)), session))
}

async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, client: TlsClient) -> io::Result<(MaybeTlsStream<IO>, TlsSession)> {
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(&client.config));
    let stream = connector.connect(client.server_name.clone(), io).await?;
    let (_, connection) = stream.get_ref();
    let state: &CommonState = connection;
    let export = |octets, label: &[u8]| connection.export_keying_material(octets, label, None).ok().map(|o: [u8; 32]| o.to_vec());
    let session = TlsSession {
        server_name: Some(client.server_name.to_str().into_owned()),
        verified: state.peer_certificates().is_some_and(|chain| client.is_valid_chain(chain)),
        exporter: session_info::channel_binding(state.protocol_version(), export),
        ..session_info::session_from_state(state)
    };
    Ok((MaybeTlsStream::Client(Box::new(stream)), session))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for MaybeTlsStream<IO> {
    /// Reads bytes or the end of the stream. A peer that closes without close_notify counts as an ordinary end: line
    /// ends and message ends delimit the data, and truncation cannot forge either.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = match self.get_mut() {
            Self::Plain(io) => return Pin::new(io).poll_read(cx, buffer),
            Self::Server(stream) => match Pin::new(stream.as_mut()).poll_read(cx, buffer) {
                Poll::Ready(read) => read,
                // Answers of TLS (refused renegotiation, key update) would wait for the next reply, and the peer for
                // the answer.
                Poll::Pending if stream.get_ref().1.wants_write() => match Pin::new(stream.as_mut()).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                },
                Poll::Pending => return Poll::Pending,
            },
            Self::Client(stream) => ready!(Pin::new(stream.as_mut()).poll_read(cx, buffer)),
            Self::Closed => Ok(()),
        };
        Poll::Ready(read.or_else(|error| match error.kind() == io::ErrorKind::UnexpectedEof {
            true => Ok(()),
            false => Err(error),
        }))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MaybeTlsStream<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, octets),
            Self::Server(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
            Self::Client(stream) => Pin::new(stream.as_mut()).poll_write(cx, octets),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Server(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::Client(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Server(_) | Self::Client(_) => true,
            Self::Closed => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Server(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Client(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Server(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Client(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}
