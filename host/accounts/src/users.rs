//! Users and what is stored of their passwords, in files like Dovecot's passwd-file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use waxwing_auth::{Record, ScramKeys};
use waxwing_pipeline::TableError;
use waxwing_types::{Clock, Monotonic};

/// Octets of a file of users.
pub const USERS_BYTES_MAX: u64 = 64 << 20;
/// How often the files are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

type Known = HashMap<String, Vec<Record>>;

struct Loaded {
    checked_at: Monotonic,
    versions: Vec<Option<(SystemTime, u64)>>,
    known: Arc<Known>,
    /// There are users, and SCRAM can be done with each.
    scram: bool,
}

/// The users of this server. A file that can't be read any more keeps its last good content.
pub struct Users {
    files: Vec<PathBuf>,
    plain: bool,
    clock: Arc<dyn Clock>,
    loaded: Mutex<Loaded>,
}

impl Users {
    /// Reads the files. `places`: `file:` and a path, each. `plain`: records in plain text count.
    pub fn open(places: &[String], plain: bool, clock: Arc<dyn Clock>) -> Result<Self, TableError> {
        let mut files = Vec::new();
        for place in places {
            let path = place.strip_prefix("file:").ok_or_else(|| wrong(format!("\"{place}\" is not file:PATH")))?;
            files.push(PathBuf::from(path));
        }
        let loaded = load(&files, plain, clock.monotonic()).map_err(wrong)?;
        Ok(Self { files, plain, clock, loaded: Mutex::new(loaded) })
    }

    /// No places to look for users are configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// There are users, and keys for SCRAM are stored of each.
    #[must_use]
    pub fn scram(&self) -> bool {
        self.loaded.lock().scram
    }

    /// What is stored of a user's password; a name counts in any case. Reads the files again if they have changed.
    #[must_use]
    pub fn find(&self, user: &str) -> Vec<Record> {
        self.refresh();
        let known = Arc::clone(&self.loaded.lock().known);
        known.get(&user.to_ascii_lowercase()).cloned().unwrap_or_default()
    }

    /// The keys for SCRAM of a user.
    #[must_use]
    pub fn scram_keys(&self, user: &str) -> Option<ScramKeys> {
        self.find(user).into_iter().find_map(|record| match record {
            Record::Scram(keys) => Some(keys),
            Record::Argon2id(_) | Record::Bcrypt(_) | Record::Sha512(_) | Record::Yescrypt(_) | Record::Plain(_) => None,
        })
    }

    fn refresh(&self) {
        let now = self.clock.monotonic();
        let mut loaded = self.loaded.lock();
        if now.since(loaded.checked_at) < CHECK_INTERVAL {
            return;
        }
        loaded.checked_at = now;
        if versions(&self.files) == loaded.versions {
            return;
        }
        match load(&self.files, self.plain, now) {
            Ok(anew) => *loaded = anew,
            Err(error) => tracing::warn!(error, "users can't be read again"),
        }
    }
}

fn wrong(reason: String) -> TableError {
    TableError { table: "users".to_owned(), reason }
}

fn versions(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    files.iter().map(of).collect()
}

fn load(files: &[PathBuf], plain: bool, now: Monotonic) -> Result<Loaded, String> {
    let versions = versions(files);
    let mut known = Known::new();
    for path in files {
        let text = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for problem in parse_users(&text, plain, &mut known) {
            tracing::warn!(path = %path.display(), problem, "left out");
        }
    }
    let scram = !known.is_empty() && known.values().all(|records| records.iter().any(|r| matches!(r, Record::Scram(_))));
    Ok(Loaded { checked_at: now, versions, known: Arc::new(known), scram })
}

fn read(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > USERS_BYTES_MAX {
        return Err(std::io::Error::other("the file is too large"));
    }
    std::fs::read_to_string(path)
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
