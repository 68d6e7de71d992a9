//! SASL mechanisms PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).

use thiserror::Error;

/// Maximum length of a user name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Maximum length of a password, in bytes; longer passwords would only cost hash computation.
pub const SECRET_BYTES_MAX: usize = 1024;

/// Reason for the failure of a SASL exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SaslError {
    /// Response with invalid syntax for the mechanism.
    #[error("malformed response")]
    Malformed,
    /// Response or field longer than the limit.
    #[error("response is too long")]
    TooLong,
    /// Wrong channel binding, or a downgrade: the client believes that the server does not offer channel binding (RFC 5802 §6).
    #[error("channel binding does not match")]
    ChannelBinding,
    /// Wrong user name or password.
    #[error("wrong name or secret")]
    Denied,
}

/// Credentials of a PLAIN or LOGIN exchange.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainResponse {
    /// Authorization identity; empty: same as `user`.
    pub authzid: String,
    /// Authentication identity (user name).
    pub user: String,
    /// Password in plain text.
    pub secret: String,
}

fn parse_field(bytes: &[u8], max: usize) -> Result<String, SaslError> {
    if bytes.len() > max {
        return Err(SaslError::TooLong);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(SaslError::Malformed),
    }
}

/// Parses the response of PLAIN. Errors: `Malformed`, `TooLong`.
pub fn parse_plain(response: &[u8]) -> Result<PlainResponse, SaslError> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (Some(authzid), Some(user), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(SaslError::Malformed);
    };
    let credentials = PlainResponse {
        authzid: parse_field(authzid, NAME_BYTES_MAX)?,
        user: parse_field(user, NAME_BYTES_MAX)?,
        secret: parse_field(secret, SECRET_BYTES_MAX)?,
    };
    match credentials.user.is_empty() || credentials.secret.is_empty() {
        true => Err(SaslError::Malformed),
        false => Ok(credentials),
    }
}

/// State of a LOGIN exchange.
#[derive(Default)]
pub struct LoginMechanism {
    user: Option<String>,
}

/// Result of a step of LOGIN.
pub enum LoginStep {
    /// Challenge for the client.
    Prompt(&'static [u8]),
    /// Complete user name and password.
    Complete(PlainResponse),
}

impl LoginMechanism {
    /// Processes a response; `None` for a missing initial response. Errors: `Malformed`, `TooLong`.
    pub fn step(&mut self, response: Option<&[u8]>) -> Result<LoginStep, SaslError> {
        let Some(response) = response else { return Ok(LoginStep::Prompt(b"Username:")) };
        if response.is_empty() {
            return Err(SaslError::Malformed);
        }
        let Some(user) = self.user.take() else {
            self.user = Some(parse_field(response, NAME_BYTES_MAX)?);
            return Ok(LoginStep::Prompt(b"Password:"));
        };
        let secret = parse_field(response, SECRET_BYTES_MAX)?;
        Ok(LoginStep::Complete(PlainResponse { authzid: String::new(), user, secret }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_needs_a_name_a_secret_and_no_third_nul() {
        let parsed = parse_plain(b"boss\0anna\0secret").ok();
        assert_eq!(parsed.map(|s| (s.authzid, s.user, s.secret)), Some(("boss".into(), "anna".into(), "secret".into())));
        for bad in [&b"anna\0secret"[..], b"\0\0secret", b"\0anna\0", b"\0anna\0a\0b", b"\0\xff\0a", b""] {
            assert_eq!(parse_plain(bad).err(), Some(SaslError::Malformed), "{bad:?}");
        }
        let long = [&b"\0anna\0"[..], &[b'a'; SECRET_BYTES_MAX + 1]].concat();
        assert_eq!(parse_plain(&long).err(), Some(SaslError::TooLong));
    }

    #[test]
    fn login_asks_twice() {
        let mut login = LoginMechanism::default();
        assert!(matches!(login.step(None), Ok(LoginStep::Prompt(b"Username:"))));
        assert!(matches!(login.step(Some(b"anna")), Ok(LoginStep::Prompt(b"Password:"))));
        let Ok(LoginStep::Complete(parsed)) = login.step(Some(b"secret")) else { panic!("not done") };
        assert_eq!((parsed.user.as_str(), parsed.secret.as_str()), ("anna", "secret"));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_plain(&bytes);
            let mut login = LoginMechanism::default();
            let _ = login.step(Some(&bytes));
            let _ = login.step(Some(&bytes));
        }
    }
}
