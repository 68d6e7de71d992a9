//! Generation of a self-signed certificate, for tests and `waxwing dev`.

use super::TlsError;

/// Returns a PEM text with a fresh private key and a self-signed certificate for `names`. No client should trust the
/// certificate.
pub fn self_signed(names: &[String]) -> Result<String, TlsError> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(made.signing_key.serialize_pem() + &made.cert.pem())
}
