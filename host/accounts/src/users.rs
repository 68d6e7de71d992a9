//! Users and what is stored of their passwords, in files like Dovecot's passwd-file.

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

/// What a file says.
struct Known {
    users: HashMap<String, Vec<Record>>,
    /// All of them have keys for SCRAM.
    keys: bool,
}

/// After a failed renewal no other is tried at that place for so long.
const RENEWAL_PAUSE: Duration = Duration::from_secs(600);

/// The users of this server.
pub struct Users {
    places: Vec<Place>,
    clock: Arc<dyn Clock>,
}

/// Where some of them are.
struct Place {
    source: Source,
    /// When records could last not be renewed; `None` once they could.
    failed_at: Mutex<Option<Monotonic>>,
}

enum Source {
    File { content: WatchedFile<Known>, file: UserFile },
    Store(Arc<dyn UserStore>),
}

/// What is stored of a user's password.
#[derive(Clone, Default)]
pub struct Found {
    /// In which of the places.
    pub(crate) place: usize,
    /// The one that passwords are checked with first; none: there is no such user.
    pub records: Vec<Record>,
}

impl Users {
    /// Reads the files. `store`: what `store:` is. `plain`: records in plain text count.
    pub fn open(
        places: &[UserPlace],
        store: Option<&Arc<dyn UserStore>>,
        plain: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TableError> {
        let open = |place: &UserPlace| {
            let source = match place {
                UserPlace::File(path) => Source::file(path, plain, clock)?,
                UserPlace::Store => {
                    let none = || TableError { table: place.to_string(), reason: "there is no store here".to_owned() };
                    Source::Store(Arc::clone(store.ok_or_else(none)?))
                }
            };
            Ok(Place { source, failed_at: Mutex::new(None) })
        };
        Ok(Self { places: places.iter().map(open).collect::<Result<_, _>>()?, clock: Arc::clone(clock) })
    }

    /// No places to look for users are configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// There are users, and keys for SCRAM are stored of each.
    #[must_use]
    pub fn scram(&self) -> bool {
        let counted: Vec<_> = self.places.iter().map(|place| place.source.has_keys()).collect();
        counted.contains(&Some(true)) && !counted.contains(&Some(false))
    }

    /// What is stored of a user's password, in the first place that knows it; a name counts in any case.
    pub async fn find(&self, user: &str) -> Found {
        let name = user.to_ascii_lowercase();
        for (index, place) in self.places.iter().enumerate() {
            let mut records = place.source.find(&name).await;
            if !records.is_empty() {
                // The slow hash is the one that is checked: the keys of SCRAM are for SCRAM.
                records.sort_by_key(|record| matches!(record, Record::Scram(_)));
                return Found { place: index, records };
            }
        }
        Found::default()
    }

    /// The keys for SCRAM of a user.
    pub async fn scram_keys(&self, user: &str) -> Option<ScramKeys> {
        self.find(user).await.records.into_iter().find_map(|record| match record {
            Record::Scram(keys) => Some(keys),
            Record::Argon2id(_) | Record::Bcrypt(_) | Record::Sha512(_) | Record::Yescrypt(_) | Record::Plain(_) => None,
        })
    }

    /// A renewal at this place could come to something.
    pub(crate) fn can_renew(&self, place: usize) -> bool {
        let now = self.clock.monotonic();
        let failed_at = self.places.get(place).map(|place| *place.failed_at.lock());
        failed_at.is_some_and(|at| at.is_none_or(|at| now.since(at) >= RENEWAL_PAUSE))
    }

    /// Replaces the records of a user by newer ones of the same password, unless they have changed since they were found. Blocks. That
    /// a place can't be written to is said once.
    pub(crate) fn renew(&self, found: &Found, user: &str, records: &[Record]) {
        // A file may have names that no line could be written for.
        let (Some(place), Ok(name)) = (self.places.get(found.place), UserName::parse(user)) else { return };
        let renewed = place.source.renew(&name, &found.records, records);
        let mut failed_at = place.failed_at.lock();
        match renewed {
            Ok(()) => *failed_at = None,
            Err(error) => {
                if failed_at.is_none() {
                    let advice = "old records stay, and this is not said again: let mail_owner write to the file and its folder, or set password_rehash = false";
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
        // Looked at before each login: whoever has changed a password relies on it from then on.
        let parse = move |text: &str| known(&name, text, plain);
        let content = WatchedFile::open(path, Duration::ZERO, Arc::clone(clock), parse)?;
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

    /// Whether all users have keys for SCRAM; `None`: there are no users.
    fn has_keys(&self) -> Option<bool> {
        match self {
            Self::File { content, file: _ } => {
                let known = content.content();
                (!known.users.is_empty()).then_some(known.keys)
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
        let found = parsed(&stored);
        if !expected.iter().all(|record| found.contains(record)) {
            return Ok(());
        }
        let change = UserChange::Renew { expected: stored, records: records.iter().map(Record::to_text).collect() };
        // On a thread for slow work: the wait for the disk is one of its kind.
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
        tracing::warn!(path, problem, "left out");
    }
    let has_keys = |records: &Vec<Record>| records.iter().any(|record| matches!(record, Record::Scram(_)));
    let keys = users.values().all(has_keys);
    Known { users, keys }
}

/// Reads lines `user:{SCHEME}hash`, whatever stands behind another colon left aside; a user has a line for each scheme. Returns what is
/// wrong, by line, without the secrets.
fn parse_users(text: &str, plain: bool, known: &mut HashMap<String, Vec<Record>>) -> Vec<String> {
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
            Ok(record) => known.entry(user.to_ascii_lowercase()).or_default().push(record),
            Err(error) => problems.push(format!("line {number}: {error}")),
        }
    }
    problems
}
