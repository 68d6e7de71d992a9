//! Session information after a handshake.

use rustls::{CommonState, ProtocolVersion};
use sha2::{Digest as _, Sha256};
use waxwing_types::{TlsSession, hex};

/// Label of the channel binding (RFC 9266 §4).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Length of the channel binding in bytes.
const EXPORTER_BYTES: usize = 32;

/// Returns the information common to both sides; the caller sets the remaining fields.
pub(crate) fn session_from_state(state: &CommonState) -> TlsSession {
    let version = match state.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    };
    let cipher = state.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map(iana_name).unwrap_or_default();
    TlsSession { version, cipher, ..TlsSession::default() }
}

/// Returns the IANA name of a cipher suite. rustls marks suites of TLS 1.3 by a prefix; the registry uses `TLS_` for
/// all.
fn iana_name(name: &str) -> String {
    name.strip_prefix("TLS13_").map_or_else(|| name.to_owned(), |suite| format!("TLS_{suite}"))
}

/// Returns the channel binding `tls-exporter`, for TLS 1.3 only. With TLS 1.2 the exporter is safe only with an
/// extended master secret (RFC 9266 §4.2), and rustls does not report the extension.
pub(crate) fn channel_binding(
    version: Option<ProtocolVersion>,
    export: impl FnOnce([u8; EXPORTER_BYTES], &[u8]) -> Option<Vec<u8>>,
) -> Vec<u8> {
    match version {
        Some(ProtocolVersion::TLSv1_3) => export([0; EXPORTER_BYTES], EXPORTER_LABEL).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// Returns the SHA-256 of a certificate in hexadecimal digits.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    hex(&Sha256::digest(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_registry() {
        assert_eq!(iana_name("TLS13_AES_256_GCM_SHA384"), "TLS_AES_256_GCM_SHA384");
        assert_eq!(iana_name("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
    }

    #[test]
    fn a_fingerprint_is_sha_256() {
        assert_eq!(fingerprint(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
