//! The queue as `waxwing queue list` and `waxwing queue show` see it.

use std::fmt;

use serde::{Deserialize, Serialize};
use waxwing_types::{QueueId, Status, Timestamp};

use crate::printed;

/// Units on one page.
pub const QUEUE_PAGE_MAX: u32 = 200;
/// Octets shown of a message's head.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Postfix's queues as states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// Waits for its first attempt.
    Incoming,
    /// An attempt is under way.
    Active,
    /// Waits for its next attempt.
    Deferred,
    /// Waits for the operator.
    Hold,
    /// Cannot be read.
    Corrupt,
}

impl QueueState {
    /// The word in lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Hold => "hold",
            Self::Corrupt => "corrupt",
        }
    }
}

impl fmt::Display for QueueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the last attempt said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStatus {
    /// The SMTP reply code, if there was a reply.
    pub code: Option<u16>,
    /// RFC 3463 status, such as `4.4.1`.
    pub enhanced: String,
    /// The server or agent that spoke.
    pub remote: Option<String>,
    /// The words.
    pub text: String,
}

impl From<&Status> for LastStatus {
    fn from(status: &Status) -> Self {
        Self {
            code: status.code,
            enhanced: status.enhanced.to_string(),
            remote: status.remote.clone(),
            text: status.text.clone(),
        }
    }
}

/// A recipient that is still to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Where it goes.
    pub address: String,
    /// What the last attempt said, if there was one.
    pub last: Option<LastStatus>,
}

/// A part of a message that is tried as one; most messages have one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedUnit {
    /// The message's name for life.
    #[serde(with = "printed")]
    pub id: QueueId,
    /// Which of its units, from 0.
    pub unit: u16,
    /// Its state.
    pub state: QueueState,
    /// Why it is held or corrupt.
    pub reason: Option<String>,
    /// When the message came; none where its record cannot be read.
    pub arrived_at: Option<Timestamp>,
    /// Octets, head and body.
    pub size: Option<u64>,
    /// Envelope sender, empty for reports.
    pub sender: Option<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next attempt is due; none for held and corrupt ones.
    pub next_at: Option<Timestamp>,
    /// Those still to be served.
    pub recipients: Vec<QueuedRecipient>,
}

/// Units by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// Waiting for their first attempt, with those under way.
    pub incoming: u64,
    /// Waiting for their next attempt, with those under way.
    pub deferred: u64,
    /// Held.
    pub hold: u64,
    /// Unreadable.
    pub corrupt: u64,
}

impl QueueTotals {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.incoming + self.deferred + self.hold + self.corrupt
    }
}

/// A page of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePage {
    /// Held and corrupt ones first, then by the time when they are due.
    pub units: Vec<QueuedUnit>,
    /// Where the next page begins, in the server's own words; none on the last.
    pub next: Option<String>,
    /// The whole queue.
    pub totals: QueueTotals,
}

/// All about one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownMessage {
    /// Its name for life.
    #[serde(with = "printed")]
    pub id: QueueId,
    /// The units that still wait.
    pub units: Vec<QueuedUnit>,
    /// By which door it came; this and the following are absent where the record cannot be read.
    pub via: Option<String>,
    /// The client's address, none for mail made here.
    pub peer: Option<String>,
    /// What the client said after HELO or EHLO.
    pub helo: Option<String>,
    /// The authenticated user.
    pub user: Option<String>,
    /// The body is declared as 8BITMIME.
    pub eight_bit: bool,
    /// What hooks noted.
    pub tags: Vec<(String, String)>,
    /// The header block, at most [`HEAD_BYTES_MAX`] octets; what is not UTF-8 is replaced.
    pub head: Option<String>,
    /// Octets of head and body.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use waxwing_types::EnhancedCode;

    use super::*;

    #[test]
    fn a_state_keeps_the_width_of_a_column() {
        assert_eq!(format!("{:<9}|", QueueState::Hold), "hold     |");
    }

    #[test]
    fn a_unit_reads_back_from_what_scripts_see() {
        let status = Status::local(EnhancedCode::new(4, 4, 1), "no route");
        let unit = QueuedUnit {
            id: QueueId::from_u64(1),
            unit: 0,
            state: QueueState::Deferred,
            reason: None,
            arrived_at: Some(Timestamp::from_millis(5)),
            size: Some(10),
            sender: Some(String::new()),
            attempts: 1,
            next_at: None,
            recipients: vec![QueuedRecipient { address: "a@b.example".into(), last: Some(LastStatus::from(&status)) }],
        };
        let text = serde_json::to_string(&unit).unwrap();
        assert!(text.contains(r#""id":"0000000000001""#) && text.contains(r#""enhanced":"4.4.1""#), "{text}");
        assert_eq!(serde_json::from_str::<QueuedUnit>(&text).unwrap(), unit);
    }
}
