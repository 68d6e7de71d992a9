//! Users whom the server keeps itself.

use async_trait::async_trait;

/// What a record with keys for SCRAM begins with.
pub const SCRAM_SCHEME: &str = "{SCRAM-SHA-256}";

/// Users by name in lower case, with the records of their passwords as text (`{SCHEME}…`). Reads are answered from memory.
#[async_trait]
pub trait UserStore: Send + Sync {
    /// The records of a user; none: there is no such user.
    fn find(&self, name: &str) -> Vec<String>;

    /// At most `limit` users in the order of their names, from behind `after` on.
    fn page(&self, after: Option<&str>, limit: usize) -> Vec<(String, Vec<String>)>;

    /// How many users there are, and how many of them have no record that begins with [`SCRAM_SCHEME`].
    fn counts(&self) -> (usize, usize);

    /// Makes a change. It is durable when this resolves, and seen from then on.
    async fn change(&self, name: &str, change: UserChange) -> Result<(), UserStoreError>;
}

/// What is to become of a user.
#[derive(Clone, PartialEq, Eq)]
pub enum UserChange {
    /// A new one, with these records.
    Add(Vec<String>),
    /// Other records for one that is there.
    Replace(Vec<String>),
    /// The same, if it has these records still.
    Renew {
        /// Those that it had.
        expected: Vec<String>,
        /// Those that it gets.
        records: Vec<String>,
    },
    /// Gone.
    Delete,
}

/// Why there was no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserStoreError {
    /// There is such a user already.
    #[error("there is such a user already")]
    Exists,
    /// There is no such user.
    #[error("there is no such user")]
    Unknown,
    /// Its records are others by now.
    #[error("its records have changed meanwhile")]
    Changed,
    /// A limit of the store.
    #[error("the store of users takes no more: {0}")]
    Full(&'static str),
    /// The store failed.
    #[error("{0}")]
    Unavailable(String),
}
