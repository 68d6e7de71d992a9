//! PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).

use thiserror::Error;

/// Octets of a user's name.
pub const NAME_BYTES_MAX: usize = 255;
/// Octets of a password; longer ones would only buy work from us.
pub const SECRET_BYTES_MAX: usize = 1024;

/// Why an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SaslError {
    /// The response is none of this mechanism.
    #[error("malformed response")]
    Malformed,
    /// A part is longer than its limit.
    #[error("response is too long")]
    TooLong,
    /// The channel binding is another than ours, or the client was led to believe that we have none (RFC 5802 §6).
    #[error("channel binding does not match")]
    Binding,
    /// Whoever this is does not know the password.
    #[error("wrong name or secret")]
    Denied,
}

/// What a client says in PLAIN, and in LOGIN.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainResponse {
    /// Whom it wants to act for; empty: the user itself.
    pub authzid: String,
    /// Whose password it is.
    pub user: String,
    /// The password.
    pub secret: String,
}

fn checked(bytes: &[u8], max: usize) -> Result<String, SaslError> {
    if bytes.len() > max {
        return Err(SaslError::TooLong);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(SaslError::Malformed),
    }
}

/// Takes the one response of PLAIN apart.
pub fn parse_plain(response: &[u8]) -> Result<PlainResponse, SaslError> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (Some(authzid), Some(user), Some(secret)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(SaslError::Malformed);
    };
    let said = PlainResponse {
        authzid: checked(authzid, NAME_BYTES_MAX)?,
        user: checked(user, NAME_BYTES_MAX)?,
        secret: checked(secret, SECRET_BYTES_MAX)?,
    };
    match said.user.is_empty() || said.secret.is_empty() {
        true => Err(SaslError::Malformed),
        false => Ok(said),
    }
}

/// LOGIN as far as it has come.
#[derive(Default)]
pub struct Login {
    user: Option<String>,
}

/// What follows a response in LOGIN.
pub enum LoginStep {
    /// Ask this.
    Ask(&'static [u8]),
    /// Both are known.
    Said(PlainResponse),
}

impl Login {
    /// Takes a response; `None`: there was no initial one.
    pub fn step(&mut self, response: Option<&[u8]>) -> Result<LoginStep, SaslError> {
        let Some(response) = response else { return Ok(LoginStep::Ask(b"Username:")) };
        if response.is_empty() {
            return Err(SaslError::Malformed);
        }
        let Some(user) = self.user.take() else {
            self.user = Some(checked(response, NAME_BYTES_MAX)?);
            return Ok(LoginStep::Ask(b"Password:"));
        };
        let secret = checked(response, SECRET_BYTES_MAX)?;
        Ok(LoginStep::Said(PlainResponse { authzid: String::new(), user, secret }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_needs_a_name_a_secret_and_no_third_nul() {
        let said = parse_plain(b"boss\0anna\0secret").ok();
        assert_eq!(said.map(|s| (s.authzid, s.user, s.secret)), Some(("boss".into(), "anna".into(), "secret".into())));
        for bad in [&b"anna\0secret"[..], b"\0\0secret", b"\0anna\0", b"\0anna\0a\0b", b"\0\xff\0a", b""] {
            assert_eq!(parse_plain(bad).err(), Some(SaslError::Malformed), "{bad:?}");
        }
        let long = [&b"\0anna\0"[..], &[b'a'; SECRET_BYTES_MAX + 1]].concat();
        assert_eq!(parse_plain(&long).err(), Some(SaslError::TooLong));
    }

    #[test]
    fn login_asks_twice() {
        let mut login = Login::default();
        assert!(matches!(login.step(None), Ok(LoginStep::Ask(b"Username:"))));
        assert!(matches!(login.step(Some(b"anna")), Ok(LoginStep::Ask(b"Password:"))));
        let Ok(LoginStep::Said(said)) = login.step(Some(b"secret")) else { panic!("not done") };
        assert_eq!((said.user.as_str(), said.secret.as_str()), ("anna", "secret"));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_plain(&bytes);
            let mut login = Login::default();
            let _ = login.step(Some(&bytes));
            let _ = login.step(Some(&bytes));
        }
    }
}
