//! States of a server session.

use waxwing_types::{Monotonic, Reply, TlsSession};

use crate::bdat_reader::BdatReader;
use crate::command::{Command, CommandError};
use crate::data_reader::DataReader;

#[derive(Debug)]
pub(super) enum ServerState {
    /// Before the first input, [`waxwing_types::Input::Start`].
    New,
    /// A question is open.
    AwaitingAnswer(PendingServerQuestion),
    /// Reading command lines.
    Command,
    /// Reading a message after DATA.
    Data(IncomingMessage),
    /// Reading the octets behind BDAT.
    Chunk(BdatChunk),
    /// Reading the next client response of an AUTH exchange.
    AuthExchange,
    /// TLS handshake in the session loop.
    Handshake,
    /// Connection closed; no further input or output.
    Closed,
}

/// Open question, with the data needed by the handler of the answer.
#[derive(Debug)]
pub(super) enum PendingServerQuestion {
    /// With the TLS session of a handshake completed before the greeting.
    Connect(Option<TlsSession>),
    Secured(TlsStart),
    Helo {
        esmtp: bool,
    },
    Mail(ServerTransaction),
    Rcpt,
    Data,
    /// As [`PendingServerQuestion::Data`], for the first BDAT.
    Chunk(BdatChunk),
    /// With the default action for an answer without reply.
    Command(Result<Command, CommandError>),
    EndOfData,
    Reset(AfterReset),
    Auth,
    /// Exchange cancelled; the host drops the exchange, and the client gets the given reply.
    AuthCancelled(Reply),
    /// Says whether the attributes contain a LOGIN.
    Xclient {
        login: bool,
    },
}

/// Continuation of a session after the start of TLS.
#[derive(Debug)]
pub(super) enum TlsStart {
    /// After STARTTLS: the client sends the next command.
    StartTls,
    /// Implicit TLS: the greeting follows, with the text of the host if given.
    Implicit(Option<Reply>),
}

/// Continuation after the host has dropped a transaction.
#[derive(Debug)]
pub(super) enum AfterReset {
    Rset,
    Helo {
        name: String,
        esmtp: bool,
    },
    /// Reads a refused message to the end.
    SkipMessage(IncomingMessage),
    /// Reads a refused chunk to the end.
    SkipChunk(BdatChunk),
}

#[derive(Debug)]
pub(super) struct IncomingMessage {
    pub(super) reader: DataReader,
    pub(super) ends_at: Monotonic,
}

/// Chunk behind a BDAT command.
#[derive(Debug)]
pub(super) struct BdatChunk {
    pub(super) size: u64,
    /// Octets still to come.
    pub(super) remaining: u64,
    pub(super) last: bool,
    pub(super) ends_at: Monotonic,
    pub(super) action: ChunkAction,
}

#[derive(Debug)]
pub(super) enum ChunkAction {
    /// The octets belong to the message.
    Accept,
    /// The octets are discarded; the given reply follows the last of them.
    Discard(Reply),
}

/// Progress of the client through the command sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionProgress {
    NoHelo,
    Greeted,
    Transaction(ServerTransaction),
    /// A chunk was refused and the host has dropped the transaction. More chunks may follow by pipelining; the LAST
    /// chunk or RSET ends the state.
    ChunksRefused {
        /// Number of replies to the last chunk: more than 1 only in LMTP.
        replies: usize,
        /// Octets of chunks so far.
        octets: u64,
    },
}

/// Transaction begun by MAIL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerTransaction {
    /// Number of accepted recipients.
    pub(super) accepted: usize,
    /// Number of recipients refused by the recipient limit.
    pub(super) overshoot: usize,
    /// MAIL had SMTPUTF8.
    pub(super) smtputf8: bool,
    /// MAIL had BODY=BINARYMIME.
    pub(super) binary: bool,
    /// MAIL had PRDR.
    pub(super) prdr: bool,
    /// Reader of the chunks, once BDAT was used.
    pub(super) bdat_reader: Option<BdatReader>,
}

/// End of the session deferred until the open question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingEnd {
    None,
    /// End of input from the peer: received commands are answered, then the connection closes.
    Eof,
    Shutdown,
}
