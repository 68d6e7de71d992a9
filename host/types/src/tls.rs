//! Properties of TLS connections, and TLS security levels.

use serde::{Deserialize, Serialize};

/// Properties of an established TLS session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSession {
    /// Protocol version, such as `TLSv1.3`.
    pub version: String,
    /// Cipher suite, by IANA name.
    pub cipher: String,
    /// Server name requested by the client (SNI).
    pub server_name: Option<String>,
    /// SHA-256 of the client certificate, in hexadecimal digits.
    pub client_fingerprint: Option<String>,
    /// Whether the peer certificate was verified: a client's against the configured authorities, a server's against its
    /// name.
    pub verified: bool,
    /// Keying material `EXPORTER-Channel-Binding`, 32 octets (RFC 9266); empty for protocol versions without a safe
    /// exporter.
    pub exporter: Vec<u8>,
}

/// TLS security level of outgoing connections, as in Postfix's `smtp_tls_security_level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TlsLevel {
    /// No TLS at all.
    #[default]
    None,
    /// Opportunistic: if offered and the handshake succeeds; certificates are not verified.
    May,
    /// Mandatory; certificates are not verified.
    Encrypt,
    /// Mandatory, with a verified certificate of the server.
    Verify,
}
