//! What is known of an encrypted connection, and when one is wanted.

use serde::{Deserialize, Serialize};

/// The encrypted session, if a connection is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSession {
    /// `TLSv1.3`.
    pub version: String,
    /// By its IANA name.
    pub cipher: String,
    /// The name that the client asked for.
    pub server_name: Option<String>,
    /// SHA-256 of the client's certificate, in hexadecimal digits.
    pub client_fingerprint: Option<String>,
    /// The peer's certificate was verified: the client's against our authorities, or the server's against its name.
    pub verified: bool,
    /// Keying material `EXPORTER-Channel-Binding`, 32 octets (RFC 9266); empty where the protocol has none that is safe.
    pub exporter: Vec<u8>,
}

/// Whether we encrypt a connection that we make, as Postfix's `smtp_tls_security_level` has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsLevel {
    /// Never.
    #[default]
    None,
    /// If the server offers it and the handshake succeeds; certificates are not looked at.
    May,
    /// Always; certificates are not looked at.
    Encrypt,
    /// Always, and the certificate must be the server's.
    Verify,
}
