//! Submissions: messages that plugins send, and the internal messages made of them.

use std::sync::Arc;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, Envelope, Origin, QueueId, Recipient, ReversePath, Source, Tags, Timestamp};

/// Tag with the names of the plugins whose submissions led to this message, comma separated, the latest last. The named plugins
/// are not called for this message.
pub const SUBMITTED_BY_TAG: &str = "waxwing.authors";
/// Maximum number of submissions that may cause one another in a row.
pub const SUBMISSION_DEPTH_MAX: usize = 5;
/// Maximum number of messages that plugins may send with one commit or settlement, not counting the submissions attached to
/// these messages.
pub const SUBMISSIONS_MAX: usize = 100;

/// Message that a plugin sends (`submit`), committed together with the message that caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Queue id of the new message, as returned to the plugin.
    pub id: QueueId,
    /// Envelope sender (MAIL FROM).
    pub sender: ReversePath,
    /// Envelope recipients (RCPT TO).
    pub recipients: Vec<Address>,
    /// Complete message: header block and body, with CRLF line ends.
    pub content: Bytes,
    /// Name of the submitting plugin; set by the pipeline.
    pub submitter: Arc<str>,
}

impl Submission {
    /// Builds the internal message of this submission, caused by a message with the given tags. Returns `Refused` after too
    /// many submissions in a row.
    pub fn to_internal_message(
        &self,
        tags: &Tags,
        cause: Option<QueueId>,
        now: Timestamp,
    ) -> Result<InternalMessage, SubmitError> {
        let before = tags.get(SUBMITTED_BY_TAG).map_or("", String::as_str);
        if before.split(',').filter(|name| !name.is_empty()).count() >= SUBMISSION_DEPTH_MAX {
            return Err(SubmitError::Refused(format!("{SUBMISSION_DEPTH_MAX} messages led one to the next")));
        }
        let authors = if before.is_empty() { self.submitter.to_string() } else { format!("{before},{}", self.submitter) };
        let envelope = Envelope {
            sender: self.sender.clone(),
            recipients: self.recipients.iter().cloned().map(Recipient::new).collect(),
            body_type: if self.content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Source::Forward, now),
        };
        let tags = Tags::from([(SUBMITTED_BY_TAG.to_owned(), authors)]);
        Ok(InternalMessage { id: self.id, envelope, content: self.content.clone(), cause, tags })
    }
}

/// Message created by the server itself, such as a DSN or a forwarded message.
#[derive(Clone)]
pub struct InternalMessage {
    /// Queue id, assigned by the spool that will store the message.
    pub id: QueueId,
    /// Sender, recipients and source of the message.
    pub envelope: Envelope,
    /// Complete message: header block and body, with CRLF line ends.
    pub content: Bytes,
    /// Queue id of the message that caused this message.
    pub cause: Option<QueueId>,
    /// Initial tags of the message.
    pub tags: Tags,
}

/// Rejection of an internal message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Refused by a hook.
    #[error("refused: {0}")]
    Refused(String),
    /// Discarded by a hook.
    #[error("discarded: {0}")]
    Discarded(String),
    /// Temporary failure, with the reason.
    #[error("not now: {0}")]
    Temporary(String),
}
