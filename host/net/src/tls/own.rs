//! A certificate that the server makes for itself, to try things out.

use super::TlsError;

/// A PEM text with a fresh private key and a certificate for `names` that only it vouches for. No client should trust it.
pub fn self_signed(names: &[String]) -> Result<String, TlsError> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Unusable(error.to_string()))?;
    Ok(made.signing_key.serialize_pem() + &made.cert.pem())
}
