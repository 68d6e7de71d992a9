//! Certificates and handshakes of the listeners.

use std::path::PathBuf;
use std::time::Duration;

use crate::section::section;
use crate::tls::TlsProtocols;
use crate::value::{DurationValue, EnumValue, ListOf, OptionalValue, PathValue};

section! {
    /// Certificates and handshakes of the listeners.
    pub struct TlsConfig (table, reader) {
        /// PEM files with private keys and certificate chains, reloaded on change. Keys and certificates are matched
        /// by public key; the first certificate is the default for clients without SNI and for names without a
        /// certificate.
        smtpd_tls_chain_files: Vec<PathBuf> [ListOf<PathValue>] = Vec::new();
        /// PEM file with the certificate authorities for client certificates.
        smtpd_tls_CAfile: Option<PathBuf> [OptionalValue<PathValue>] = None;
        /// Oldest TLS version accepted by listeners.
        smtpd_tls_protocols: TlsProtocols [EnumValue<TlsProtocols>] = TlsProtocols::From12;
        /// Timeout for the TLS handshake of a client.
        smtpd_starttls_timeout: Duration [DurationValue<100>] = Duration::from_secs(60);
        /// Timeout for the PROXY header.
        smtpd_upstream_proxy_timeout: Duration [DurationValue<100>] = Duration::from_secs(5);
    }
}
