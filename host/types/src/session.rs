//! Trait of protocol sessions: bytes, answers and time go in, actions come out.

use bytes::Bytes;

use crate::{Monotonic, TlsSession};

/// Side of a protocol dialogue, without I/O, clock or randomness. The loop in `net` drives all sessions.
///
/// Laws, each tested for each protocol: any splitting of the input gives the same actions; no panic on any input; bounded
/// memory with a stated limit; exactly one final reply per command; nothing after [`Action::Close`]; while an
/// [`Action::Ask`] is open the session consumes no input beyond the input already passed, and the loop passes none.
pub trait Session {
    /// Question of the session to its handler. At most one question is open.
    type Question;
    /// Answer of the handler.
    type Answer;

    /// Processes an input and appends the resulting actions, in order.
    fn step(&mut self, now: Monotonic, input: Input<'_, Self::Answer>, actions: &mut Vec<Action<Self::Question>>);
}

/// Input of a session.
#[derive(Debug)]
pub enum Input<'a, A> {
    /// Connection established; always the first input.
    Start,
    /// Octets from the peer; never while a question is open.
    Bytes(&'a [u8]),
    /// Answer of the handler to the open question.
    Answer(A),
    /// Time requested by [`Action::WakeAt`] has come.
    Tick,
    /// Handshake requested by [`Action::StartTls`] is complete: all further input was encrypted. A failed handshake is an
    /// [`Input::Eof`].
    Secured(&'a TlsSession),
    /// End of the peer's input.
    Eof,
    /// Shutdown of the server.
    Shutdown,
}

/// Action requested by a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<Q> {
    /// Octets for the peer. The loop sends them together, at the latest before any wait.
    Send(Bytes),
    /// Question for the handler.
    Ask(Q),
    /// Piece of a message's octets for the handler, dot-stuffing removed. The handler takes the piece before the next
    /// input, as back-pressure.
    Body(Bytes),
    /// Replaces the time of the next [`Input::Tick`].
    WakeAt(Monotonic),
    /// Sends pending output, then starts the TLS handshake. The next input is [`Input::Secured`], [`Input::Eof`] or
    /// [`Input::Shutdown`]. Allowed only after all input octets are consumed: plain text sent by the peer behind STARTTLS
    /// must not count as encrypted (CVE-2011-0411).
    StartTls,
    /// Sends pending output, then closes the connection; no action follows.
    Close,
}
