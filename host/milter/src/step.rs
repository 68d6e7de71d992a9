//! Protocol steps of a session and a message.

use crate::codec::{Stage, Steps};

/// A step of the milter protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    Header,
    EndOfHeader,
    Body,
    EndOfBody,
}

impl Step {
    /// Returns the name of the step for errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "at CONNECT",
            Self::Helo => "at HELO",
            Self::Mail => "at MAIL",
            Self::Rcpt => "at RCPT",
            Self::Data => "at DATA",
            Self::Header => "at a header field",
            Self::EndOfHeader => "at the end of the header",
            Self::Body => "at a piece of the body",
            Self::EndOfBody => "at the end of the message",
        }
    }

    /// Returns whether the milter has opted out of the step.
    pub(crate) fn is_unwanted(self, version: u32, steps: Steps) -> bool {
        match self {
            Self::Connect => steps.has(Steps::NO_CONNECT),
            Self::Helo => steps.has(Steps::NO_HELO),
            Self::Mail => steps.has(Steps::NO_MAIL),
            Self::Rcpt => steps.has(Steps::NO_RCPT),
            // DATA exists since version 4.
            Self::Data => version < 4 || steps.has(Steps::NO_DATA),
            Self::Header => steps.has(Steps::NO_HEADERS),
            Self::EndOfHeader => steps.has(Steps::NO_END_OF_HEADER),
            Self::Body => steps.has(Steps::NO_BODY),
            Self::EndOfBody => false,
        }
    }

    /// Returns whether the milter sends no reply to the step.
    pub(crate) fn is_unanswered(self, steps: Steps) -> bool {
        match self {
            Self::Connect => steps.has(Steps::NO_REPLY_CONNECT),
            Self::Helo => steps.has(Steps::NO_REPLY_HELO),
            Self::Mail => steps.has(Steps::NO_REPLY_MAIL),
            Self::Rcpt => steps.has(Steps::NO_REPLY_RCPT),
            Self::Data => steps.has(Steps::NO_REPLY_DATA),
            Self::Header => steps.has(Steps::NO_REPLY_HEADER),
            Self::EndOfHeader => steps.has(Steps::NO_REPLY_END_OF_HEADER),
            Self::Body => steps.has(Steps::NO_REPLY_BODY),
            Self::EndOfBody => false,
        }
    }

    /// Returns the stage whose macros precede the step.
    pub(crate) fn stage(self) -> Option<Stage> {
        match self {
            Self::Connect => Some(Stage::Connect),
            Self::Helo => Some(Stage::Helo),
            Self::Mail => Some(Stage::Mail),
            Self::Rcpt => Some(Stage::Rcpt),
            Self::Data => Some(Stage::Data),
            Self::EndOfHeader => Some(Stage::EndOfHeader),
            Self::EndOfBody => Some(Stage::EndOfMessage),
            Self::Header | Self::Body => None,
        }
    }

    /// Returns whether the step belongs to the session instead of a message.
    pub(crate) fn is_of_session(self) -> bool {
        matches!(self, Self::Connect | Self::Helo)
    }
}
