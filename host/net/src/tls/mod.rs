//! TLS for connections: settings, handshakes and the resulting session information.

mod certificates;
mod client;
mod maybe_tls;
mod self_signed;
mod server;
mod session_info;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificates::{
    CertificateInfo, CertificateStore, Certificates, PEM_FILE_BYTES_MAX, load_authorities, readable_by_others,
};
pub use client::{ServerVerification, TlsClient, TlsConnector};
pub(crate) use maybe_tls::{HandshakeRole, MaybeTlsStream};
pub use self_signed::self_signed;
pub use server::{ClientCertPolicy, TlsServer};

/// Meaning of [`Action::StartTls`](waxwing_types::Action::StartTls) on a connection.
#[derive(Clone, Debug, Default)]
pub enum TlsMode {
    /// No encryption: a request for TLS ends the connection.
    #[default]
    None,
    /// Handshake as the server.
    Accept {
        /// Configuration of the listener.
        server: Arc<TlsServer>,
        /// Whether the handshake precedes all other data (implicit TLS, RFC 8314 §3): the session gets
        /// [`Input::Secured`](waxwing_types::Input::Secured) right after
        /// [`Input::Start`](waxwing_types::Input::Start). Otherwise the session requests the handshake (STARTTLS).
        implicit: bool,
        /// Address of the client, for the log.
        client: SocketAddr,
    },
    /// Handshake as the client, on request of the session.
    Connect(TlsClient),
}

/// Failure of a handshake, or of loading keys and certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Handshake requested on a connection without TLS.
    #[error("TLS is not configured here")]
    NotConfigured,
    /// Handshake not completed within the time.
    #[error("handshake timeout")]
    Timeout,
    /// Handshake aborted by the shutdown of the server.
    #[error("the server is shutting down")]
    Shutdown,
    /// Error of rustls or the socket.
    #[error("{0}")]
    Handshake(#[from] std::io::Error),
    /// Configuration rejected by rustls.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// Certificates or keys that cannot be used, with the reason.
    #[error("{0}")]
    Unusable(String),
}

/// Returns the cryptography provider of all connections.
pub(crate) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
