//! Password records in Dovecot's syntax: a scheme in braces, then the data of the scheme.

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::scram::ScramKeys;

/// Bytes of the salt in an `{ARGON2ID}` record.
pub const ARGON2_SALT_BYTES: usize = 16;

/// Bytes of the hash in an `{ARGON2ID}` record.
pub const ARGON2_HASH_BYTES: usize = 32;

/// Computation cost of an `{ARGON2ID}` record (RFC 9106 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory size in KiB.
    pub memory_kib: u32,
    /// Number of passes over the memory.
    pub passes: u32,
    /// Number of lanes, computed sequentially.
    pub lanes: u32,
}

impl PasswordCost {
    /// Encoded parameters at the start of a record.
    fn encoded_prefix(self) -> String {
        format!("$argon2id$v=19$m={},t={},p={}$", self.memory_kib, self.passes, self.lanes)
    }
}

impl Default for PasswordCost {
    // Second choice of OWASP: 19 MiB, two passes, one lane.
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// Reason for the refusal of a password record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoredPasswordError {
    /// Unsupported password scheme.
    #[error("unknown password scheme")]
    UnknownScheme,
    /// Supported scheme with malformed data.
    #[error("malformed password record")]
    Malformed,
    /// `{PLAIN}` record without permission of the operator.
    #[error("passwords in plain text are not allowed")]
    PlainNotAllowed,
}

/// Password record of a user.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredPassword {
    /// Argon2id, as `{ARGON2ID}$argon2id$…`.
    Argon2id(String),
    /// Bcrypt, as `{BLF-CRYPT}$2y$…`.
    Bcrypt(String),
    /// SHA-512 crypt, as `{SHA512-CRYPT}$6$…`.
    Sha512Crypt(String),
    /// Yescrypt, as `{CRYPT}$y$…`.
    Yescrypt(String),
    /// SCRAM keys, as `{SCRAM-SHA-256}…`.
    Scram(ScramKeys),
    /// Plain text, as `{PLAIN}…`.
    Plain(String),
}

impl StoredPassword {
    /// Parses a record; without a scheme in braces the prefix of the hash selects the scheme. `plain` permits `{PLAIN}`.
    pub fn parse(text: &str, plain: bool) -> Result<Self, StoredPasswordError> {
        let (scheme, value) = match text.strip_prefix('{').map(|rest| rest.split_once('}')) {
            Some(Some((scheme, value))) => (scheme.to_ascii_uppercase(), value),
            Some(None) => return Err(StoredPasswordError::Malformed),
            None => ("CRYPT".to_owned(), text),
        };
        let owned = || value.to_owned();
        let has_prefix = |prefix: &[&str]| prefix.iter().any(|prefix| value.starts_with(prefix));
        let record = match scheme.as_str() {
            "PLAIN" | "CLEARTEXT" if plain => Self::Plain(owned()),
            "PLAIN" | "CLEARTEXT" => return Err(StoredPasswordError::PlainNotAllowed),
            "SCRAM-SHA-256" => Self::Scram(ScramKeys::parse(value).ok_or(StoredPasswordError::Malformed)?),
            "ARGON2ID" | "CRYPT" if has_prefix(&["$argon2id$"]) => Self::Argon2id(owned()),
            "BLF-CRYPT" | "CRYPT" if has_prefix(&["$2y$", "$2b$", "$2a$"]) => Self::Bcrypt(owned()),
            "SHA512-CRYPT" | "CRYPT" if has_prefix(&["$6$"]) => Self::Sha512Crypt(owned()),
            "CRYPT" if has_prefix(&["$y$"]) => Self::Yescrypt(owned()),
            "ARGON2ID" | "BLF-CRYPT" | "SHA512-CRYPT" => return Err(StoredPasswordError::Malformed),
            _ => return Err(StoredPasswordError::UnknownScheme),
        };
        Ok(record)
    }

    /// Computes an `{ARGON2ID}` record of a password; `None` for an invalid cost.
    #[must_use]
    pub fn new_argon2id(password: &str, salt: &[u8; ARGON2_SALT_BYTES], cost: PasswordCost) -> Option<Self> {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None).ok()?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon.hash_password_with_salt(password.as_bytes(), salt).ok().map(|hash| Self::Argon2id(hash.to_string()))
    }

    /// Creates an `{ARGON2ID}` record without a matching password, for unknown users: verification costs as much as for a wrong password.
    /// The hash consists of random bytes, without computation. `None` for an invalid cost.
    #[must_use]
    pub fn dummy(salt: &[u8; ARGON2_SALT_BYTES], hash: &[u8; ARGON2_HASH_BYTES], cost: PasswordCost) -> Option<Self> {
        Params::new(cost.memory_kib, cost.passes, cost.lanes, None).ok()?;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        Some(Self::Argon2id(format!("{}{salt}${hash}", cost.encoded_prefix())))
    }

    /// True for an `{ARGON2ID}` record of the given cost.
    #[must_use]
    pub fn has_cost(&self, cost: PasswordCost) -> bool {
        matches!(self, Self::Argon2id(hash) if hash.starts_with(&cost.encoded_prefix()))
    }

    /// Verifies a password by a single hash computation.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        match self {
            Self::Argon2id(hash) => Argon2::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha512Crypt(hash) => sha_crypt::ShaCrypt::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
            Self::Yescrypt(hash) => yescrypt::Yescrypt::default().verify_password(password.as_bytes(), hash.as_str()).is_ok(),
            Self::Scram(keys) => keys.verify(password),
            Self::Plain(stored) => stored.as_bytes().ct_eq(password.as_bytes()).into(),
        }
    }

    /// Name of the scheme, without braces.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Argon2id(_) => "ARGON2ID",
            Self::Bcrypt(_) => "BLF-CRYPT",
            Self::Sha512Crypt(_) => "SHA512-CRYPT",
            Self::Yescrypt(_) => "CRYPT",
            Self::Scram(_) => "SCRAM-SHA-256",
            Self::Plain(_) => "PLAIN",
        }
    }

    /// Formats the record for [`Self::parse`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let value = match self {
            Self::Scram(keys) => &keys.to_text(),
            Self::Argon2id(text) | Self::Bcrypt(text) | Self::Sha512Crypt(text) | Self::Yescrypt(text) | Self::Plain(text) => {
                text
            }
        };
        format!("{{{}}}{value}", self.scheme())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: PasswordCost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };

    #[test]
    fn each_scheme_knows_its_password_only() {
        let made = StoredPassword::new_argon2id("Hello world!", &[7; ARGON2_SALT_BYTES], CHEAP).unwrap().to_text();
        // Made by OpenSSL.
        let sha =
            "{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";
        let blowfish = format!("{{BLF-CRYPT}}{}", bcrypt::hash("Hello world!", 4).unwrap());
        for text in [made.as_str(), sha, &blowfish, "{PLAIN}Hello world!"] {
            let record = StoredPassword::parse(text, true).unwrap();
            assert!(record.verify("Hello world!"), "{text}");
            assert!(!record.verify("Hello world?"), "{text}");
            assert_eq!(record.to_text(), text);
        }
    }

    #[test]
    fn nobodys_record_is_of_the_same_form_and_cost_as_a_users() {
        let nobody = StoredPassword::dummy(&[7; ARGON2_SALT_BYTES], &[8; ARGON2_HASH_BYTES], CHEAP).unwrap();
        let made = StoredPassword::new_argon2id("x", &[7; ARGON2_SALT_BYTES], CHEAP).unwrap();
        let shape = |record: &StoredPassword| record.to_text().rsplit_once('$').map(|(head, hash)| (head.to_owned(), hash.len()));
        assert_eq!(shape(&nobody), shape(&made));
        assert!(nobody.has_cost(CHEAP) && made.has_cost(CHEAP) && !made.has_cost(PasswordCost::default()));
        assert!(!nobody.verify("x") && !nobody.verify(""));
        // It is computed indeed: a malformed one would be refused at once.
        let StoredPassword::Argon2id(text) = &nobody else { panic!() };
        assert!(argon2::PasswordHash::new(text).is_ok());
        assert!(
            StoredPassword::dummy(&[7; ARGON2_SALT_BYTES], &[8; ARGON2_HASH_BYTES], PasswordCost { memory_kib: 1, ..CHEAP })
                .is_none()
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (text, why) in [
            ("{PLAIN}a", StoredPasswordError::PlainNotAllowed),
            ("{MD5}a", StoredPasswordError::UnknownScheme),
            ("secret", StoredPasswordError::UnknownScheme),
            ("{ARGON2ID}a", StoredPasswordError::Malformed),
            ("{SCRAM-SHA-256}4096,,a,b", StoredPasswordError::Malformed),
            ("{", StoredPasswordError::Malformed),
        ] {
            assert_eq!(StoredPassword::parse(text, false).err(), Some(why), "{text}");
        }
    }
}
