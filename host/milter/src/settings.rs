//! What the operator says of a milter, and the limits that nobody sets.

use std::time::Duration;

use waxwing_types::Endpoint;

/// Changes that a milter may ask for in one message.
pub const EDITS_MAX: usize = 1000;
/// Octets of all names, values and addresses of these changes together, without the body.
pub const EDIT_BYTES_MAX: usize = 1 << 20;
/// Octets of a body that a milter puts in the place of another.
pub const REPLACED_BODY_BYTES_MAX: usize = 64 << 20;
/// How long a milter may say that it is still at work on one message.
pub const END_OF_BODY_TOTAL: Duration = Duration::from_secs(540);
/// How often it may say so.
pub const PROGRESS_MAX: usize = 10_000;
/// Octets that are gathered before they are written, where no reply is due.
pub const WRITE_BYTES_MAX: usize = 128 * 1024;

/// One milter.
#[derive(Clone, Debug)]
pub struct MilterSettings {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// This server's name: the macro `j`.
    pub hostname: String,
    /// The domain of a recipient that a milter adds without one.
    pub origin: String,
    /// For connecting and the negotiation.
    pub connect_time: Duration,
    /// For each reply before the end of the message.
    pub command_time: Duration,
    /// For the reply to the end of the message, and between two signs of work.
    pub content_time: Duration,
    /// See [`EDITS_MAX`].
    pub edits_max: usize,
    /// See [`REPLACED_BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
}

impl MilterSettings {
    /// With the times of Postfix.
    #[must_use]
    pub fn new(endpoint: Endpoint, hostname: &str) -> Self {
        Self {
            endpoint,
            hostname: hostname.to_owned(),
            origin: hostname.to_owned(),
            connect_time: Duration::from_secs(30),
            command_time: Duration::from_secs(30),
            content_time: Duration::from_secs(300),
            edits_max: EDITS_MAX,
            body_bytes_max: REPLACED_BODY_BYTES_MAX,
        }
    }
}
