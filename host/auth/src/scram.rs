//! SASL mechanisms SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::plain::{NAME_BYTES_MAX, SaslError};

/// PBKDF2 iterations of new records (minimum of RFC 7677 §4).
pub const SCRAM_ITERATIONS: u32 = 4096;
/// Maximum number of PBKDF2 iterations in a record.
pub const SCRAM_ITERATIONS_MAX: u32 = 10_000_000;
/// Maximum length of a client message, in bytes.
pub const SCRAM_MESSAGE_BYTES_MAX: usize = 2048;

/// SCRAM keys of a user: neither the password nor sufficient for a login.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// Number of PBKDF2 iterations.
    pub iterations: u32,
    /// Salt of the user, in raw bytes.
    pub salt: Vec<u8>,
    /// `StoredKey` of RFC 5802 §3.
    pub stored_key: [u8; 32],
    /// `ServerKey` of RFC 5802 §3.
    pub server_key: [u8; 32],
}

pub(crate) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC pads a short key with zeros to a full block; explicit padding avoids the error case of an invalid key length.
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

impl ScramKeys {
    /// Derives the keys of a password by `iterations` rounds of PBKDF2.
    #[must_use]
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Option<Self> {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password.as_bytes(), salt, iterations, &mut salted).ok()?;
        let stored = Sha256::digest(hmac_sha256(&salted, &[b"Client Key"])).into();
        Some(Self { iterations, salt: salt.to_vec(), stored_key: stored, server_key: hmac_sha256(&salted, &[b"Server Key"]) })
    }

    /// Creates keys for an unknown user: a constant salt per user, and keys without a matching password.
    #[must_use]
    pub fn dummy(key: &[u8; 32], user: &str) -> Self {
        let part = |label: &[u8]| hmac_sha256(key, &[label, user.as_bytes()]);
        let salt = part(b"salt\0").into_iter().take(16).collect();
        Self { iterations: SCRAM_ITERATIONS, salt, stored_key: part(b"stored\0"), server_key: part(b"server\0") }
    }

    /// Checks a password against the keys in constant time.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        Self::from_password(password, &self.salt, self.iterations)
            .is_some_and(|keys| keys.stored_key.ct_eq(&self.stored_key).into())
    }

    /// Parses Dovecot's form without `{SCRAM-SHA-256}`: `rounds,salt,StoredKey,ServerKey`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let iterations = parts.next()?.parse().ok().filter(|rounds| (1..=SCRAM_ITERATIONS_MAX).contains(rounds))?;
        let salt = STANDARD.decode(parts.next()?).ok().filter(|salt| !salt.is_empty())?;
        let stored = STANDARD.decode(parts.next()?).ok()?.try_into().ok()?;
        let server = STANDARD.decode(parts.next()?).ok()?.try_into().ok()?;
        parts.next().is_none().then_some(Self { iterations, salt, stored_key: stored, server_key: server })
    }

    /// Formats the keys for [`Self::parse`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let b = |bytes: &[u8]| STANDARD.encode(bytes);
        format!("{},{},{},{}", self.iterations, b(&self.salt), b(&self.stored_key), b(&self.server_key))
    }
}

/// Channel binding state of the server side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding<'a> {
    /// SCRAM-SHA-256 without an offer of -PLUS.
    NotOffered,
    /// SCRAM-SHA-256 with an offer of -PLUS: the client flag `y` reveals a downgrade.
    PlusOffered,
    /// SCRAM-SHA-256-PLUS with `tls-exporter` (RFC 9266).
    TlsExporter(&'a [u8]),
}

/// Identity claimed in the first message of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScramIdentity {
    /// Authorization identity; empty: same as `user`.
    pub authzid: String,
    /// Authentication identity (user name).
    pub user: String,
}

/// Server state of a SCRAM exchange after the first client message.
pub struct ScramExchange {
    /// Expected value of the `c=` attribute.
    expected_binding: Vec<u8>,
    client_first_bare: String,
    nonce: String,
    server_first: String,
    keys: Option<ScramKeys>,
}

fn decode_saslname(text: &str) -> Result<String, SaslError> {
    if text.len() > NAME_BYTES_MAX {
        return Err(SaslError::TooLong);
    }
    let plain = text.replace("=2C", ",").replace("=3D", "=");
    // Every other "=" is invalid in a `saslname` (RFC 5802 §5.1).
    let escapes = text.matches("=2C").count() + text.matches("=3D").count();
    match escapes == text.matches('=').count() && !text.contains('\0') {
        true => Ok(plain),
        false => Err(SaslError::Malformed),
    }
}

fn parse_utf8(message: &[u8]) -> Result<&str, SaslError> {
    if message.len() > SCRAM_MESSAGE_BYTES_MAX {
        return Err(SaslError::TooLong);
    }
    std::str::from_utf8(message).map_err(|_| SaslError::Malformed)
}

impl ScramExchange {
    /// Parses the first client message. `nonce`: server part of the nonce, printable and without a comma. Errors: `Malformed`, `TooLong`,
    /// and `ChannelBinding` for a mismatch.
    pub fn begin(message: &[u8], binding: ChannelBinding<'_>, nonce: &str) -> Result<(Self, ScramIdentity), SaslError> {
        let message = parse_utf8(message)?;
        let (flag, rest) = message.split_once(',').ok_or(SaslError::Malformed)?;
        let (authzid, bare) = rest.split_once(',').ok_or(SaslError::Malformed)?;
        let mut bound = format!("{flag},{authzid},").into_bytes();
        match (flag, binding) {
            ("n", ChannelBinding::NotOffered | ChannelBinding::PlusOffered) | ("y", ChannelBinding::NotOffered) => {}
            ("p=tls-exporter", ChannelBinding::TlsExporter(exporter)) if !exporter.is_empty() => {
                bound.extend_from_slice(exporter)
            }
            ("n" | "y", _) => return Err(SaslError::ChannelBinding),
            (other, _) if other.starts_with("p=") => return Err(SaslError::ChannelBinding),
            _ => return Err(SaslError::Malformed),
        }
        let authzid = match authzid.strip_prefix("a=") {
            Some(authzid) => decode_saslname(authzid)?,
            None if authzid.is_empty() => String::new(),
            None => return Err(SaslError::Malformed),
        };
        let mut parts = bare.split(',');
        let user = parts.next().and_then(|part| part.strip_prefix("n=")).ok_or(SaslError::Malformed)?;
        let client_nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(SaslError::Malformed)?;
        let user = decode_saslname(user)?;
        if user.is_empty() || client_nonce.is_empty() || !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SaslError::Malformed);
        }
        let nonce = format!("{client_nonce}{nonce}");
        let exchange =
            Self { expected_binding: bound, client_first_bare: bare.to_owned(), nonce, server_first: String::new(), keys: None };
        Ok((exchange, ScramIdentity { authzid, user }))
    }

    /// Returns the first server message for a user with the given keys.
    pub fn challenge(&mut self, keys: ScramKeys) -> Vec<u8> {
        self.server_first = format!("r={},s={},i={}", self.nonce, STANDARD.encode(&keys.salt), keys.iterations);
        self.keys = Some(keys);
        self.server_first.clone().into_bytes()
    }

    /// Verifies the final client message and returns the final server message. The client still has to send an empty response if the
    /// protocol carries no data in a success reply (RFC 4954 §4).
    pub fn finish(&mut self, message: &[u8]) -> Result<Vec<u8>, SaslError> {
        let message = parse_utf8(message)?;
        let keys = self.keys.take().ok_or(SaslError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(SaslError::Malformed)?;
        let mut parts = without_proof.split(',');
        let bound = parts.next().and_then(|part| part.strip_prefix("c=")).ok_or(SaslError::Malformed)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or(SaslError::Malformed)?;
        let bound = STANDARD.decode(bound).map_err(|_| SaslError::Malformed)?;
        let proof: [u8; 32] = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(SaslError::Malformed)?;
        if !bool::from(bound.ct_eq(&self.expected_binding)) {
            return Err(SaslError::ChannelBinding);
        }
        if nonce != self.nonce {
            return Err(SaslError::Malformed);
        }
        let auth_message =
            [self.client_first_bare.as_bytes(), b",", self.server_first.as_bytes(), b",", without_proof.as_bytes()];
        let mut client_key = hmac_sha256(&keys.stored_key, &auth_message);
        client_key.iter_mut().zip(proof).for_each(|(key, proof)| *key ^= proof);
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        match stored.ct_eq(&keys.stored_key).into() {
            true => Ok(format!("v={}", STANDARD.encode(hmac_sha256(&keys.server_key, &auth_message))).into_bytes()),
            false => Err(SaslError::Denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

    fn keys() -> ScramKeys {
        ScramKeys::from_password("pencil", &STANDARD.decode(SALT).unwrap(), 4096).unwrap()
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let (mut scram, user) = ScramExchange::begin(FIRST, ChannelBinding::NotOffered, NONCE).unwrap();
        assert_eq!(user, ScramIdentity { authzid: String::new(), user: "user".to_owned() });
        let challenge = String::from_utf8(scram.challenge(keys())).unwrap();
        assert_eq!(challenge, format!("r=rOprNGfwEbeRWgbNEkqO{NONCE},s={SALT},i=4096"));
        let last = format!("c=biws,r=rOprNGfwEbeRWgbNEkqO{NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let server = scram.finish(last.as_bytes()).unwrap();
        assert_eq!(server, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn another_proof_is_denied_and_once_only() {
        let (mut scram, _) = ScramExchange::begin(FIRST, ChannelBinding::NotOffered, NONCE).unwrap();
        scram.challenge(keys());
        let last = format!("c=biws,r=rOprNGfwEbeRWgbNEkqO{NONCE},p=aHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(scram.finish(last.as_bytes()), Err(SaslError::Denied));
        assert_eq!(scram.finish(last.as_bytes()), Err(SaslError::Malformed));
    }

    #[test]
    fn a_downgrade_and_another_channel_are_seen() {
        let begin = |message: &[u8], binding| ScramExchange::begin(message, binding, NONCE).map(|(scram, _)| scram);
        assert_eq!(begin(b"y,,n=user,r=abc", ChannelBinding::PlusOffered).err(), Some(SaslError::ChannelBinding));
        assert!(begin(b"y,,n=user,r=abc", ChannelBinding::NotOffered).is_ok());
        assert_eq!(begin(b"n,,n=user,r=abc", ChannelBinding::TlsExporter(b"key")).err(), Some(SaslError::ChannelBinding));
        assert_eq!(
            begin(b"p=tls-unique,,n=user,r=abc", ChannelBinding::TlsExporter(b"key")).err(),
            Some(SaslError::ChannelBinding)
        );
        let mut scram = begin(b"p=tls-exporter,,n=user,r=abc", ChannelBinding::TlsExporter(b"key")).unwrap();
        scram.challenge(keys());
        let other = STANDARD.encode("p=tls-exporter,,yek");
        let last = format!("c={other},r=abc{NONCE},p={}", STANDARD.encode([0; 32]));
        assert_eq!(scram.finish(last.as_bytes()), Err(SaslError::ChannelBinding));
    }

    #[test]
    fn keys_are_read_as_written_and_nobody_has_the_same_salt_twice() {
        assert!(ScramKeys::parse(&keys().to_text()) == Some(keys()));
        assert!(keys().verify("pencil") && !keys().verify("pencils"));
        let nobody = |name| ScramKeys::dummy(&[7; 32], name);
        assert!(nobody("a") == nobody("a") && nobody("a").salt != nobody("b").salt);
    }

    proptest! {
        #[test]
        fn nothing_panics(first in "[nyp]?,?(a=[a-z=]*)?,?n=[a-z=2C3D]{0,9},r=[a-z,]{0,9}", last in "\\PC{0,60}") {
            if let Ok((mut scram, _)) = ScramExchange::begin(first.as_bytes(), ChannelBinding::NotOffered, NONCE) {
                scram.challenge(ScramKeys::dummy(&[0; 32], "a"));
                prop_assert!(scram.finish(last.as_bytes()).is_err());
            }
        }
    }
}
