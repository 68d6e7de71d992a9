//! TLS for connections: settings, handshakes and the resulting session information.

mod certificates;
mod client;
mod error;
mod maybe_tls;
mod provider;
mod self_signed;
mod server;
mod session_info;

use std::net::SocketAddr;
use std::sync::Arc;

pub use certificates::{
    CertificateInfo, CertificateStore, Certificates, PEM_FILE_BYTES_MAX, load_authorities, readable_by_others,
};
pub use client::{ServerVerification, TlsClient, TlsConnector};
pub use error::TlsError;
pub(crate) use maybe_tls::{HandshakeRole, MaybeTlsStream};
pub(crate) use provider::crypto_provider;
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
