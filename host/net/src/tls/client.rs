//! TLS client configuration, with or without verification of the server.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::{TlsError, crypto_provider};

/// Default timeout of a handshake (`smtp_starttls_timeout`).
const HANDSHAKE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(300);

/// Verification of the server certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerVerification {
    /// Any certificate is accepted: unauthenticated encryption is better than plain text (RFC 7435). The result of
    /// the verification is in [`TlsSession::verified`](waxwing_types::TlsSession::verified).
    Opportunistic,
    /// The handshake fails unless the certificate is valid for the name.
    Required,
}

/// Factory of [`TlsClient`]s, shared by all connections so that sessions can be resumed.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    opportunistic: Arc<ClientConfig>,
    required: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
    handshake_timeout: Duration,
}

/// Handshake settings of a connection.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) verifier: Arc<WebPkiServerVerifier>,
    pub(crate) handshake_timeout: Duration,
}

impl TlsConnector {
    /// Trusts the authorities trusted by Mozilla.
    pub fn new() -> Result<Self, TlsError> {
        Self::from_roots(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// Trusts only the given authorities (`smtp_tls_CAfile`), in DER.
    pub fn with_authorities(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        Self::from_roots(roots)
    }

    fn from_roots(roots: RootCertStore) -> Result<Self, TlsError> {
        let provider = crypto_provider();
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        let anyone = Arc::new(AcceptAnyServerCert(Arc::clone(&provider)));
        let versions: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let config = |verifier: Arc<dyn ServerCertVerifier>| -> Result<Arc<ClientConfig>, TlsError> {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
            Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
        };
        let (opportunistic, required) = (config(anyone)?, config(Arc::clone(&judge) as _)?);
        Ok(Self { opportunistic, required, verifier: judge, handshake_timeout: HANDSHAKE_TIMEOUT_DEFAULT })
    }

    /// Sets the timeout of the handshake (`smtp_starttls_timeout`); the default is 300 seconds.
    #[must_use]
    pub fn with_handshake_timeout(mut self, handshake_time_max: Duration) -> Self {
        self.handshake_timeout = handshake_time_max;
        self
    }

    /// Returns settings for a connection to `host`, a name or an address. The name is sent as SNI and, depending on
    /// `verify`, must match the certificate.
    pub fn client_for(&self, host: &str, verify: ServerVerification) -> Result<TlsClient, TlsError> {
        let name = host.strip_suffix('.').unwrap_or(host).to_owned();
        let server_name = ServerName::try_from(name)
            .map_err(|_| TlsError::Unusable(format!("\"{host}\" is not a valid server name for TLS")))?;
        let config = match verify {
            ServerVerification::Opportunistic => &self.opportunistic,
            ServerVerification::Required => &self.required,
        };
        Ok(TlsClient {
            config: Arc::clone(config),
            server_name,
            verifier: Arc::clone(&self.verifier),
            handshake_timeout: self.handshake_timeout,
        })
    }
}

impl TlsClient {
    /// Returns whether the chain, the server certificate first, is valid for the server name at present.
    pub(crate) fn is_valid_chain(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((end_entity, intermediates)) = chain.split_first() else { return false };
        self.verifier.verify_server_cert(end_entity, intermediates, &self.server_name, &[], UnixTime::now()).is_ok()
    }
}

/// Accepts any certificate, but verifies possession of the private key.
#[derive(Debug)]
struct AcceptAnyServerCert(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyServerCert {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
