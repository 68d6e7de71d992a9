//! Texts of the replies made by the server session. Codes: RFC 5321 §4.2.3, RFC 3463, RFC 5248.

use bytes::Bytes;
use waxwing_types::Reply;

use super::parameters::ParameterError;
use crate::command::{CommandError, Verb};
use crate::data_reader::DataRefusal;

pub(super) const SENDER_OK: &[u8] = b"250 2.1.0 Ok\r\n";
pub(super) const RECIPIENT_OK: &[u8] = b"250 2.1.5 Ok\r\n";
pub(super) const OK: &[u8] = b"250 2.0.0 Ok\r\n";
pub(super) const START_DATA: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";

pub(super) const CANNOT_VERIFY: Reply =
    Reply::fixed(252, (2, 1, 5), "Cannot verify, but will take mail for this user and try to deliver it");
pub(super) const BYE: Reply = Reply::fixed(221, (2, 0, 0), "Bye");
pub(super) const INTERNAL: Reply = Reply::fixed(451, (4, 3, 0), "Error in processing");
pub(super) const INTERNAL_CLOSING: Reply = Reply::fixed(421, (4, 3, 0), "Error in processing, closing");
pub(super) const SHUTTING_DOWN: Reply = Reply::fixed(421, (4, 3, 2), "Service shutting down, closing");
pub(super) const TIMED_OUT: Reply = Reply::fixed(421, (4, 4, 2), "Timeout, closing");
pub(super) const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (4, 7, 0), "Too many errors, closing");
pub(super) const LINE_TOO_LONG: Reply = Reply::fixed(500, (5, 5, 2), "Line too long");
pub(super) const BARE_LINE_END: Reply = Reply::fixed(500, (5, 5, 2), "Lines end in <CR><LF>; bare <CR> or <LF> received");
pub(super) const MESSAGE_ACCEPTED: Reply = Reply::fixed(250, (2, 0, 0), "Ok");
pub(super) const NOT_IMPLEMENTED: Reply = Reply::fixed(502, (5, 5, 1), "Command not implemented");
pub(super) const IN_TRANSACTION: Reply = Reply::fixed(503, (5, 5, 1), "Not within a transaction");
// Replies to STARTTLS (RFC 3207 §4).
pub(super) const START_TLS: Reply = Reply::fixed(220, (2, 0, 0), "Ready to start TLS");
pub(super) const TLS_REQUIRED: Reply = Reply::fixed(530, (5, 7, 0), "Must issue a STARTTLS command first");
pub(super) const ALREADY_ENCRYPTED: Reply = Reply::fixed(503, (5, 5, 1), "The connection is encrypted already");
// Replies to AUTH (RFC 4954 §4, §6).
pub(super) const AUTHENTICATED: Reply = Reply::fixed(235, (2, 7, 0), "Authentication successful");
pub(super) const ALREADY_AUTHENTICATED: Reply = Reply::fixed(503, (5, 5, 1), "Authenticated already");
pub(super) const AUTH_REQUIRED: Reply = Reply::fixed(530, (5, 7, 0), "Authentication required");
pub(super) const AUTH_NEEDS_TLS: Reply = Reply::fixed(538, (5, 7, 11), "This mechanism needs an encrypted connection");
pub(super) const AUTH_TEMPORARY_FAILURE: Reply = Reply::fixed(454, (4, 7, 0), "Temporary authentication failure");
pub(super) const AUTH_CANCELLED: Reply = Reply::fixed(501, (5, 7, 0), "Authentication cancelled");
pub(super) const AUTH_LINE_TOO_LONG: Reply = Reply::fixed(500, (5, 5, 6), "Authentication line too long");
pub(super) const MECHANISM_UNKNOWN: Reply = Reply::fixed(504, (5, 5, 4), "Unrecognized authentication mechanism");
pub(super) const NOT_BASE64: Reply = Reply::fixed(501, (5, 5, 2), "Not base64");
// Replies to BDAT (RFC 3030).
pub(super) const CHUNKING_NOT_OFFERED: Reply = Reply::fixed(502, (5, 5, 1), "BDAT not implemented, closing");
pub(super) const BDAT_STARTED: Reply = Reply::fixed(503, (5, 5, 1), "The message has begun with BDAT");
pub(super) const CHUNK_REFUSED: Reply = Reply::fixed(503, (5, 5, 1), "A chunk was refused, send RSET");
pub(super) const BINARYMIME_NEEDS_BDAT: Reply = Reply::fixed(503, (5, 5, 1), "BODY=BINARYMIME needs BDAT");
// Replies of LMTP (RFC 2033).
pub(super) const LHLO_ONLY: Reply = Reply::fixed(500, (5, 5, 1), "This is LMTP, send LHLO");
pub(super) const LHLO_REQUIRED: Reply = Reply::fixed(503, (5, 5, 1), "Send LHLO first");
pub(super) const NO_RECIPIENTS_LMTP: Reply = Reply::fixed(503, (5, 5, 1), "No valid recipients");
pub(super) const HELO_REQUIRED: Reply = Reply::fixed(503, (5, 5, 1), "Send HELO or EHLO first");
pub(super) const NESTED_MAIL: Reply = Reply::fixed(503, (5, 5, 1), "Nested MAIL command");
pub(super) const MAIL_REQUIRED: Reply = Reply::fixed(503, (5, 5, 1), "Need MAIL command first");
pub(super) const NO_RECIPIENTS: Reply = Reply::fixed(554, (5, 5, 1), "No valid recipients");
pub(super) const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(452, (4, 5, 3), "Too many recipients");
pub(super) const SIZE_TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Message size exceeds limit");
pub(super) const SKIP_LIMIT_EXCEEDED: Reply = Reply::fixed(552, (5, 3, 4), "Message size far exceeds limit, closing");

/// PRDR (draft-hall-prdr): reply before the replies for each recipient. Has no enhanced code: RFC 2034 §4 defines none
/// for 3yz.
pub(super) fn prdr_intro() -> Reply {
    Reply::plain(353, "Replies for each recipient follow")
}

/// Returns the reply to an invalid command line, and whether the connection closes afterwards. `utf8`: SMTPUTF8 is
/// offered.
pub(super) fn for_command_error(error: CommandError, utf8: bool) -> (Reply, bool) {
    let reply = match error {
        CommandError::Unknown => Reply::fixed(500, (5, 5, 1), "Command not recognized"),
        CommandError::NotImplemented => NOT_IMPLEMENTED,
        CommandError::BadChunkSize => Reply::fixed(501, (5, 5, 4), "Syntax: BDAT size [LAST], closing"),
        CommandError::BadBase64 => NOT_BASE64,
        CommandError::OtherProtocol => Reply::fixed(500, (5, 5, 1), "This is a mail server, closing"),
        CommandError::BadArguments(verb) => Reply::fixed(501, (5, 5, 4), syntax(verb)),
        CommandError::BadSender => Reply::fixed(501, (5, 1, 7), "Bad sender address syntax"),
        CommandError::BadRecipient => Reply::fixed(501, (5, 1, 3), "Bad recipient address syntax"),
        CommandError::NonAsciiAddress if utf8 => Reply::fixed(553, (5, 6, 7), "Address needs the parameter SMTPUTF8"),
        CommandError::NonAsciiAddress => Reply::fixed(553, (5, 6, 7), "Address needs SMTPUTF8, which is not offered"),
    };
    (reply, matches!(error, CommandError::BadChunkSize | CommandError::OtherProtocol))
}

fn syntax(verb: Verb) -> &'static str {
    match verb {
        Verb::Helo => "Syntax: HELO hostname",
        Verb::Ehlo => "Syntax: EHLO hostname",
        Verb::Lhlo => "Syntax: LHLO hostname",
        Verb::StartTls => "Syntax: STARTTLS",
        Verb::Auth => "Syntax: AUTH mechanism [initial-response]",
        Verb::Bdat => "Syntax: BDAT size [LAST]",
        Verb::Xclient => "Syntax: XCLIENT attribute=value...",
        Verb::Mail => "Syntax: MAIL FROM:<address> [parameters]",
        Verb::Rcpt => "Syntax: RCPT TO:<address> [parameters]",
        Verb::Data => "Syntax: DATA",
        Verb::Rset => "Syntax: RSET",
        Verb::Noop => "Syntax: NOOP",
        Verb::Vrfy => "Syntax: VRFY address",
        Verb::Help => "Syntax: HELP",
        Verb::Quit => "Syntax: QUIT",
    }
}

pub(super) fn for_parameter_error(error: ParameterError) -> Reply {
    match error {
        ParameterError::Unsupported => Reply::fixed(555, (5, 5, 4), "Unsupported parameter"),
        ParameterError::BadValue => Reply::fixed(501, (5, 5, 4), "Bad parameter value"),
        ParameterError::NeedsTls => TLS_REQUIRED,
    }
}

pub(super) fn for_data_refusal(refusal: DataRefusal) -> Reply {
    match refusal {
        DataRefusal::TooLarge => SIZE_TOO_LARGE,
        DataRefusal::BareNewline => Reply::fixed(554, (5, 6, 0), "Lines end in <CR><LF>; message with bare <CR> or <LF> refused"),
    }
}

/// Reply to HELP, with the offered commands.
pub(super) fn help_reply(offered: impl Fn(Verb) -> bool) -> Reply {
    let mut text = String::from("Commands:");
    for verb in Verb::ALL.into_iter().filter(|verb| offered(*verb)) {
        text.push(' ');
        text.push_str(verb.as_str());
    }
    Reply::plain(214, text)
}

/// EHLO reply: host name and extension lines, without the keywords hidden by the host.
pub(super) fn ehlo_reply(hostname: &str, lines: &[String], hidden: &[String]) -> Reply {
    let mut text = hostname.to_owned();
    for line in lines {
        let keyword = line.split(' ').next().unwrap_or(line);
        if !hidden.iter().any(|h| h == keyword) {
            text.push('\n');
            text.push_str(line);
        }
    }
    Reply::plain(250, text)
}

/// Encodes a reply in wire format. Control characters from the host, which would break a line, are replaced.
pub(super) fn encode(reply: &Reply) -> Bytes {
    let breaks_line = |c: char| c.is_ascii_control() && c != '\n' && c != '\t';
    let mut out = Vec::with_capacity(reply.text().len() + 16);
    if reply.text().contains(breaks_line) {
        let text = reply.text().replace(breaks_line, "?");
        Reply::new(reply.code(), reply.enhanced(), text).unwrap_or(INTERNAL).write_to(&mut out);
    } else {
        reply.write_to(&mut out);
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_extensions_are_left_out() {
        let lines = ["PIPELINING", "SIZE 9", "HELP"].map(str::to_owned);
        assert_eq!(ehlo_reply("h", &lines, &[]).text(), "h\nPIPELINING\nSIZE 9\nHELP");
        assert_eq!(ehlo_reply("h", &lines, &["SIZE".to_owned(), "HELP".to_owned()]).text(), "h\nPIPELINING");
    }
}
