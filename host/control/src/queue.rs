//! The queue as `waxwing queue list` and `waxwing queue show` see it.

use std::fmt;

use serde::{Deserialize, Serialize};
use waxwing_types::{QueueId, Status, Timestamp};

use crate::printed;

/// Messages on one page.
pub const QUEUE_PAGE_MAX: u32 = 200;
/// Recipients shown of one message in a list; `show` gives all.
pub const RECIPIENTS_SHOWN_MAX: usize = 20;
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

/// A recipient that is still to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRecipient {
    /// Where it goes.
    pub address: String,
    /// Its state.
    pub state: QueueState,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next attempt is due; none for held and corrupt ones.
    pub next_at: Option<Timestamp>,
    /// What the last attempt said.
    pub last: Option<Status>,
}

/// A message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedMessage {
    /// Its name for life.
    #[serde(with = "printed")]
    pub id: QueueId,
    /// When it came.
    pub arrived_at: Timestamp,
    /// Octets, head and body.
    pub size: u64,
    /// Envelope sender, empty for reports.
    pub sender: String,
    /// Why it is held or corrupt.
    pub reason: Option<String>,
    /// Those still to be served, in a list at most [`RECIPIENTS_SHOWN_MAX`].
    pub recipients: Vec<QueuedRecipient>,
    /// How many more there are.
    pub recipients_more: u64,
}

impl QueuedMessage {
    /// The message's own state: the one of its recipients that asks most for the operator's eye.
    #[must_use]
    pub fn state(&self) -> QueueState {
        let states = self.recipients.iter().map(|r| r.state);
        // Active beats deferred, as in Postfix's list, where `*` marks a message under way.
        let rank = |state: &QueueState| match state {
            QueueState::Incoming => 0,
            QueueState::Deferred => 1,
            QueueState::Active => 2,
            QueueState::Hold => 3,
            QueueState::Corrupt => 4,
        };
        states.max_by_key(rank).unwrap_or(QueueState::Incoming)
    }
}

/// Messages by state. A message of several states counts in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTotals {
    /// Waiting for their first attempt.
    pub incoming: u64,
    /// Under way.
    pub active: u64,
    /// Waiting for their next attempt.
    pub deferred: u64,
    /// Held.
    pub hold: u64,
    /// Unreadable.
    pub corrupt: u64,
}

/// A page of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePage {
    /// In the order of arrival.
    pub messages: Vec<QueuedMessage>,
    /// Where the next page begins; none on the last.
    #[serde(with = "printed::option")]
    pub next: Option<QueueId>,
    /// The whole queue.
    pub totals: QueueTotals,
}

/// All about one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownMessage {
    /// Envelope, states and recipients, all of them.
    pub message: QueuedMessage,
    /// By which door it came.
    pub via: String,
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
    pub head: String,
    /// Octets of the body.
    pub body_size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_state_that_asks_for_attention() {
        let recipient = |state| QueuedRecipient { address: "a@b".into(), state, attempts: 0, next_at: None, last: None };
        let message = |states: &[QueueState]| QueuedMessage {
            id: QueueId::from_u64(1),
            arrived_at: Timestamp::from_millis(0),
            size: 0,
            sender: String::new(),
            reason: None,
            recipients: states.iter().copied().map(recipient).collect(),
            recipients_more: 0,
        };
        use QueueState::{Active, Corrupt, Deferred, Hold, Incoming};
        assert_eq!(message(&[Incoming, Deferred, Active]).state(), Active);
        assert_eq!(message(&[Deferred, Incoming]).state(), Deferred);
        assert_eq!(message(&[Hold, Active]).state(), Hold);
        assert_eq!(message(&[Hold, Corrupt]).state(), Corrupt);
        assert_eq!(message(&[]).state(), Incoming);
    }

    #[test]
    fn a_state_keeps_the_width_of_a_column() {
        assert_eq!(format!("{:<9}|", QueueState::Hold), "hold     |");
    }
}
