//! SMTP replies of intake, and the mapping from errors of lower layers to replies.

use waxwing_queue::SpoolError;
use waxwing_smtp::server::Answer;
use waxwing_types::Reply;

pub(crate) const RELAY_DENIED: Reply = Reply::fixed(554, (5, 7, 1), "Relay access denied");
pub(crate) const USER_UNKNOWN: Reply = Reply::fixed(550, (5, 1, 1), "User unknown");
pub(crate) const LOOKUP_FAILED: Reply = Reply::fixed(451, (4, 3, 0), "Recipient can't be looked up now, try again later");
pub(crate) const BAD_ADDRESS: Reply = Reply::fixed(553, (5, 1, 3), "Address can't be completed");
pub(crate) const HEADER_TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Header is larger than this server takes");
pub(crate) const TOO_MANY_HOPS: Reply = Reply::fixed(554, (5, 4, 6), "Too many hops: the message loops");
pub(crate) const TOO_MANY_TARGETS: Reply = Reply::fixed(452, (4, 5, 3), "Aliases make too many recipients of this message");
pub(crate) const ALIAS_LOOP: Reply = Reply::fixed(554, (5, 4, 6), "Aliases loop");
pub(crate) const NO_SUCH_TARGET: Reply =
    Reply::fixed(451, (4, 3, 5), "An alias names a command or file, which this server does not deliver to");
pub(crate) const NOT_ALONG: Reply =
    Reply::fixed(451, (4, 3, 0), "Mail that comes along with this message can't be taken now, try again later");
pub(crate) const NOT_IN_TRANSACTION: Reply = Reply::fixed(451, (4, 3, 0), "Internal error, try again later");

pub(crate) const BAD_POLICY: Reply = Reply::fixed(451, (4, 3, 5), "Server configuration error");
pub(crate) const NO_AUTH: Reply = Reply::fixed(503, (5, 5, 1), "Authentication is not offered here");
pub(crate) const NO_EXCHANGE: Reply = Reply::fixed(503, (5, 5, 1), "No authentication is under way");
pub(crate) const XCLIENT_DENIED: Reply = Reply::fixed(550, (5, 7, 0), "Error: insufficient authorization");
pub(crate) const XCLIENT_SYNTAX: Reply = Reply::fixed(501, (5, 5, 4), "Bad XCLIENT attribute");

/// Returns whether the answer lets the command proceed.
pub(crate) fn is_yes(answer: &Answer) -> bool {
    match answer {
        Answer::Ok | Answer::OkWithout(_) => true,
        Answer::Reply(_)
        | Answer::Close(_)
        | Answer::Committed(_)
        | Answer::CommittedEach(_)
        | Answer::Challenge(_)
        | Answer::Authenticated
        | Answer::Discarded(_)
        | Answer::Done => false,
    }
}

/// Negative reply of the answer, if any.
pub(crate) fn refusal(answer: &Answer) -> Option<&Reply> {
    match answer {
        Answer::Reply(reply) | Answer::Close(reply) => Some(reply).filter(|reply| !reply.is_positive()),
        Answer::Ok
        | Answer::OkWithout(_)
        | Answer::Committed(_)
        | Answer::CommittedEach(_)
        | Answer::Challenge(_)
        | Answer::Authenticated
        | Answer::Discarded(_)
        | Answer::Done => None,
    }
}

/// Reply for each spool error. In all cases nothing was committed, and the client keeps responsibility for the message.
pub(crate) fn spool(error: &SpoolError) -> Reply {
    match error {
        SpoolError::Full { .. } => Reply::fixed(452, (4, 3, 1), "Insufficient system storage"),
        SpoolError::Invalid(_) | SpoolError::Conflict | SpoolError::NotFound => NOT_IN_TRANSACTION,
        SpoolError::Corrupt(_) | SpoolError::Fenced | SpoolError::Store(_) | SpoolError::Io(_) => {
            Reply::fixed(451, (4, 3, 0), "Queue can't be written, try again later")
        }
    }
}
