//! What listeners do about encryption and proxies.

use crate::kind::Words;
use crate::reader::Reader;
use crate::sections::Listen;
use crate::{Config, ListenAddress, ListenKind};

/// When a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTls {
    /// Never.
    None,
    /// When the client asks (STARTTLS, RFC 3207).
    Starttls,
    /// From its first octet (RFC 8314 §3).
    Implicit,
}

impl Words for ListenTls {
    const FORM: &'static str = "\"none\", \"starttls\" or \"implicit\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("starttls", Self::Starttls), ("implicit", Self::Implicit)];
}

/// What is wanted of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// It is not asked for.
    None,
    /// It is asked for; whoever has none, or one that no authority of ours vouches for, is served all the same.
    Ask,
    /// Without one that an authority of ours vouches for there is no session.
    Require,
}

impl Words for ClientCertificates {
    const FORM: &'static str = "\"none\", \"ask\" or \"require\"";
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::None), ("ask", Self::Ask), ("require", Self::Require)];
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsProtocols {
    /// 1.2 and 1.3.
    From12,
    /// 1.3.
    From13,
}

impl Words for TlsProtocols {
    const FORM: &'static str = "\">=TLSv1.2\" or \">=TLSv1.3\"";
    const WORDS: &'static [(&'static str, Self)] = &[(">=TLSv1.2", Self::From12), (">=TLSv1.3", Self::From13)];
}

impl Config {
    /// When connections to this listener are encrypted.
    #[must_use]
    pub fn tls_of(&self, listen: &Listen) -> ListenTls {
        // What does not leave this machine needs no TLS.
        let by_default = match self.smtpd_tls_chain_files.is_empty() || matches!(listen.address, ListenAddress::Unix(_)) {
            true => ListenTls::None,
            false => ListenTls::Starttls,
        };
        listen.tls.unwrap_or(by_default)
    }

    /// The oldest version of TLS that this listener speaks.
    #[must_use]
    pub fn tls_protocols_of(&self, listen: &Listen) -> TlsProtocols {
        listen.tls_protocols.unwrap_or(self.smtpd_tls_protocols)
    }
}

/// Listeners that ask for what is not there.
pub(crate) fn check_tls(config: &Config, reader: &mut Reader<'_>) {
    for (index, listen) in config.listen.iter().enumerate() {
        let at = |key: &str| format!("listen[{index}].{key}");
        let tls = config.tls_of(listen);
        if tls != ListenTls::None && config.smtpd_tls_chain_files.is_empty() {
            let message = format!("the listener \"{}\" has TLS, but there is no certificate", listen.name);
            reader.wrong_at(
                &at("tls"),
                message,
                "set smtpd_tls_chain_files to PEM files with a private key and its certificates".to_owned(),
            );
        }
        if listen.tls_required && tls == ListenTls::None {
            let message = format!("the listener \"{}\" requires TLS, but has none", listen.name);
            reader.wrong_at(
                &at("tls_required"),
                message,
                "add tls = \"starttls\" and smtpd_tls_chain_files, or leave it out".to_owned(),
            );
        }
        if listen.client_certificates != ClientCertificates::None {
            if tls == ListenTls::None {
                let message = format!("the listener \"{}\" wants certificates of clients, but has no TLS", listen.name);
                reader.wrong_at(&at("client_certificates"), message, "add tls = \"starttls\" or \"implicit\"".to_owned());
            } else if config.smtpd_tls_CAfile.is_none() {
                let message =
                    format!("the listener \"{}\" wants certificates of clients, but no authority is named", listen.name);
                reader.wrong_at(&at("client_certificates"), message, "set smtpd_tls_CAfile to a PEM file".to_owned());
            }
        }
        if listen.proxy && listen.proxy_networks.is_empty() {
            let message = format!("the listener \"{}\" is behind a proxy that is not named", listen.name);
            reader.wrong_at(&at("proxy"), message, "add proxy_networks = [\"192.0.2.1\"]: nobody else can connect".to_owned());
        } else if !listen.proxy && !listen.proxy_networks.is_empty() {
            let message = format!("the listener \"{}\" names proxies, but takes no PROXY header", listen.name);
            reader.wrong_at(&at("proxy_networks"), message, "add proxy = true, or leave it out".to_owned());
        }
        if listen.kind == ListenKind::Lmtp && listen.address.port() == Some(25) {
            let message = format!("the listener \"{}\" speaks LMTP on port 25", listen.name);
            reader.wrong_at(&at("address"), message, "take another port, such as 24 (RFC 2033 §5)".to_owned());
        }
    }
}
