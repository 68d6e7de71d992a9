//! Users of the server's own store, as they go over the socket.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Users that one answer to `UserList` has at most.
pub const USER_PAGE_MAX: usize = 1000;

/// The record of a password, as it is stored: `{SCHEME}…`. Whoever makes it has the password; it does not go over the socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordRecord(pub String);

/// A hash is a secret too.
impl fmt::Debug for PasswordRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// A user, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// Its name.
    pub name: String,
    /// The schemes of its records.
    pub schemes: Vec<String>,
}
