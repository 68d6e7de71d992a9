//! Queue messages, for `waxwing queue list` and `waxwing queue show`.

use std::fmt;

use serde::{Deserialize, Serialize};
use waxwing_types::{QueueId, Status, Timestamp};

use crate::serde_display;

/// Units on a page at most.
pub const QUEUE_PAGE_MAX: u32 = 200;
/// Bytes of a message's header shown at most.
pub const SHOWN_HEADER_BYTES_MAX: usize = 256 * 1024;

/// State of a unit, named after Postfix's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueState {
    /// Waiting for the first attempt.
    Incoming,
    /// Delivery attempt in progress.
    Active,
    /// Waiting for the next attempt.
    Deferred,
    /// On hold until the operator releases the message.
    Hold,
    /// Record not readable.
    Corrupt,
}

impl QueueState {
    /// Returns the lower-case name used in lists.
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

/// Status of the last delivery attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAttempt {
    /// SMTP reply code, if the server replied.
    pub code: Option<u16>,
    /// Enhanced status code, such as `4.4.1` (RFC 3463).
    pub enhanced: String,
    /// Remote server or delivery agent that reported the status.
    pub remote: Option<String>,
    /// Status text of the reply or agent.
    pub text: String,
}

impl From<&Status> for LastAttempt {
    fn from(status: &Status) -> Self {
        Self {
            code: status.code,
            enhanced: status.enhanced.to_string(),
            remote: status.remote.clone(),
            text: status.text.clone(),
        }
    }
}

/// A recipient not yet delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Address of the recipient.
    pub address: String,
    /// Status of the last attempt, if any.
    pub last: Option<LastAttempt>,
}

/// A delivery unit: recipients of a message tried together; most messages have a single unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedUnit {
    /// Queue id of the message.
    #[serde(with = "serde_display")]
    pub id: QueueId,
    /// Number of the unit within the message, from 0.
    pub unit: u16,
    /// State of the unit.
    pub state: QueueState,
    /// Reason for the states hold and corrupt.
    pub reason: Option<String>,
    /// Arrival time of the message; `None` if the record is not readable.
    pub arrived_at: Option<Timestamp>,
    /// Size in bytes, header and body.
    pub size: Option<u64>,
    /// Envelope sender, empty for DSNs.
    pub sender: Option<String>,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Time of the next attempt; `None` for the states hold and corrupt.
    pub next_at: Option<Timestamp>,
    /// Recipients not yet delivered.
    pub recipients: Vec<QueuedRecipient>,
}

/// Number of units by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// Units before the first attempt or in the first attempt.
    pub incoming: u64,
    /// Units waiting for, or in, a later attempt.
    pub deferred: u64,
    /// Units on hold.
    pub hold: u64,
    /// Units with unreadable records.
    pub corrupt: u64,
}

impl QueueTotals {
    /// Returns the number of all units.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.incoming + self.deferred + self.hold + self.corrupt
    }
}

/// A page of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePage {
    /// Units of the page: held and corrupt units first, then by the time of the next attempt.
    pub units: Vec<QueuedUnit>,
    /// Opaque key of the next page; `None` on the last page.
    pub next: Option<String>,
    /// Totals of the whole queue.
    pub totals: QueueTotals,
}

/// Details of a queued message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageInfo {
    /// Queue id of the message.
    #[serde(with = "serde_display")]
    pub id: QueueId,
    /// Units not yet delivered.
    pub units: Vec<QueuedUnit>,
    /// Source of the message, such as `smtp`; absent, as the following fields, if the record is not readable.
    #[serde(rename = "via")]
    pub source: Option<String>,
    /// Address of the client; `None` for locally generated mail.
    pub peer: Option<String>,
    /// Argument of HELO or EHLO.
    pub helo: Option<String>,
    /// Authenticated user name.
    pub user: Option<String>,
    /// Tells whether the body was declared as 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// Tags set by hooks, as name and value.
    pub tags: Vec<(String, String)>,
    /// Header block, at most [`SHOWN_HEADER_BYTES_MAX`] bytes; invalid UTF-8 is replaced.
    #[serde(rename = "head")]
    pub header: Option<String>,
    /// Size in bytes, header and body.
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
            recipients: vec![QueuedRecipient { address: "a@b.example".into(), last: Some(LastAttempt::from(&status)) }],
        };
        let text = serde_json::to_string(&unit).unwrap();
        assert!(text.contains(r#""id":"0000000000001""#) && text.contains(r#""enhanced":"4.4.1""#), "{text}");
        assert_eq!(serde_json::from_str::<QueuedUnit>(&text).unwrap(), unit);
    }
}
