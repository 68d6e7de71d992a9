//! Basic types and traits shared by all crates of Waxwing.
//!
//! Owns: addresses, envelopes, mailbox locations, queue ids, replies, verdicts, edits, dispositions; the traits [`Session`] and [`Clock`];
//! the bounded line splitter.
//! Uses: nothing of ours.
//! Used by: accounts, admin, config, control, daemon, delivery, generated, intake, logging, mailbox, message, milter, net, pipeline,
//! plugins, queue, sandbox, smtp, spool, state, tool.
//! Never: I/O, a clock, randomness, the grammar of a protocol beyond addresses.
//! Start reading at: [`Envelope`], then [`Session`].
#![forbid(unsafe_code)]

mod address;
mod attempt;
mod body;
mod edit;
mod endpoint;
mod envelope;
mod hex;
mod line;
mod mailbox;
mod message;
mod network;
mod queue_id;
mod reply;
mod session;
mod time;
mod tls;
mod verdict;

pub use address::{ADDRESS_BYTES_MAX, Address, AddressError, DOMAIN_BYTES_MAX, LOCAL_PART_BYTES_MAX};
pub use attempt::{Attempt, Disposition, NextHop, Status};
pub use body::{BodyRead, MemoryBody, StoredBody};
pub use edit::{Edit, Tags};
pub use endpoint::{Endpoint, EndpointError};
pub use envelope::{
    AddressClass, BodyType, DsnReturn, Envelope, Notify, Origin, Parameter, Recipient, RecipientTarget, ReversePath, Source,
};
pub use hex::hex;
pub use line::{Line, LineError, LineSplitter};
pub use mailbox::{MailboxFormat, MailboxLocation, MailboxOwner};
pub use message::Message;
pub use network::{network_prefix, rate_limit_key};
pub use queue_id::{ParseQueueIdError, QueueId, QueueIdGenerator};
pub use reply::{EnhancedCode, Reply, ReplyError};
pub use session::{Action, Input, Session};
pub use time::{Clock, ManualClock, Monotonic, Timestamp};
pub use tls::{TlsLevel, TlsSession};
pub use verdict::Verdict;
