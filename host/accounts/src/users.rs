//! Users and their password records, in files like Dovecot's passwd-file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_auth::{Record, ScramKeys};
use waxwing_config::UserPlace;
use waxwing_pipeline::{TableError, UserChange, UserStore, UserStoreError};
use waxwing_types::{Clock, Monotonic};

use crate::user_file::{UserFile, UserName};
use crate::watched::WatchedFile;

/// Parsed content of a user file.
struct Known {
    users: HashMap<String, Vec<Record>>,
    /// True if every user has a `{SCRAM-SHA-256}` record.
    keys: bool,
}

/// Pause of rehashing in a user source after a failed write.
const RENEWAL_PAUSE: Duration = Duration::from_secs(600);

/// Users of the server, from all sources of the `users` key.
pub struct Users {
    places: Vec<Place>,
    clock: Arc<dyn Clock>,
}

/// User source with the state of rehashing.
struct Place {
    source: Source,
    /// Time of the last failed rehash; `None` after a success.
    failed_at: Mutex<Option<Monotonic>>,
}

enum Source {
    File { content: WatchedFile<Known>, file: UserFile },
    Store(Arc<dyn UserStore>),
}

/// Password records of a user.
#[derive(Clone, Default)]
pub struct Found {
    /// Index of the user source.
    pub(crate) place: usize,
    /// Records in order of preference; the first record verifies passwords. Empty for an unknown user.
    pub records: Vec<Record>,
}

impl Users {
    /// Opens the user sources. `store`: the store for `store:`. `plain`: records in plain text are accepted. Error: an unreadable user
    /// file, or `store:` without a store.
    pub fn open(
        places: &[UserPlace],
        store: Option<&Arc<dyn UserStore>>,
        plain: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TableError> {
        let open = |spec: &UserPlace| {
            let source = match spec {
                UserPlace::File(path) => Source::file(path, plain, clock)?,
                UserPlace::Store => {
                    let none = || TableError { table: spec.to_string(), reason: "no store is available".to_owned() };
                    Source::Store(Arc::clone(store.ok_or_else(none)?))
                }
            };
            Ok(Place { source, failed_at: Mutex::new(None) })
        };
        Ok(Self { places: places.iter().map(open).collect::<Result<_, _>>()?, clock: Arc::clone(clock) })
    }

    /// True without configured user sources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// True if there are users and every user has a `{SCRAM-SHA-256}` record.
    #[must_use]
    pub fn scram(&self) -> bool {
        let counted: Vec<_> = self.places.iter().map(|source| source.source.has_keys()).collect();
        counted.contains(&Some(true)) && !counted.contains(&Some(false))
    }

    /// Returns the password records of a user from the first source with the user; names are compared without case.
    pub async fn find(&self, user: &str) -> Found {
        let name = user.to_ascii_lowercase();
        for (index, source) in self.places.iter().enumerate() {
            let mut records = source.source.find(&name).await;
            if !records.is_empty() {
                // Passwords are verified by the slow hash; SCRAM keys serve only SCRAM.
                records.sort_by_key(|record| matches!(record, Record::Scram(_)));
                return Found { place: index, records };
            }
        }
        Found::default()
    }

    /// Returns the SCRAM keys of a user.
    pub async fn scram_keys(&self, user: &str) -> Option<ScramKeys> {
        self.find(user).await.records.into_iter().find_map(|record| match record {
            Record::Scram(keys) => Some(keys),
            Record::Argon2id(_) | Record::Bcrypt(_) | Record::Sha512(_) | Record::Yescrypt(_) | Record::Plain(_) => None,
        })
    }

    /// True unless a rehash in the source failed within [`REHASH_RETRY_PAUSE`].
    pub(crate) fn can_renew(&self, source_index: usize) -> bool {
        let now = self.clock.monotonic();
        let failed_at = self.places.get(source_index).map(|source| *source.failed_at.lock());
        failed_at.is_some_and(|at| at.is_none_or(|at| now.since(at) >= RENEWAL_PAUSE))
    }

    /// Replaces the records of a user by newer records of the same password, unless changed in the meantime. Blocks. A failed write is
    /// logged once until the next success.
    pub(crate) fn renew(&self, current: &Found, user: &str, records: &[Record]) {
        // A file may contain names outside the syntax of [`UserName`].
        let (Some(source), Ok(name)) = (self.places.get(current.place), UserName::parse(user)) else { return };
        let renewed = source.source.renew(&name, &current.records, records);
        let mut failed_at = source.failed_at.lock();
        match renewed {
            Ok(()) => *failed_at = None,
            Err(error) => {
                if failed_at.is_none() {
                    let advice = "old records stay in use; logged once: let mail_owner write to the file and its folder, or set password_rehash = false";
                    tracing::warn!(error, advice, "the records of users can't be renewed at their logins");
                }
                *failed_at = Some(self.clock.monotonic());
            }
        }
    }
}

impl Source {
    fn file(path: &Path, plain: bool, clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let name = path.display().to_string();
        // Checked before each login, so that a changed password takes effect at once.
        let parse = move |text: &str| known(&name, text, plain);
        let content = WatchedFile::open(path, Duration::ZERO, Arc::clone(clock), parse).map_err(|mut error| {
            if !path.exists() {
                error.reason.push_str("; `waxwing user add` makes it");
            }
            error
        })?;
        Ok(Self::File { content, file: UserFile::new(path, None) })
    }

    async fn find(&self, name: &str) -> Vec<Record> {
        match self {
            Self::File { content, file: _ } => {
                content.refresh().await;
                content.content().users.get(name).cloned().unwrap_or_default()
            }
            Self::Store(store) => parsed(&store.find(name)),
        }
    }

    /// True if all users have SCRAM keys; `None` without users.
    fn has_keys(&self) -> Option<bool> {
        match self {
            Self::File { content, file: _ } => {
                let user_file = content.content();
                (!user_file.users.is_empty()).then_some(user_file.keys)
            }
            Self::Store(store) => {
                let (users, without) = store.counts();
                (users > 0).then_some(without == 0)
            }
        }
    }

    fn renew(&self, name: &UserName, expected: &[Record], records: &[Record]) -> Result<(), String> {
        let store = match self {
            Self::File { content: _, file } => {
                return file.renew(name, expected, records).map(drop).map_err(|error| error.to_string());
            }
            Self::Store(store) => store,
        };
        let stored = store.find(&name.key());
        let current = parsed(&stored);
        if !expected.iter().all(|record| current.contains(record)) {
            return Ok(());
        }
        let change = UserChange::Renew { expected: stored, records: records.iter().map(Record::to_text).collect() };
        // Runs on a blocking thread, where a wait for the disk is permitted.
        match tokio::runtime::Handle::current().block_on(store.change(&name.key(), change)) {
            Ok(()) | Err(UserStoreError::Changed | UserStoreError::Unknown) => Ok(()),
            Err(error @ (UserStoreError::Exists | UserStoreError::Full(_) | UserStoreError::Unavailable(_))) => {
                Err(error.to_string())
            }
        }
    }
}

fn parsed(texts: &[String]) -> Vec<Record> {
    texts.iter().filter_map(|text| Record::parse(text, false).ok()).collect()
}

fn known(path: &str, text: &str, plain: bool) -> Known {
    let mut users = HashMap::new();
    for problem in parse_users(text, plain, &mut users) {
        tracing::warn!(path, problem, "invalid line of the user file skipped");
    }
    let has_keys = |records: &Vec<Record>| records.iter().any(|record| matches!(record, Record::Scram(_)));
    let keys = users.values().all(has_keys);
    Known { users, keys }
}

/// Parses lines `user:{SCHEME}hash` and ignores further fields; a user has a line for each scheme. Returns the problems by line number,
/// without the secrets.
fn parse_users(text: &str, plain: bool, users: &mut HashMap<String, Vec<Record>>) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split(':');
        let (Some(user), Some(stored)) = (fields.next().filter(|user| !user.is_empty()), fields.next()) else {
            problems.push(format!("line {number}: not \"user:{{SCHEME}}hash\""));
            continue;
        };
        match Record::parse(stored, plain) {
            Ok(record) => users.entry(user.to_ascii_lowercase()).or_default().push(record),
            Err(error) => problems.push(format!("line {number}: {error}")),
        }
    }
    problems
}
