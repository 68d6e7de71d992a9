//! The queue manager: takes up what is due, finds where it goes, hands it to transports, settles what they say.
//!
//! Owns: routing, attempts, retries, reports, and when plugins are asked about them; the native transports (SMTP, Maildir, discard,
//! error) and the one by plugin.
//! Uses: queue (the spool), smtp and net (client sessions), mailbox, pipeline (hooks, transports as plugins, submission).
//! Used by: daemon.
//! Never: WebAssembly, a listening socket, a write to the spool but by settling.
//! Start reading at: [`QueueManager::run`], then `plan.rs`, `attempt.rs` and `attempt_end.rs`.
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

/// The fields of a stored head.
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
