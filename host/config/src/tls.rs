//! TLS and PROXY keys of listeners.

use crate::reader::ConfigReader;
use crate::server_tables::ListenerConfig;
use crate::value::StringEnum;
use crate::{Config, ListenAddress, ListenerKind};

/// TLS mode of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerTlsMode {
    /// No TLS at all.
    None,
    /// TLS on request of the client (STARTTLS, RFC 3207).
    Starttls,
    /// TLS from the first byte (RFC 8314 §3).
    Implicit,
}

impl StringEnum for ListenerTlsMode {
    const FORM: &'static str = "\"none\", \"starttls\" or \"implicit\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("starttls", Self::Starttls), ("implicit", Self::Implicit)];
}

/// Policy for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// No certificate is requested.
    None,
    /// A certificate is requested; a client without a certificate, or with a certificate of an unknown authority, is
    /// served too.
    Ask,
    /// A certificate of a configured authority is required for a session.
    Require,
}

impl StringEnum for ClientCertificateMode {
    const FORM: &'static str = "\"none\", \"ask\" or \"require\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("none", Self::None), ("ask", Self::Ask), ("require", Self::Require)];
}

/// Oldest accepted TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProtocols {
    /// TLS 1.2 and 1.3.
    From12,
    /// TLS 1.3 only.
    From13,
}

impl StringEnum for TlsProtocols {
    const FORM: &'static str = "\">=TLSv1.2\" or \">=TLSv1.3\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[(">=TLSv1.2", Self::From12), (">=TLSv1.3", Self::From13)];
}

impl Config {
    /// Returns the TLS mode in effect for the listener.
    #[must_use]
    pub fn listener_tls(&self, listen: &ListenerConfig) -> ListenerTlsMode {
        // Data that stays on this machine needs no TLS.
        let by_default = match self.tls.smtpd_tls_chain_files.is_empty() || matches!(listen.address, ListenAddress::Unix(_)) {
            true => ListenerTlsMode::None,
            false => ListenerTlsMode::Starttls,
        };
        listen.tls.unwrap_or(by_default)
    }

    /// Returns the oldest TLS version accepted by the listener.
    #[must_use]
    pub fn listener_tls_protocols(&self, listen: &ListenerConfig) -> TlsProtocols {
        listen.tls_protocols.unwrap_or(self.tls.smtpd_tls_protocols)
    }
}

/// Reports listeners that require missing certificates, authorities or proxy networks.
pub(crate) fn check_listener_tls(config: &Config, reader: &mut ConfigReader<'_>) {
    for (index, listen) in config.listen.iter().enumerate() {
        let at = |key: &str| format!("listen[{index}].{key}");
        let tls = config.listener_tls(listen);
        if tls != ListenerTlsMode::None && config.tls.smtpd_tls_chain_files.is_empty() {
            let message = format!("the listener \"{}\" has TLS, but there is no certificate", listen.name);
            reader.error_at(
                &at("tls"),
                message,
                "set smtpd_tls_chain_files to PEM files with a private key and its certificates".to_owned(),
            );
        }
        if listen.tls_required && tls == ListenerTlsMode::None {
            let message = format!("the listener \"{}\" requires TLS, but has none", listen.name);
            reader.error_at(
                &at("tls_required"),
                message,
                "add tls = \"starttls\" and smtpd_tls_chain_files, or leave it out".to_owned(),
            );
        }
        if listen.client_certificates != ClientCertificateMode::None {
            if tls == ListenerTlsMode::None {
                let message = format!("the listener \"{}\" requests client certificates, but has no TLS", listen.name);
                reader.error_at(&at("client_certificates"), message, "add tls = \"starttls\" or \"implicit\"".to_owned());
            } else if config.tls.smtpd_tls_CAfile.is_none() {
                let message =
                    format!("the listener \"{}\" requests client certificates, but no authority is configured", listen.name);
                reader.error_at(&at("client_certificates"), message, "set smtpd_tls_CAfile to a PEM file".to_owned());
            }
        }
        if listen.proxy && listen.proxy_networks.is_empty() {
            let message = format!("the listener \"{}\" is behind a proxy but has no proxy_networks", listen.name);
            reader.error_at(
                &at("proxy"),
                message,
                "add proxy_networks = [\"192.0.2.1\"]: only these addresses can connect".to_owned(),
            );
        } else if !listen.proxy && !listen.proxy_networks.is_empty() {
            let message = format!("the listener \"{}\" has proxy_networks, but expects no PROXY header", listen.name);
            reader.error_at(&at("proxy_networks"), message, "add proxy = true, or leave it out".to_owned());
        }
        if listen.kind == ListenerKind::Lmtp && listen.address.port() == Some(25) {
            let message = format!("the listener \"{}\" speaks LMTP on port 25", listen.name);
            reader.error_at(&at("address"), message, "take another port, such as 24 (RFC 2033 §5)".to_owned());
        }
    }
}
