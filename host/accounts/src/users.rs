//! Users and what is stored of their passwords, in files like Dovecot's passwd-file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waxwing_auth::{Record, ScramKeys};
use waxwing_config::UserPlace;
use waxwing_pipeline::TableError;
use waxwing_types::Clock;

use crate::watched::WatchedFile;

type Known = HashMap<String, Vec<Record>>;

/// The users of this server.
pub struct Users(Vec<WatchedFile<Known>>);

impl Users {
    /// Reads the files. `plain`: records in plain text count.
    pub fn open(places: &[UserPlace], plain: bool, clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let open = |place: &UserPlace| {
            let UserPlace::File(path) = place;
            let name = path.display().to_string();
            // Looked at before each login: whoever has changed a password relies on it from then on.
            WatchedFile::open(path, Duration::ZERO, Arc::clone(clock), move |text: &str| known(&name, text, plain))
        };
        Ok(Self(places.iter().map(open).collect::<Result<_, _>>()?))
    }

    /// No places to look for users are configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// There are users, and keys for SCRAM are stored of each.
    #[must_use]
    pub fn scram(&self) -> bool {
        let all: Vec<_> = self.0.iter().map(WatchedFile::content).collect();
        let has_keys = |records: &Vec<Record>| records.iter().any(|record| matches!(record, Record::Scram(_)));
        all.iter().any(|known| !known.is_empty()) && all.iter().all(|known| known.values().all(has_keys))
    }

    /// What is stored of a user's password, in the first file that knows it; a name counts in any case.
    pub async fn find(&self, user: &str) -> Vec<Record> {
        let name = user.to_ascii_lowercase();
        for file in &self.0 {
            file.refresh().await;
            if let Some(records) = file.content().get(&name) {
                return records.clone();
            }
        }
        Vec::new()
    }

    /// The keys for SCRAM of a user.
    pub async fn scram_keys(&self, user: &str) -> Option<ScramKeys> {
        self.find(user).await.into_iter().find_map(|record| match record {
            Record::Scram(keys) => Some(keys),
            Record::Argon2id(_) | Record::Bcrypt(_) | Record::Sha512(_) | Record::Yescrypt(_) | Record::Plain(_) => None,
        })
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
