//! User messages: the users of the server's own store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Users in a single `UserList` response at most.
pub const USER_PAGE_MAX: usize = 1000;

/// Password record as stored: `{SCHEME}…`. Computed by the client, so that the password itself does not pass the socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordRecordText(pub String);

/// Redacted: a hash is a secret too.
impl fmt::Debug for PasswordRecordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// A user, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// Name of the user.
    pub name: String,
    /// Password schemes of the records.
    pub schemes: Vec<String>,
}
