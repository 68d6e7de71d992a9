//! SMTP replies of intake, and the mapping from errors of lower layers to replies.

use waxwing_smtp::server::{MessageAnswer, StepAnswer};
use waxwing_spool::SpoolError;
use waxwing_types::Reply;

pub(crate) const RELAY_DENIED: Reply = Reply::fixed(554, (5, 7, 1), "Relay access denied");
pub(crate) const USER_UNKNOWN: Reply = Reply::fixed(550, (5, 1, 1), "User unknown");
pub(crate) const LOOKUP_FAILED: Reply = Reply::fixed(451, (4, 3, 0), "Recipient can't be looked up now, try again later");
pub(crate) const BAD_ADDRESS: Reply = Reply::fixed(553, (5, 1, 3), "Address can't be completed");
pub(crate) const HEADER_TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Header is larger than this server takes");
pub(crate) const TOO_MANY_HOPS: Reply = Reply::fixed(554, (5, 4, 6), "Too many hops: the message loops");
pub(crate) const TOO_MANY_ALIAS_TARGETS: Reply = Reply::fixed(452, (4, 5, 3), "Aliases make too many recipients of this message");
pub(crate) const ALIAS_LOOP: Reply = Reply::fixed(554, (5, 4, 6), "Aliases loop");
pub(crate) const UNSUPPORTED_ALIAS_TARGET: Reply =
    Reply::fixed(451, (4, 3, 5), "An alias names a command or file, which this server does not deliver to");
pub(crate) const SUBMISSION_UNAVAILABLE: Reply =
    Reply::fixed(451, (4, 3, 0), "Mail that comes along with this message can't be taken now, try again later");
pub(crate) const INTERNAL_ERROR: Reply = Reply::fixed(451, (4, 3, 0), "Internal error, try again later");

pub(crate) const CONFIGURATION_ERROR: Reply = Reply::fixed(451, (4, 3, 5), "Server configuration error");
pub(crate) const NO_AUTH: Reply = Reply::fixed(503, (5, 5, 1), "Authentication is not offered here");
pub(crate) const NO_AUTH_EXCHANGE: Reply = Reply::fixed(503, (5, 5, 1), "No authentication is under way");
pub(crate) const XCLIENT_DENIED: Reply = Reply::fixed(550, (5, 7, 0), "Error: insufficient authorization");
pub(crate) const XCLIENT_SYNTAX: Reply = Reply::fixed(501, (5, 5, 4), "Bad XCLIENT attribute");

/// Returns whether the answer lets the command proceed.
pub(crate) fn is_acceptance(answer: &StepAnswer) -> bool {
    match answer {
        StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_) => true,
        StepAnswer::Reply(_) | StepAnswer::Close(_) => false,
    }
}

/// Negative reply of the answer, if any.
pub(crate) fn negative_reply(answer: &StepAnswer) -> Option<&Reply> {
    match answer {
        StepAnswer::Reply(reply) | StepAnswer::Close(reply) => Some(reply).filter(|reply| !reply.is_positive()),
        StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_) => None,
    }
}

/// Refusal of the whole message by the answer to an earlier step, if the answer is a refusal.
pub(crate) fn message_refusal(answer: StepAnswer) -> Option<MessageAnswer> {
    match answer {
        StepAnswer::Ok | StepAnswer::OkWithoutExtensions(_) => None,
        StepAnswer::Reply(reply) => Some(MessageAnswer::Reject(reply)),
        StepAnswer::Close(reply) => Some(MessageAnswer::Close(reply)),
    }
}

/// Reply for each spool error. In all cases nothing was committed, and the client keeps responsibility for the message.
pub(crate) fn reply_for_spool_error(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full { .. } => Reply::fixed(452, (4, 3, 1), "Insufficient system storage"),
        SpoolError::Invalid(_) | SpoolError::Conflict | SpoolError::NotFound => INTERNAL_ERROR,
        SpoolError::Corrupt(_) | SpoolError::Fenced | SpoolError::Unavailable { .. } | SpoolError::Io(_) => {
            Reply::fixed(451, (4, 3, 0), "Queue can't be written, try again later")
        }
    }
}
