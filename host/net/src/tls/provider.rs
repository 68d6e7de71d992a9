//! Cryptography provider of rustls.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Returns the cryptography provider of all connections.
pub(crate) fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
