//! Users and their password records, in files like Dovecot's passwd-file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_auth::{ScramKeys, StoredPassword};
use waxwing_config::UserSourceConfig;
use waxwing_pipeline::{TableError, UserChange, UserStore, UserStoreError};
use waxwing_types::{Clock, Monotonic};

use crate::user_file::{UserFile, UserName};
use crate::watched_file::WatchedFile;

/// Parsed content of a user file.
struct UserFileContent {
    users: HashMap<String, Vec<StoredPassword>>,
    /// True if every user has a `{SCRAM-SHA-256}` record.
    all_have_scram_keys: bool,
}

/// Pause of rehashing in a user source after a failed write.
const REHASH_RETRY_PAUSE: Duration = Duration::from_secs(600);

/// Users of the server, from all sources of the `users` key.
pub struct Users {
    sources: Vec<UserSourceState>,
    clock: Arc<dyn Clock>,
}

/// User source with the state of rehashing.
struct UserSourceState {
    source: OpenUserSource,
    /// Time of the last failed rehash; `None` after a success.
    rehash_failed_at: Mutex<Option<Monotonic>>,
}

enum OpenUserSource {
    File { content: WatchedFile<UserFileContent>, file: UserFile },
    Store(Arc<dyn UserStore>),
}

/// Password records of a user.
#[derive(Clone, Default)]
pub struct UserRecords {
    /// Index of the user source.
    pub(crate) source_index: usize,
    /// Records in order of preference; the first record verifies passwords. Empty for an unknown user.
    pub records: Vec<StoredPassword>,
}

impl Users {
    /// Opens the user sources. `store`: the store for `store:`. `plain`: records in plain text are accepted. Error: an unreadable user
    /// file, or `store:` without a store.
    pub fn open(
        places: &[UserSourceConfig],
        store: Option<&Arc<dyn UserStore>>,
        plain: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TableError> {
        let open = |spec: &UserSourceConfig| {
            let source = match spec {
                UserSourceConfig::File(path) => OpenUserSource::open_file(path, plain, clock)?,
                UserSourceConfig::Store => {
                    let none = || TableError { table: spec.to_string(), reason: "no store is available".to_owned() };
                    OpenUserSource::Store(Arc::clone(store.ok_or_else(none)?))
                }
            };
            Ok(UserSourceState { source, rehash_failed_at: Mutex::new(None) })
        };
        Ok(Self { sources: places.iter().map(open).collect::<Result<_, _>>()?, clock: Arc::clone(clock) })
    }

    /// True without configured user sources.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// True if there are users and every user has a `{SCRAM-SHA-256}` record.
    #[must_use]
    pub fn all_have_scram_keys(&self) -> bool {
        let counted: Vec<_> = self.sources.iter().map(|source| source.source.all_have_scram_keys()).collect();
        counted.contains(&Some(true)) && !counted.contains(&Some(false))
    }

    /// Returns the password records of a user from the first source with the user; names are compared without case.
    pub async fn find(&self, user: &str) -> UserRecords {
        let name = user.to_ascii_lowercase();
        for (index, source) in self.sources.iter().enumerate() {
            let mut records = source.source.find(&name).await;
            if !records.is_empty() {
                // Passwords are verified by the slow hash; SCRAM keys serve only SCRAM.
                records.sort_by_key(|record| matches!(record, StoredPassword::Scram(_)));
                return UserRecords { source_index: index, records };
            }
        }
        UserRecords::default()
    }

    /// Returns the SCRAM keys of a user.
    pub async fn scram_keys(&self, user: &str) -> Option<ScramKeys> {
        self.find(user).await.records.into_iter().find_map(|record| match record {
            StoredPassword::Scram(keys) => Some(keys),
            StoredPassword::Argon2id(_)
            | StoredPassword::Bcrypt(_)
            | StoredPassword::Sha512Crypt(_)
            | StoredPassword::Yescrypt(_)
            | StoredPassword::Plain(_) => None,
        })
    }

    /// True unless a rehash in the source failed within [`REHASH_RETRY_PAUSE`].
    pub(crate) fn can_rehash(&self, source_index: usize) -> bool {
        let now = self.clock.monotonic();
        let failed_at = self.sources.get(source_index).map(|source| *source.rehash_failed_at.lock());
        failed_at.is_some_and(|at| at.is_none_or(|at| now.since(at) >= REHASH_RETRY_PAUSE))
    }

    /// Replaces the records of a user by newer records of the same password, unless changed in the meantime. Blocks. A failed write is
    /// logged once until the next success.
    pub(crate) fn rehash(&self, current: &UserRecords, user: &str, records: &[StoredPassword]) {
        // A file may contain names outside the syntax of [`UserName`].
        let (Some(source), Ok(name)) = (self.sources.get(current.source_index), UserName::parse(user)) else { return };
        let renewed = source.source.rehash(&name, &current.records, records);
        let mut failed_at = source.rehash_failed_at.lock();
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

impl OpenUserSource {
    fn open_file(path: &Path, plain: bool, clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let name = path.display().to_string();
        // Checked before each login, so that a changed password takes effect at once.
        let parse = move |text: &str| parse_content(&name, text, plain);
        let content = WatchedFile::open(path, Duration::ZERO, Arc::clone(clock), parse).map_err(|mut error| {
            if !path.exists() {
                error.reason.push_str("; `waxwing user add` makes it");
            }
            error
        })?;
        Ok(Self::File { content, file: UserFile::new(path, None) })
    }

    async fn find(&self, name: &str) -> Vec<StoredPassword> {
        match self {
            Self::File { content, file: _ } => {
                content.refresh().await;
                content.content().users.get(name).cloned().unwrap_or_default()
            }
            Self::Store(store) => parse_records(&store.password_records(name)),
        }
    }

    /// True if all users have SCRAM keys; `None` without users.
    fn all_have_scram_keys(&self) -> Option<bool> {
        match self {
            Self::File { content, file: _ } => {
                let user_file = content.content();
                (!user_file.users.is_empty()).then_some(user_file.all_have_scram_keys)
            }
            Self::Store(store) => {
                let (users, without) = store.user_counts();
                (users > 0).then_some(without == 0)
            }
        }
    }

    fn rehash(&self, name: &UserName, expected: &[StoredPassword], records: &[StoredPassword]) -> Result<(), String> {
        let store = match self {
            Self::File { content: _, file } => {
                return file.replace_if_unchanged(name, expected, records).map(drop).map_err(|error| error.to_string());
            }
            Self::Store(store) => store,
        };
        let stored = store.password_records(&name.key());
        let current = parse_records(&stored);
        if !expected.iter().all(|record| current.contains(record)) {
            return Ok(());
        }
        let change =
            UserChange::ReplaceIfUnchanged { expected: stored, records: records.iter().map(StoredPassword::to_text).collect() };
        // Runs on a blocking thread, where a wait for the disk is permitted.
        match tokio::runtime::Handle::current().block_on(store.change(&name.key(), change)) {
            Ok(()) | Err(UserStoreError::Changed | UserStoreError::Unknown) => Ok(()),
            Err(error @ (UserStoreError::Exists | UserStoreError::Full(_) | UserStoreError::Unavailable(_))) => {
                Err(error.to_string())
            }
        }
    }
}

fn parse_records(texts: &[String]) -> Vec<StoredPassword> {
    texts.iter().filter_map(|text| StoredPassword::parse(text, false).ok()).collect()
}

fn parse_content(path: &str, text: &str, plain: bool) -> UserFileContent {
    let mut users = HashMap::new();
    for problem in parse_users(text, plain, &mut users) {
        tracing::warn!(file = path, error = problem, "invalid line of the user file skipped");
    }
    let has_keys = |records: &Vec<StoredPassword>| records.iter().any(|record| matches!(record, StoredPassword::Scram(_)));
    let keys = users.values().all(has_keys);
    UserFileContent { users, all_have_scram_keys: keys }
}

/// Parses lines `user:{SCHEME}hash` and ignores further fields; a user has a line for each scheme. Returns the problems by line number,
/// without the secrets.
fn parse_users(text: &str, plain: bool, users: &mut HashMap<String, Vec<StoredPassword>>) -> Vec<String> {
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
        match StoredPassword::parse(stored, plain) {
            Ok(record) => users.entry(user.to_ascii_lowercase()).or_default().push(record),
            Err(error) => problems.push(format!("line {number}: {error}")),
        }
    }
    problems
}
