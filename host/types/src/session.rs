//! What every protocol session is: bytes, answers and time go in, actions come out.

use bytes::Bytes;

use crate::{Monotonic, TlsSession};

/// One side of a conversation in one protocol, without I/O, clock or randomness. The loop in `net` drives any of them.
///
/// Laws, each tested for each protocol: any chopping of the input gives the same actions; no panic on any bytes; memory
/// stays under a stated limit; one final reply for each command; nothing after [`Action::Close`]; while an
/// [`Action::Ask`] is open the session consumes no input beyond what it was given, and the loop gives it none.
pub trait Session {
    /// What the session asks its host. At most one question is open.
    type Question;
    /// What the host answers.
    type Answer;

    /// Takes one input and appends what is to be done, in order.
    fn step(&mut self, now: Monotonic, input: Input<'_, Self::Answer>, actions: &mut Vec<Action<Self::Question>>);
}

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a, A> {
    /// The connection stands; the first input of all.
    Start,
    /// Octets from the peer; never while a question is open.
    Bytes(&'a [u8]),
    /// The host's answer to the open question.
    Answer(A),
    /// The time asked for by [`Action::WakeAt`] has come.
    Tick,
    /// The handshake that [`Action::StartTls`] asked for is done: what comes from now on was encrypted. A failed handshake is
    /// an [`Input::Eof`].
    Secured(&'a TlsSession),
    /// The peer sends no more.
    Eof,
    /// The server is shutting down.
    Shutdown,
}

/// What a session wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<Q> {
    /// Octets for the peer. The loop sends them together, at the latest when it waits for anything.
    Send(Bytes),
    /// A question for the host.
    Ask(Q),
    /// A piece of a message's octets for the host, dot-stuffing undone. The host takes it before the next input comes:
    /// that is the back-pressure.
    Body(Bytes),
    /// Replaces the time at which the session wants an [`Input::Tick`].
    WakeAt(Monotonic),
    /// Send what is to be sent, then shake hands. The session gets nothing but [`Input::Secured`], [`Input::Eof`] or
    /// [`Input::Shutdown`] next. Only behind an input whose octets were all used: what a peer sent in plain text behind its
    /// STARTTLS must not count as encrypted (CVE-2011-0411).
    StartTls,
    /// Send what is to be sent, then close; nothing follows.
    Close,
}
