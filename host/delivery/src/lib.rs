//! Queue manager: activates due units, routes their recipients, calls the transports and settles the results.
//!
//! Owns: routing, attempts, retries, DSNs, and the plugin hooks about them; the native transports (SMTP, Maildir, discard, error) and the
//! plugin transport.
//! Uses: generated, mailbox, message, net, pipeline, smtp, config, spool, types.
//! Used by: admin, daemon.
//! Never: WebAssembly, a listening socket, a write to the spool except by settlement.
//! Start reading at: [`QueueManager::run`], then `prepare.rs`, `attempt.rs` and `settlement.rs`.
#![forbid(unsafe_code)]

mod attempt;
mod attempt_hooks;
mod attempt_log;
mod commands;
mod context;
mod corrupt;
mod dead_destinations;
mod decide;
mod dsn;
mod manager;
mod plugin_call_limits;
mod prepare;
mod router;
mod routing;
mod settings;
mod settlement;
mod shard;
mod smtp;
mod submissions;
mod transport;

pub use commands::{CommandSummary, CommandTarget, QueueCommandError, QueueManagerHandle};
pub use context::{ActiveUnits, DeliveryServices};
pub use manager::QueueManager;
pub use router::{ERROR_TRANSPORT, Router};
pub use routing::{CurrentRouting, RoutingConfig};
pub use settings::DeliverySettings;
pub use smtp::{Prober, SmtpSettings, SmtpTransport, TlsPolicy};
pub use transport::{DiscardTransport, ErrorTransport, MaildirTransport, PluginTransport};

#[cfg(test)]
mod tests;
