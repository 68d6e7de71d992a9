//! What a server session is in the midst of.

use waxwing_types::{Monotonic, Reply, TlsSession};

use crate::chunk::ChunkReader;
use crate::command::{Command, CommandError};
use crate::data::DataReader;

#[derive(Debug)]
pub(super) enum State {
    /// Before [`waxwing_types::Input::Start`].
    New,
    /// A question is open.
    Asked(Asked),
    /// Reads commands.
    Command,
    /// Reads a message that DATA began.
    Data(Incoming),
    /// Reads the octets behind BDAT.
    Chunk(Chunk),
    /// Reads the client's next response of an AUTH exchange.
    Exchange,
    /// The loop shakes hands.
    Handshake,
    /// Nothing follows.
    Closed,
}

/// The open question, with what its answer needs.
#[derive(Debug)]
pub(super) enum Asked {
    /// With the handshake that came before the greeting, if one did.
    Connect(Option<TlsSession>),
    Secured(Begins),
    Helo {
        esmtp: bool,
    },
    Mail(Transaction),
    Rcpt,
    Data,
    /// As [`Asked::Data`], by the first BDAT.
    Chunk(Chunk),
    /// With what is answered if the host has nothing to say.
    Command(Result<Command, CommandError>),
    EndOfData,
    Reset(Then),
    Auth,
    /// The exchange is over; the host drops it, and the client hears this.
    AuthOver(Reply),
    /// Whether it names a user.
    Xclient {
        login: bool,
    },
}

/// How a session goes on that is encrypted from now on.
#[derive(Debug)]
pub(super) enum Begins {
    /// Behind STARTTLS: the client speaks first.
    Silently,
    /// Encrypted from its beginning: with the greeting, in these words if the host had some.
    Greeting(Option<Reply>),
}

/// What goes on when the host has dropped a transaction.
#[derive(Debug)]
pub(super) enum Then {
    Rset,
    Helo {
        name: String,
        esmtp: bool,
    },
    /// Reads the refused message to its end.
    Skip(Incoming),
    /// Reads the refused chunk to its end.
    SkipChunk(Chunk),
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) reader: DataReader,
    pub(super) ends_at: Monotonic,
}

/// Octets behind BDAT.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) size: u64,
    /// Octets that are still to come.
    pub(super) left: u64,
    pub(super) last: bool,
    pub(super) ends_at: Monotonic,
    pub(super) fate: Fate,
}

#[derive(Debug)]
pub(super) enum Fate {
    /// The octets are the message's.
    Taken,
    /// They are dropped, and this is answered when all have come.
    Dropped(Reply),
}

/// How far the client has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    NoHelo,
    Greeted,
    Transaction(Transaction),
    /// A chunk was refused and the host has dropped the transaction. More chunks may be under way; their last one or RSET ends it.
    ChunksRefused {
        /// Replies to the last chunk: more than one only in LMTP.
        replies: usize,
        /// Octets of chunks so far.
        taken: u64,
    },
}

/// What MAIL began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    /// Recipients.
    pub(super) accepted: usize,
    /// Recipients refused for being too many.
    pub(super) overshoot: usize,
    /// SMTPUTF8 was said.
    pub(super) utf8: bool,
    /// BODY=BINARYMIME was said.
    pub(super) binary: bool,
    /// PRDR was said.
    pub(super) each_recipient: bool,
    /// BDAT was said, and its octets go here.
    pub(super) chunks: Option<ChunkReader>,
}

/// What waits for the open question's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// The peer sends no more: what it has sent is answered, then we close.
    Eof,
    Shutdown,
}
