//! The client's side: with or without a look at who the server is.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::{TlsError, provider};

/// For a server to finish its handshake (`smtp_starttls_timeout`).
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(300);

/// Whether it matters who the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// No: an unknown certificate is better than plain text (RFC 7435). Whether it would have been verified is told in
    /// [`TlsSession::verified`](waxwing_types::TlsSession::verified).
    Opportunistic,
    /// Yes: the handshake fails unless the certificate is valid for the name.
    Required,
}

/// Makes [`TlsClient`]s: one of these for all connections, so that sessions can be resumed.
#[derive(Clone, Debug)]
pub struct TlsConnector {
    opportunistic: Arc<ClientConfig>,
    required: Arc<ClientConfig>,
    judge: Arc<WebPkiServerVerifier>,
    handshake_time_max: Duration,
}

/// The handshake of one connection.
#[derive(Clone, Debug)]
pub struct TlsClient {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) judge: Arc<WebPkiServerVerifier>,
    pub(crate) handshake_time_max: Duration,
}

impl TlsConnector {
    /// Trusts the authorities that Mozilla trusts.
    pub fn new() -> Result<Self, TlsError> {
        Self::trusting(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
    }

    /// Trusts these authorities and no others (`smtp_tls_CAfile`), as DER.
    pub fn with_authorities(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority)?;
        }
        Self::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> Result<Self, TlsError> {
        let provider = provider();
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        let anyone = Arc::new(Anyone(Arc::clone(&provider)));
        let versions: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
        let config = |verifier: Arc<dyn ServerCertVerifier>| -> Result<Arc<ClientConfig>, TlsError> {
            let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
            Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
        };
        let (opportunistic, required) = (config(anyone)?, config(Arc::clone(&judge) as _)?);
        Ok(Self { opportunistic, required, judge, handshake_time_max: HANDSHAKE_TIME_MAX })
    }

    /// With another limit for the handshake (`smtp_starttls_timeout`); it is 300 seconds by default.
    #[must_use]
    pub fn within(mut self, handshake_time_max: Duration) -> Self {
        self.handshake_time_max = handshake_time_max;
        self
    }

    /// For a connection to `host`, a name or an address: the name is sent (SNI) and, by `verify`, must be the certificate's.
    pub fn to(&self, host: &str, verify: Verify) -> Result<TlsClient, TlsError> {
        let name = host.strip_suffix('.').unwrap_or(host).to_owned();
        let server_name = ServerName::try_from(name)
            .map_err(|_| TlsError::Unusable(format!("\"{host}\" is no name that a certificate could have")))?;
        let config = match verify {
            Verify::Opportunistic => &self.opportunistic,
            Verify::Required => &self.required,
        };
        Ok(TlsClient {
            config: Arc::clone(config),
            server_name,
            judge: Arc::clone(&self.judge),
            handshake_time_max: self.handshake_time_max,
        })
    }
}

impl TlsClient {
    /// The chain, the server's certificate first, is valid for the name now.
    pub(crate) fn would_verify(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((end_entity, intermediates)) = chain.split_first() else { return false };
        self.judge.verify_server_cert(end_entity, intermediates, &self.server_name, &[], UnixTime::now()).is_ok()
    }
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
