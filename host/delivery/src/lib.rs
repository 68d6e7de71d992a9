//! Queue manager: activates due units, routes their recipients, calls the transports and settles the results.
//!
//! Owns: routing, attempts, retries, DSNs, and the plugin hooks about them; the native transports (SMTP, Maildir, discard, error) and the
//! plugin transport.
//! Uses: mailbox, message, net, pipeline, queue, smtp, config, types.
//! Used by: daemon.
//! Never: WebAssembly, a listening socket, a write to the spool except by settlement.
//! Start reading at: [`QueueManager::run`], then `prepare.rs`, `attempt.rs` and `settlement.rs`.
#![forbid(unsafe_code)]

mod attempt;
mod attempt_end;
mod bounce;
mod hooks;
mod log;
mod manager;
mod plan;
mod resting;
mod route;
mod settings;
mod settle;
mod smtp;
mod submitted;
mod transport;

pub use manager::{ActiveUnits, CurrentWays, Parts, QueueManager, Ways};
pub use route::{ERROR, Router, Routes};
pub use settings::{DeliverySettings, ScanRefusal};
pub use smtp::{Prober, SmtpSettings, SmtpTransport, TlsPolicy};
pub use transport::{Discard, ErrorTransport, MaildirTransport, PluginTransport};

use waxwing_message::{HeadSplitter, HeaderBlock, Split};
use waxwing_types::Message;

/// Parses the stored header block of a message.
pub(crate) fn header_of(message: &Message) -> HeaderBlock {
    let mut splitter = HeadSplitter::new(message.head.len());
    match splitter.push(message.head.clone()) {
        Ok(Split::Done(head, _)) => head,
        Ok(Split::More) => splitter.finish().0,
        Err(_) => HeaderBlock::default(),
    }
}

#[cfg(test)]
mod tests;
