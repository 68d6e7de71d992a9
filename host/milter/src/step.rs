//! Protocol steps of a session and a message.

use crate::codec::{MacroStage, ProtocolFlags};

/// A step of the milter protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolStep {
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

impl ProtocolStep {
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
    pub(crate) fn is_omitted(self, version: u32, steps: ProtocolFlags) -> bool {
        match self {
            Self::Connect => steps.has(ProtocolFlags::NO_CONNECT),
            Self::Helo => steps.has(ProtocolFlags::NO_HELO),
            Self::Mail => steps.has(ProtocolFlags::NO_MAIL),
            Self::Rcpt => steps.has(ProtocolFlags::NO_RCPT),
            // DATA exists since version 4.
            Self::Data => version < 4 || steps.has(ProtocolFlags::NO_DATA),
            Self::Header => steps.has(ProtocolFlags::NO_HEADERS),
            Self::EndOfHeader => steps.has(ProtocolFlags::NO_END_OF_HEADER),
            Self::Body => steps.has(ProtocolFlags::NO_BODY),
            Self::EndOfBody => false,
        }
    }

    /// Returns whether the milter sends no reply to the step.
    pub(crate) fn has_no_reply(self, steps: ProtocolFlags) -> bool {
        match self {
            Self::Connect => steps.has(ProtocolFlags::NO_REPLY_CONNECT),
            Self::Helo => steps.has(ProtocolFlags::NO_REPLY_HELO),
            Self::Mail => steps.has(ProtocolFlags::NO_REPLY_MAIL),
            Self::Rcpt => steps.has(ProtocolFlags::NO_REPLY_RCPT),
            Self::Data => steps.has(ProtocolFlags::NO_REPLY_DATA),
            Self::Header => steps.has(ProtocolFlags::NO_REPLY_HEADER),
            Self::EndOfHeader => steps.has(ProtocolFlags::NO_REPLY_END_OF_HEADER),
            Self::Body => steps.has(ProtocolFlags::NO_REPLY_BODY),
            Self::EndOfBody => false,
        }
    }

    /// Returns the stage whose macros precede the step.
    pub(crate) fn macro_stage(self) -> Option<MacroStage> {
        match self {
            Self::Connect => Some(MacroStage::Connect),
            Self::Helo => Some(MacroStage::Helo),
            Self::Mail => Some(MacroStage::Mail),
            Self::Rcpt => Some(MacroStage::Rcpt),
            Self::Data => Some(MacroStage::Data),
            Self::EndOfHeader => Some(MacroStage::EndOfHeader),
            Self::EndOfBody => Some(MacroStage::EndOfMessage),
            Self::Header | Self::Body => None,
        }
    }

    /// Returns whether the step belongs to the session instead of a message.
    pub(crate) fn is_session_step(self) -> bool {
        matches!(self, Self::Connect | Self::Helo)
    }
}
