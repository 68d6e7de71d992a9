//! TLS server configuration of a listener. Certificates are reloaded without a new configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion};

use super::certificates::CertificateStore;
use super::{TlsError, crypto_provider};

/// Default timeout of a handshake.
const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Policy for client certificates.
#[derive(Clone, Debug, Default)]
pub enum ClientCertPolicy {
    /// No certificate is requested.
    #[default]
    None,
    /// A certificate is requested but not required. The result of the verification by the given authorities is in
    /// [`TlsSession::verified`](waxwing_types::TlsSession::verified).
    Ask(Vec<CertificateDer<'static>>),
    /// A certificate of the given authorities is required.
    Require(Vec<CertificateDer<'static>>),
}

/// TLS settings of a listener.
pub struct TlsServer {
    handshake_config: ServerHandshakeConfig,
    handshake_timeout: Duration,
}

/// Configuration of rustls, and the verifier for client certificates that rustls accepted without verification.
pub(crate) struct ServerHandshakeConfig {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl TlsServer {
    /// Creates settings with the given certificates, TLS 1.3 and, unless `only_13`, TLS 1.2. The handshake timeout is
    /// 60 seconds.
    pub fn new(certificates: Arc<CertificateStore>, clients: ClientCertPolicy, only_13: bool) -> Result<Self, TlsError> {
        let shaking = ServerHandshakeConfig::new(certificates, clients, only_13)?;
        Ok(Self { handshake_config: shaking, handshake_timeout: HANDSHAKE_TIMEOUT_DEFAULT })
    }

    /// Sets the timeout of the handshake (`smtpd_starttls_timeout`).
    #[must_use]
    pub fn with_handshake_timeout(mut self, handshake_time_max: Duration) -> Self {
        self.handshake_timeout = handshake_time_max;
        self
    }

    pub(crate) fn handshake_config(&self) -> &ServerHandshakeConfig {
        &self.handshake_config
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }
}

impl ServerHandshakeConfig {
    fn new(certificates: Arc<CertificateStore>, clients: ClientCertPolicy, only_13: bool) -> Result<Self, TlsError> {
        let both: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let versions = if only_13 { &[&rustls::version::TLS13] } else { both };
        let builder = ServerConfig::builder_with_provider(crypto_provider()).with_protocol_versions(versions)?;
        let mut judge = None;
        let builder = match clients {
            ClientCertPolicy::None => builder.with_no_client_auth(),
            ClientCertPolicy::Require(authorities) => builder.with_client_cert_verifier(client_verifier(authorities)?),
            ClientCertPolicy::Ask(authorities) => {
                let knows = client_verifier(authorities)?;
                judge = Some(Arc::clone(&knows));
                builder.with_client_cert_verifier(Arc::new(AcceptAnyClientCert(knows)))
            }
        };
        // No ALPN: IANA has no protocol ID for SMTP, and offers of clients are ignored.
        Ok(Self { config: Arc::new(builder.with_cert_resolver(certificates)), verifier: judge })
    }

    /// Returns whether a configured authority has signed the client certificate.
    pub(crate) fn is_verified(&self, chain: &[CertificateDer<'_>]) -> bool {
        match (&self.verifier, chain.split_first()) {
            (_, None) => false,
            // Without a verifier here, rustls has verified the certificate during the handshake.
            (None, Some(_)) => true,
            (Some(judge), Some((first, others))) => judge.verify_client_cert(first, others, UnixTime::now()).is_ok(),
        }
    }
}

fn client_verifier(authorities: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider()).build();
    built.map_err(|error| TlsError::Unusable(format!("authorities for clients: {error}")))
}

/// Requests a certificate and accepts any certificate or none, but verifies possession of the private key. A server
/// that presents its own certificate as a client must not be rejected.
#[derive(Debug)]
struct AcceptAnyClientCert(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AcceptAnyClientCert {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
