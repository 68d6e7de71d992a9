//! Settings of a milter, and fixed limits.

use std::time::Duration;

use waxwing_types::Endpoint;

/// Maximum number of changes to a message by a milter.
pub const EDITS_MAX: usize = 1000;
/// Maximum size of all names, values and addresses of the changes in bytes, without the body.
pub const EDIT_BYTES_MAX: usize = 1 << 20;
/// Maximum size of a replacement body in bytes.
pub const REPLACED_BODY_BYTES_MAX: usize = 64 << 20;
/// Longest time for the end of a message, with progress packets.
pub const END_OF_BODY_TIME_MAX: Duration = Duration::from_secs(540);
/// Maximum number of progress packets for a reply.
pub const PROGRESS_PACKETS_MAX: usize = 10_000;
/// Size in bytes from which the buffer is sent, when no reply is needed.
pub const WRITE_BYTES_MAX: usize = 128 * 1024;

/// Settings of a milter.
#[derive(Clone, Debug)]
pub struct MilterSettings {
    /// Address of the milter.
    pub endpoint: Endpoint,
    /// Name of this server, for the macro `j`.
    pub hostname: String,
    /// Domain for recipients that a milter adds without a domain.
    pub origin: String,
    /// Timeout for connecting, and for the negotiation (`milter_connect_timeout`).
    pub connect_timeout: Duration,
    /// Timeout for each reply before the end of the message (`milter_command_timeout`).
    pub command_timeout: Duration,
    /// Timeout for the reply to the end of the message, and between progress packets (`milter_content_timeout`).
    pub content_timeout: Duration,
    /// Maximum number of changes, by default [`EDITS_MAX`].
    pub edits_max: usize,
    /// Maximum size of a replacement body in bytes, by default [`REPLACED_BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
}

impl MilterSettings {
    /// Returns settings with Postfix's default timeouts.
    #[must_use]
    pub fn new(endpoint: Endpoint, hostname: &str) -> Self {
        Self {
            endpoint,
            hostname: hostname.to_owned(),
            origin: hostname.to_owned(),
            connect_timeout: Duration::from_secs(30),
            command_timeout: Duration::from_secs(30),
            content_timeout: Duration::from_secs(300),
            edits_max: EDITS_MAX,
            body_bytes_max: REPLACED_BODY_BYTES_MAX,
        }
    }
}
