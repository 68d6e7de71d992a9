//! User store in a separate keyspace, with a full copy in memory: a login reads no disk, and response times do not reveal the
//! existence of a user.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use waxwing_pipeline::{SCRAM_SCHEME, UserChange, UserStore, UserStoreError};
use waxwing_store::{Batch, Keyspace, Store, StoreError};
use waxwing_types::hex;

/// Name of the required keyspace of the store.
pub const USERS_KEYSPACE: &str = "user";
/// Maximum number of stored users.
pub const STORED_USERS_MAX: usize = 100_000;
/// Maximum octets of a user name.
pub const STORED_NAME_BYTES_MAX: usize = 255;
/// Maximum octets of all records of a user.
pub const STORED_RECORDS_BYTES_MAX: usize = 8192;

/// First octet of a row. Any change of the format takes the next number and keeps reading the old: users are kept for years.
const ROW_VERSION: u8 = 1;
/// Octets of version and checksum before the records.
const ROW_PREFIX_BYTES: usize = 5;
/// Key of the row with the secret; not a valid user name.
const SECRET_ROW_NAME: &str = "\0secret";
/// Rows read at once.
const PAGE_ROWS: usize = 512;

#[derive(Default)]
struct UserIndex {
    users: BTreeMap<String, Vec<String>>,
    /// Number of users without SCRAM keys.
    without_scram_keys: usize,
}

impl UserIndex {
    /// Sets the records of a user; an empty list removes the user.
    fn set_records(&mut self, name: &str, records: Vec<String>) {
        let without_keys = |records: &Vec<String>| usize::from(!records.iter().any(|record| record.starts_with(SCRAM_SCHEME)));
        let (old, new_without) = match records.is_empty() {
            true => (self.users.remove(name), 0),
            false => {
                let new_without = without_keys(&records);
                (self.users.insert(name.to_owned(), records), new_without)
            }
        };
        self.without_scram_keys = self.without_scram_keys + new_without - old.as_ref().map_or(0, without_keys);
    }
}

/// Users in the store.
pub struct StoredUsers {
    store: Store,
    rows: Keyspace,
    index: RwLock<UserIndex>,
    secret: [u8; 32],
    /// Lock for one change at a time: the state behind a decision holds until the write.
    change_lock: tokio::sync::Mutex<()>,
}

impl StoredUsers {
    /// Reads the users of a database with [`USERS_KEYSPACE`]. Blocks. Damaged rows are skipped and logged. `new_secret` becomes
    /// the secret of a database without one. Errors if the store fails.
    pub fn open(store: &Store, new_secret: [u8; 32]) -> Result<Arc<Self>, StoreError> {
        let rows = store.keyspace(USERS_KEYSPACE)?;
        let (mut index, mut secret) = (UserIndex::default(), None);
        let mut from = Bound::Unbounded;
        loop {
            let page = rows.range(from.as_ref().map(|key: &Bytes| &key[..]), Bound::Unbounded, PAGE_ROWS)?;
            let Some((last, _)) = page.last() else { break };
            from = Bound::Excluded(last.clone());
            for (key, row) in page {
                match std::str::from_utf8(&key).ok().zip(decode_row(&row)) {
                    Some((SECRET_ROW_NAME, text)) => secret = text.first().and_then(|text| parse_secret(text)),
                    Some((name, records)) => index.set_records(name, records),
                    None => {
                        tracing::error!(user = %String::from_utf8_lossy(&key), "damaged user records skipped: add the user again")
                    }
                }
            }
        }
        if secret.is_none() {
            let mut batch = Batch::with_capacity(1);
            batch.put(&rows, SECRET_ROW_NAME, encode_row(&[hex(&new_secret)]));
            // If lost before reaching the disk, the next start makes another: no login depends on the secret.
            store.put_unsynced(batch);
        }
        let (index, change_lock) = (RwLock::new(index), tokio::sync::Mutex::new(()));
        Ok(Arc::new(Self { store: store.clone(), rows, index, secret: secret.unwrap_or(new_secret), change_lock }))
    }

    /// Secret of the server, stable across restarts: seed of the dummy records of unknown users.
    #[must_use]
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// Returns the records of the user after the change; empty: removed.
    fn records_after(&self, name: &str, change: UserChange) -> Result<Vec<String>, UserStoreError> {
        let index = self.index.read();
        let current = index.users.get(name);
        let records = match (change, current) {
            (UserChange::Add(_), Some(_)) => return Err(UserStoreError::Exists),
            (UserChange::Replace(_) | UserChange::ReplaceIfUnchanged { .. } | UserChange::Delete, None) => {
                return Err(UserStoreError::Unknown);
            }
            (UserChange::ReplaceIfUnchanged { expected, .. }, Some(current)) if expected != *current => {
                return Err(UserStoreError::Changed);
            }
            (UserChange::Delete, Some(_)) => return Ok(Vec::new()),
            (UserChange::Add(_), None) if index.users.len() >= STORED_USERS_MAX => {
                return Err(UserStoreError::Full("100,000 users"));
            }
            (UserChange::Add(records), None) => records,
            (UserChange::Replace(records) | UserChange::ReplaceIfUnchanged { records, .. }, Some(_)) => records,
        };
        let octets: usize = records.iter().map(|record| record.len() + 1).sum();
        match () {
            () if name.contains(char::is_control) => Err(UserStoreError::Full("names without control characters")),
            () if name.is_empty() || name.len() > STORED_NAME_BYTES_MAX => Err(UserStoreError::Full("names of 1 to 255 octets")),
            () if records.is_empty() || octets > STORED_RECORDS_BYTES_MAX => {
                Err(UserStoreError::Full("records of 1 to 8192 octets"))
            }
            () if records.iter().any(|record| record.contains('\n')) => Err(UserStoreError::Full("records of a line")),
            () => Ok(records),
        }
    }
}

#[async_trait]
impl UserStore for StoredUsers {
    fn password_records(&self, name: &str) -> Vec<String> {
        self.index.read().users.get(name).cloned().unwrap_or_default()
    }

    fn list_users(&self, after: Option<&str>, limit: usize) -> Vec<(String, Vec<String>)> {
        let index = self.index.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = index.users.range::<str, _>((from, Bound::Unbounded)).take(limit);
        users.map(|(name, records)| (name.clone(), records.clone())).collect()
    }

    fn user_counts(&self) -> (usize, usize) {
        let index = self.index.read();
        (index.users.len(), index.without_scram_keys)
    }

    async fn change(&self, name: &str, change: UserChange) -> Result<(), UserStoreError> {
        let _guard = self.change_lock.lock().await;
        let records = self.records_after(name, change)?;
        let mut batch = Batch::with_capacity(1);
        match records.is_empty() {
            true => batch.delete(&self.rows, name.to_owned()),
            false => batch.put(&self.rows, name.to_owned(), encode_row(&records)),
        }
        self.store.commit(batch).await.map_err(|error| UserStoreError::Unavailable(error.to_string()))?;
        self.index.write().set_records(name, records);
        Ok(())
    }
}

/// Encodes a row: version, checksum of the rest, records separated by LF.
fn encode_row(records: &[String]) -> Bytes {
    let text = records.join("\n");
    let mut row = BytesMut::with_capacity(ROW_PREFIX_BYTES + text.len());
    row.put_u8(ROW_VERSION);
    row.put_u32(crc32fast::hash(text.as_bytes()));
    row.put_slice(text.as_bytes());
    row.freeze()
}

fn decode_row(row: &[u8]) -> Option<Vec<String>> {
    let (head, text) = row.split_first_chunk::<ROW_PREFIX_BYTES>()?;
    let [version, checksum @ ..] = *head;
    let is_intact = version == ROW_VERSION && u32::from_be_bytes(checksum) == crc32fast::hash(text);
    let text = std::str::from_utf8(text).ok().filter(|text| is_intact && !text.is_empty())?;
    Some(text.split('\n').map(str::to_owned).collect())
}

fn parse_secret(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    digits.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use waxwing_store::StoreOptions;

    use super::*;

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    fn open(path: &std::path::Path, fresh: [u8; 32]) -> (Store, Arc<StoredUsers>) {
        let store = Store::open(path, &StoreOptions::new(&[USERS_KEYSPACE])).unwrap();
        let users = StoredUsers::open(&store, fresh).unwrap();
        (store, users)
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let (store, users) = open(dir.path(), [1; 32]);
        for number in 0..PAGE_ROWS + 3 {
            let row = users.rows.clone();
            let mut batch = Batch::with_capacity(1);
            batch.put(&row, format!("u{number:04}"), encode_row(&words(&["{X}1"])));
            store.put_unsynced(batch);
        }
        users.change("anna", UserChange::Add(words(&["{A}1", "{B}2"]))).await.unwrap();
        users.change("bob", UserChange::Add(words(&["{A}1"]))).await.unwrap();
        users.change("cid", UserChange::Add(words(&["{A}1"]))).await.unwrap();
        users.change("bob", UserChange::Replace(words(&["{A}3"]))).await.unwrap();
        users.change("cid", UserChange::Delete).await.unwrap();
        drop((store, users));
        let (_store, users) = open(dir.path(), [1; 32]);
        assert_eq!(users.password_records("anna"), ["{A}1", "{B}2"]);
        assert_eq!((users.password_records("bob"), users.password_records("cid")), (words(&["{A}3"]), words(&[])));
        assert_eq!(users.user_counts().0, 2 + PAGE_ROWS + 3);
        assert_eq!(users.list_users(Some("anna"), 2).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["bob", "u0000"]);
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (_store, users) = open(dir.path(), [1; 32]);
        users.change("anna", UserChange::Add(words(&["{A}1"]))).await.unwrap();
        let counts = users.user_counts();
        let renew = |expected: &str| UserChange::ReplaceIfUnchanged { expected: words(&[expected]), records: words(&["{A}2"]) };
        for (name, change, error) in [
            ("anna", UserChange::Add(words(&["{A}2"])), UserStoreError::Exists),
            ("bob", UserChange::Replace(words(&["{A}2"])), UserStoreError::Unknown),
            ("bob", UserChange::Delete, UserStoreError::Unknown),
            ("anna", renew("{A}0"), UserStoreError::Changed),
            ("bob", UserChange::Add(words(&["{A}\n"])), UserStoreError::Full("records of a line")),
            ("bob", UserChange::Add(words(&[])), UserStoreError::Full("records of 1 to 8192 octets")),
            ("", UserChange::Add(words(&["{A}2"])), UserStoreError::Full("names of 1 to 255 octets")),
        ] {
            assert_eq!(users.change(name, change).await, Err(error));
        }
        assert_eq!((users.password_records("anna"), users.user_counts()), (words(&["{A}1"]), counts));
        users.change("anna", renew("{A}1")).await.unwrap();
        assert_eq!(users.password_records("anna"), ["{A}2"]);
        assert_eq!(users.user_counts(), (1, 1));
        users.change("anna", UserChange::Replace(words(&["{A}2", "{SCRAM-SHA-256}x"]))).await.unwrap();
        assert_eq!(users.user_counts(), (1, 0));
        users.change("bob", UserChange::Add(words(&["{A}2"]))).await.unwrap();
        assert_eq!(users.user_counts(), (2, 1));
        users.change("bob", UserChange::Delete).await.unwrap();
        assert_eq!(users.user_counts(), (1, 0));
    }

    #[tokio::test]
    async fn the_secret_is_the_first_one_and_no_user() {
        let dir = tempfile::tempdir().unwrap();
        for fresh in [[7; 32], [8; 32]] {
            let (_store, users) = open(dir.path(), fresh);
            assert_eq!((users.secret(), users.user_counts(), users.list_users(None, 9).len()), ([7; 32], (0, 0), 0));
            let change = UserChange::Add(words(&["{A}1"]));
            assert!(users.change(SECRET_ROW_NAME, change).await.is_err());
        }
        assert_eq!((parse_secret(&hex(&[200; 32])), parse_secret("zz"), parse_secret("00")), (Some([200; 32]), None, None));
    }

    #[test]
    fn a_damaged_row_is_none() {
        let row = encode_row(&words(&["{A}1", "{B}2"]));
        assert_eq!(decode_row(&row), Some(words(&["{A}1", "{B}2"])));
        for at in 0..row.len() {
            let mut bad = row.to_vec();
            bad[at] ^= 1;
            assert_eq!(decode_row(&bad), None, "octet {at}");
        }
        assert_eq!((decode_row(&[]), decode_row(&row[..5])), (None, None));
    }
}
