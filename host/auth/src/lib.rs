//! Server side of SASL mechanisms, and password hashes.
//!
//! Owns: the exchanges of PLAIN, LOGIN, SCRAM-SHA-256(-PLUS), OAUTHBEARER and XOAUTH2; the schemes of stored passwords.
//! Uses: no waxwing crates.
//! Used by: accounts.
//! Never: I/O, a clock, a source of randomness, the storage of users.
//! Start reading at: [`parse_plain`], [`ScramExchange`], [`StoredPassword`].
#![forbid(unsafe_code)]

mod bearer;
mod plain;
mod scram;
mod stored_password;

pub use bearer::{BearerCredentials, TOKEN_BYTES_MAX, parse_oauthbearer, parse_xoauth2};
pub use plain::{LoginMechanism, LoginStep, NAME_BYTES_MAX, PlainResponse, SECRET_BYTES_MAX, SaslError, parse_plain};
pub use scram::{
    ChannelBinding, SCRAM_ITERATIONS, SCRAM_ITERATIONS_MAX, SCRAM_MESSAGE_BYTES_MAX, ScramExchange, ScramIdentity, ScramKeys,
};
pub use stored_password::{ARGON2_HASH_BYTES, ARGON2_SALT_BYTES, PasswordCost, StoredPassword, StoredPasswordError};
