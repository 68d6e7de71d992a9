//! Native transports without a network connection, and the plugin transport.

mod discard_and_error;
mod maildir;
mod plugin;

pub(crate) use discard_and_error::parse_error_nexthop;
pub use discard_and_error::{DiscardTransport, ErrorTransport};
pub use maildir::MaildirTransport;
pub use plugin::PluginTransport;
