//! Users and what is stored of their passwords, in files like Dovecot's passwd-file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use waxwing_auth::{Record, ScramKeys};
use waxwing_config::UserPlace;
use waxwing_pipeline::TableError;
use waxwing_types::{Clock, Monotonic};

use crate::user_file::{UserFile, UserName};
use crate::watched::WatchedFile;

type Known = HashMap<String, Vec<Record>>;

/// After a failed renewal no other is tried at that place for so long.
const RENEWAL_PAUSE: Duration = Duration::from_secs(600);

/// The users of this server.
pub struct Users {
    places: Vec<Place>,
    clock: Arc<dyn Clock>,
}

/// Where some of them are.
struct Place {
    content: WatchedFile<Known>,
    file: UserFile,
    /// When records could last not be renewed; `None` once they could.
    failed_at: Mutex<Option<Monotonic>>,
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
    /// Reads the files. `plain`: records in plain text count.
    pub fn open(places: &[UserPlace], plain: bool, clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let open = |place: &UserPlace| {
            let UserPlace::File(path) = place;
            let name = path.display().to_string();
            // Looked at before each login: whoever has changed a password relies on it from then on.
            let content =
                WatchedFile::open(path, Duration::ZERO, Arc::clone(clock), move |text: &str| known(&name, text, plain))?;
            Ok(Place { content, file: UserFile::new(path, None), failed_at: Mutex::new(None) })
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
        let all: Vec<_> = self.places.iter().map(|place| place.content.content()).collect();
        let has_keys = |records: &Vec<Record>| records.iter().any(|record| matches!(record, Record::Scram(_)));
        all.iter().any(|known| !known.is_empty()) && all.iter().all(|known| known.values().all(has_keys))
    }

    /// What is stored of a user's password, in the first place that knows it; a name counts in any case.
    pub async fn find(&self, user: &str) -> Found {
        let name = user.to_ascii_lowercase();
        for (index, place) in self.places.iter().enumerate() {
            place.content.refresh().await;
            if let Some(records) = place.content.content().get(&name) {
                let mut records = records.clone();
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
        let renewed = place.file.renew(&name, &found.records, records);
        let mut failed_at = place.failed_at.lock();
        match renewed {
            Ok(_done_or_changed_meanwhile) => *failed_at = None,
            Err(error) => {
                if failed_at.is_none() {
                    let advice = "old records stay, and this is not said again: let mail_owner write to the file and its folder, or set password_rehash = false";
                    tracing::warn!(%error, advice, "the records of users can't be renewed at their logins");
                }
                *failed_at = Some(self.clock.monotonic());
            }
        }
    }
}

fn known(path: &str, text: &str, plain: bool) -> Known {
    let mut known = Known::new();
    for problem in parse_users(text, plain, &mut known) {
        tracing::warn!(path, problem, "left out");
    }
    known
}

/// Reads lines `user:{SCHEME}hash`, whatever stands behind another colon left aside; a user has a line for each scheme. Returns what is
/// wrong, by line, without the secrets.
fn parse_users(text: &str, plain: bool, known: &mut Known) -> Vec<String> {
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
