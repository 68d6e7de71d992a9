//! Native transports without a network connection, and the plugin transport.

mod maildir;
mod plugin;
mod simple;

pub use maildir::MaildirTransport;
pub use plugin::PluginTransport;
pub(crate) use simple::returned;
pub use simple::{Discard, ErrorTransport};
