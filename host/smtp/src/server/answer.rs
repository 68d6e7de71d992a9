//! Answers of the host to the questions of a server session, one type for each kind of question.

use waxwing_types::Reply;

use super::{AuthStep, ServerQuestion, replies};

/// Answer of the host to a [`ServerQuestion`]. An answer of another kind than the question counts as a temporary
/// failure, and never as an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAnswer {
    /// To all questions without a kind of their own.
    Step(StepAnswer),
    /// To [`ServerQuestion::EndOfData`].
    Message(MessageAnswer),
    /// To [`ServerQuestion::Auth`], except [`AuthStep::Cancel`].
    Auth(AuthStepAnswer),
    /// To [`ServerQuestion::Reset`] and [`AuthStep::Cancel`].
    Drop(DropAnswer),
}

/// Answer to a command or to an event of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepAnswer {
    /// Accepts with the default reply of the session.
    Ok,
    /// For [`ServerQuestion::Helo`]: accepts, and leaves the extensions with the given keywords (upper case) out of the
    /// EHLO reply. For other questions the same as [`StepAnswer::Ok`].
    OkWithoutExtensions(Vec<String>),
    /// Accepts or rejects with the given reply. A code not fitting the question is replaced by the default reply.
    Reply(Reply),
    /// Rejects, and closes the connection after the reply.
    Close(Reply),
}

/// Answer to the end of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageAnswer {
    /// The message is in the queue and synced to disk.
    Committed(Reply),
    /// As [`MessageAnswer::Committed`], with PRDR or in LMTP (RFC 2033): a reply for each accepted RCPT, in order. At
    /// least one reply is positive.
    CommittedPerRecipient(Vec<Reply>),
    /// The message was discarded on purpose, with a positive reply to the client.
    Discarded(Reply),
    /// The message is rejected. A reply that is not negative is replaced by 451.
    Reject(Reply),
    /// The message is rejected, and the connection closed after the reply.
    Close(Reply),
}

/// Answer to a step of an AUTH exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthStepAnswer {
    /// Challenge for the client, not yet base64-encoded.
    Challenge(Vec<u8>),
    /// The client is authenticated.
    Authenticated,
    /// The exchange has failed. A reply that is not negative is replaced by 454.
    Reject(Reply),
    /// The exchange has failed; the connection is closed after the reply.
    Close(Reply),
}

/// Acknowledgement of a dropped transaction or AUTH exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DropAnswer {
    /// The data is dropped.
    Done,
    /// The data is dropped; the connection is closed after the reply.
    Close(Reply),
}

impl ServerQuestion {
    /// Answer that rejects with a negative reply. A transaction or AUTH exchange is dropped all the same.
    #[must_use]
    pub fn reject_with(&self, reply: Reply) -> ServerAnswer {
        match self {
            Self::Auth(AuthStep::Cancel) | Self::Reset => ServerAnswer::Drop(DropAnswer::Done),
            Self::Auth(AuthStep::Begin(..) | AuthStep::Response(_)) => ServerAnswer::Auth(AuthStepAnswer::Reject(reply)),
            Self::EndOfData => ServerAnswer::Message(MessageAnswer::Reject(reply)),
            Self::Connect | Self::Helo { .. } | Self::Mail { .. } | Self::Rcpt { .. } => {
                ServerAnswer::Step(StepAnswer::Reply(reply))
            }
            Self::Secured(_) | Self::Xclient(_) | Self::Command { .. } | Self::Data => {
                ServerAnswer::Step(StepAnswer::Reply(reply))
            }
        }
    }

    /// Answer that closes the connection after a negative reply.
    #[must_use]
    pub fn close_with(&self, reply: Reply) -> ServerAnswer {
        match self.reject_with(reply.clone()) {
            ServerAnswer::Step(_) => ServerAnswer::Step(StepAnswer::Close(reply)),
            ServerAnswer::Message(_) => ServerAnswer::Message(MessageAnswer::Close(reply)),
            ServerAnswer::Auth(_) => ServerAnswer::Auth(AuthStepAnswer::Close(reply)),
            ServerAnswer::Drop(_) => ServerAnswer::Drop(DropAnswer::Close(reply)),
        }
    }
}

/// Conversions at the open question: the only place with a mismatch of question and answer.
impl ServerAnswer {
    pub(super) fn into_step(self) -> StepAnswer {
        match self {
            Self::Step(answer) => answer,
            Self::Message(_) | Self::Auth(_) | Self::Drop(_) => StepAnswer::Reply(replies::INTERNAL),
        }
    }

    pub(super) fn into_message(self) -> MessageAnswer {
        match self {
            Self::Message(answer) => answer,
            Self::Step(_) | Self::Auth(_) | Self::Drop(_) => MessageAnswer::Reject(replies::INTERNAL),
        }
    }

    pub(super) fn into_auth(self) -> AuthStepAnswer {
        match self {
            Self::Auth(answer) => answer,
            Self::Step(_) | Self::Message(_) | Self::Drop(_) => AuthStepAnswer::Reject(replies::AUTH_TEMPORARY_FAILURE),
        }
    }

    pub(super) fn into_drop(self) -> DropAnswer {
        match self {
            Self::Drop(answer) => answer,
            Self::Step(_) | Self::Message(_) | Self::Auth(_) => DropAnswer::Done,
        }
    }
}

impl From<StepAnswer> for ServerAnswer {
    fn from(answer: StepAnswer) -> Self {
        Self::Step(answer)
    }
}

impl From<MessageAnswer> for ServerAnswer {
    fn from(answer: MessageAnswer) -> Self {
        Self::Message(answer)
    }
}

impl From<AuthStepAnswer> for ServerAnswer {
    fn from(answer: AuthStepAnswer) -> Self {
        Self::Auth(answer)
    }
}

impl From<DropAnswer> for ServerAnswer {
    fn from(answer: DropAnswer) -> Self {
        Self::Drop(answer)
    }
}
