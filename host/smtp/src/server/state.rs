//! States of a server session.

use waxwing_types::{Monotonic, Reply, TlsSession};

use crate::chunk::ChunkReader;
use crate::command::{Command, CommandError};
use crate::data::DataReader;

#[derive(Debug)]
pub(super) enum State {
    /// Before the first input, [`waxwing_types::Input::Start`].
    New,
    /// A question is open.
    Asked(Asked),
    /// Reading command lines.
    Command,
    /// Reading a message after DATA.
    Data(Incoming),
    /// Reading the octets behind BDAT.
    Chunk(Chunk),
    /// Reading the next client response of an AUTH exchange.
    Exchange,
    /// TLS handshake in the session loop.
    Handshake,
    /// Connection closed; no further input or output.
    Closed,
}

/// Open question, with the data needed by the handler of the answer.
#[derive(Debug)]
pub(super) enum Asked {
    /// With the TLS session of a handshake completed before the greeting.
    Connect(Option<TlsSession>),
    Secured(Begins),
    Helo {
        esmtp: bool,
    },
    Mail(Transaction),
    Rcpt,
    Data,
    /// As [`PendingServerQuestion::Data`], for the first BDAT.
    Chunk(Chunk),
    /// With the default action for an answer without reply.
    Command(Result<Command, CommandError>),
    EndOfData,
    Reset(Then),
    Auth,
    /// Exchange cancelled; the host drops the exchange, and the client gets the given reply.
    AuthOver(Reply),
    /// Says whether the attributes contain a LOGIN.
    Xclient {
        login: bool,
    },
}

/// Continuation of a session after the start of TLS.
#[derive(Debug)]
pub(super) enum Begins {
    /// After STARTTLS: the client sends the next command.
    Silently,
    /// Implicit TLS: the greeting follows, with the text of the host if given.
    Greeting(Option<Reply>),
}

/// Continuation after the host has dropped a transaction.
#[derive(Debug)]
pub(super) enum Then {
    Rset,
    Helo {
        name: String,
        esmtp: bool,
    },
    /// Reads a refused message to the end.
    Skip(Incoming),
    /// Reads a refused chunk to the end.
    SkipChunk(Chunk),
}

#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) reader: DataReader,
    pub(super) ends_at: Monotonic,
}

/// Chunk behind a BDAT command.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) size: u64,
    /// Octets still to come.
    pub(super) left: u64,
    pub(super) last: bool,
    pub(super) ends_at: Monotonic,
    pub(super) fate: Fate,
}

#[derive(Debug)]
pub(super) enum Fate {
    /// The octets belong to the message.
    Taken,
    /// The octets are discarded; the given reply follows the last of them.
    Dropped(Reply),
}

/// Progress of the client through the command sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    NoHelo,
    Greeted,
    Transaction(Transaction),
    /// A chunk was refused and the host has dropped the transaction. More chunks may follow by pipelining; the LAST
    /// chunk or RSET ends the state.
    ChunksRefused {
        /// Number of replies to the last chunk: more than 1 only in LMTP.
        replies: usize,
        /// Octets of chunks so far.
        taken: u64,
    },
}

/// Transaction begun by MAIL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transaction {
    /// Number of accepted recipients.
    pub(super) accepted: usize,
    /// Number of recipients refused by the recipient limit.
    pub(super) overshoot: usize,
    /// MAIL had SMTPUTF8.
    pub(super) utf8: bool,
    /// MAIL had BODY=BINARYMIME.
    pub(super) binary: bool,
    /// MAIL had PRDR.
    pub(super) each_recipient: bool,
    /// Reader of the chunks, once BDAT was used.
    pub(super) chunks: Option<ChunkReader>,
}

/// End of the session deferred until the open question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    No,
    /// End of input from the peer: received commands are answered, then the connection closes.
    Eof,
    Shutdown,
}
