//! The native transports that connect nowhere, and the one that is a plugin.

mod maildir;
mod plugin;
mod simple;

pub use maildir::MaildirTransport;
pub use plugin::PluginTransport;
pub(crate) use simple::returned;
pub use simple::{Discard, ErrorTransport};
