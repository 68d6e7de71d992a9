//! Encrypted connections: who may shake hands, with what, and what is known afterwards.

mod certificates;
mod client;
mod own;
mod server;
mod session;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificates::{CertificateInfo, CertificateStore, Certificates, PEM_FILE_BYTES_MAX, authorities, readable_by_others};
pub use client::{TlsClient, TlsConnector, Verify};
pub use own::self_signed;
pub use server::{ClientTrust, TlsServer};
pub(crate) use wire::{Handshake, Wire};

/// What [`Action::StartTls`](waxwing_types::Action::StartTls) means on a connection.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// There is no encryption here: the session gets an end instead.
    #[default]
    None,
    /// We are the server.
    Accept {
        /// With what.
        server: Arc<TlsServer>,
        /// The handshake comes before all else (implicit TLS, RFC 8314 §3): the session gets
        /// [`Input::Secured`](waxwing_types::Input::Secured) right after [`Input::Start`](waxwing_types::Input::Start). Otherwise it asks
        /// (STARTTLS).
        first: bool,
        /// For the log.
        client: SocketAddr,
    },
    /// We are the client. The session asks.
    Connect(TlsClient),
}

/// Why a connection is not encrypted, or something for it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The session asked for a handshake where there is none.
    #[error("TLS is not configured here")]
    None,
    /// The peer did not finish in time.
    #[error("the handshake took too long")]
    Slow,
    /// The server goes down.
    #[error("the server is shutting down")]
    Shutdown,
    /// What rustls or the socket said.
    #[error("{0}")]
    Handshake(#[from] std::io::Error),
    /// A configuration that rustls does not take.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// Certificates that can't be used, with why.
    #[error("{0}")]
    Unusable(String),
}

/// The one provider of ciphers.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
