//! User store: users kept by the server itself.

use async_trait::async_trait;

/// Prefix of a password record with SCRAM keys (RFC 7677).
pub const SCRAM_SCHEME: &str = "{SCRAM-SHA-256}";

/// Users by name in lower case, with the password records as text (`{SCHEME}…`). Reads are answered from memory.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Returns the password records of a user; empty if no such user exists.
    fn password_records(&self, name: &str) -> Vec<String>;

    /// Returns at most `limit` users in the order of names, starting after `after`.
    fn list_users(&self, after: Option<&str>, limit: usize) -> Vec<(String, Vec<String>)>;

    /// Returns the number of users, and the number of users without a record that begins with [`SCRAM_SCHEME`].
    fn user_counts(&self) -> (usize, usize);

    /// Applies a change. On return the change is durable and visible to all readers.
    async fn change(&self, name: &str, change: UserChange) -> Result<(), UserStoreError>;
}

/// Change of a user.
#[derive(Clone, PartialEq, Eq)]
pub enum UserChange {
    /// Adds a user with these records.
    Add(Vec<String>),
    /// Replaces the records of an existing user.
    Replace(Vec<String>),
    /// Replaces the records of an existing user, if the current records are the expected records.
    ReplaceIfUnchanged {
        /// Expected current records.
        expected: Vec<String>,
        /// New records of the user.
        records: Vec<String>,
    },
    /// Deletes the user.
    Delete,
}

/// Failure of a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserStoreError {
    /// User exists already.
    #[error("there is such a user already")]
    Exists,
    /// No such user.
    #[error("there is no such user")]
    Unknown,
    /// Current records differ from the expected records.
    #[error("its records have changed meanwhile")]
    Changed,
    /// Limit of the store reached.
    #[error("the store of users takes no more: {0}")]
    Full(&'static str),
    /// Failure of the store, with the reason.
    #[error("{0}")]
    Unavailable(String),
}
