//! Storage engine on fjall; the only file that uses the fjall crate.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use crate::StoreOptions;
use crate::engine::{Durability, Engine, KeyspaceId, Mutation, Op, Row};

/// Threads that flush and compact. With a single thread, a long compaction would delay the flushes that writers wait for.
const WORKER_THREADS: usize = 2;

/// File that fjall writes when a new database is complete.
const COMPLETE_MARKER_FILE: &str = "version";

/// Key that never exists, so that a removal changes nothing.
const ABSENT_KEY: &[u8] = &[0];

/// Database of fjall with keyspaces in the order of the options.
pub(crate) struct FjallEngine {
    keyspaces: Vec<fjall::Keyspace>,
    /// Declared last: keyspaces must be dropped before the database stops its threads.
    database: Database,
}

impl FjallEngine {
    /// Opens the database in `path`. A new database is created in a sibling directory and renamed: fjall takes a database
    /// left incomplete by a crash for an unexpected journal, and would refuse to open at every start.
    pub(crate) fn open(path: &Path, options: &StoreOptions) -> Result<Self, String> {
        if !path.join(COMPLETE_MARKER_FILE).exists() {
            let staged = path.with_extension("new");
            let io = |error: io::Error| format!("{}: {error}", staged.display());
            if staged.exists() {
                fs::remove_dir_all(&staged).map_err(io)?;
            }
            drop(Self::open_database(&staged, options)?);
            fs::rename(&staged, path).map_err(io)?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(io)?;
        }
        Self::open_database(path, options)
    }

    fn open_database(path: &Path, options: &StoreOptions) -> Result<Self, String> {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes_max.max(64 << 20))
            .worker_threads(WORKER_THREADS)
            .open()
            .map_err(error_text)?;
        let keyspace = |name: &&str| {
            database
                .keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes))
                .map_err(error_text)
        };
        let keyspaces = options.keyspaces.iter().map(keyspace).collect::<Result<_, _>>()?;
        Ok(Self { keyspaces, database })
    }

    fn keyspace(&self, id: KeyspaceId) -> Result<&fjall::Keyspace, String> {
        self.keyspaces.get(usize::from(id.0)).ok_or_else(|| format!("there is no keyspace {}", id.0))
    }
}

impl Engine for FjallEngine {
    fn apply(&self, ops: &mut Vec<Op>, durability: Durability) -> Result<(), String> {
        let mode = match durability {
            // Commit with durability syncs the journal before the memtable shows the writes; persist() afterwards would
            // not.
            Durability::Synced => Some(PersistMode::SyncData),
            Durability::Buffered => Some(PersistMode::Buffer),
        };
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), ops.len()).durability(mode);
        for op in ops.drain(..) {
            let keyspace = self.keyspace(op.keyspace)?;
            match op.mutation {
                Mutation::Put(value) => batch.insert(keyspace, op.key, value),
                Mutation::Delete => batch.remove(keyspace, op.key),
            }
        }
        batch.commit().map_err(|error| {
            // Dropping the database would write the data of the failed write left in the journal buffer, if the disk has
            // free space again by then, and refused mail would be in the queue. Therefore the database is leaked; the
            // process ends anyway.
            std::mem::forget(self.database.clone());
            error_text(error)
        })
    }

    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>, String> {
        self.keyspace(keyspace)?.get(key).map(|value| value.map(Bytes::from)).map_err(error_text)
    }

    fn contains(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool, String> {
        self.keyspace(keyspace)?.contains_key(key).map_err(error_text)
    }

    fn range(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, String> {
        let rows = self.keyspace(keyspace)?.range::<&[u8], _>((from, to)).take(limit);
        rows.map(|guard| guard.into_inner().map(|(key, value)| (key.into(), value.into())).map_err(error_text)).collect()
    }

    fn last(&self, keyspace: KeyspaceId) -> Result<Option<Row>, String> {
        let Some(guard) = self.keyspace(keyspace)?.last_key_value() else { return Ok(None) };
        guard.into_inner().map(|(key, value)| Some((key.into(), value.into()))).map_err(error_text)
    }

    fn compact(&self, keyspace: KeyspaceId) -> Result<(), String> {
        let keyspace = self.keyspace(keyspace)?;
        // The two functions are missing from fjall's documentation, another reason for the exact version. Removals stay in
        // the memtable until flushed to a table; only then does compaction match removals with the removed rows.
        keyspace.rotate_memtable_and_wait().map_err(error_text)?;
        keyspace.major_compact().map_err(error_text)?;
        // Old tables are deleted when a later memtable is, and only tables from before the second-to-last write.
        for _ in 0..2 {
            keyspace.remove(ABSENT_KEY).map_err(error_text)?;
        }
        keyspace.rotate_memtable_and_wait().map_err(error_text)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is the argument of map_err")]
fn error_text(error: fjall::Error) -> String {
    if let fjall::Error::Io(error) = error {
        error.to_string()
    } else if matches!(error, fjall::Error::Locked) {
        "another process has it open".to_owned()
    } else {
        format!("{error:?}")
    }
}
