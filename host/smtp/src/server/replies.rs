//! The words of the server session's own replies. Codes: RFC 5321 §4.2.3, RFC 3463, RFC 5248.

use bytes::Bytes;
use waxwing_types::Reply;

use crate::command::{CommandError, ParameterError, Verb};
use crate::data::Refusal;

pub(super) const SENDER_OK: &[u8] = b"250 2.1.0 Ok\r\n";
pub(super) const RECIPIENT_OK: &[u8] = b"250 2.1.5 Ok\r\n";
pub(super) const OK: &[u8] = b"250 2.0.0 Ok\r\n";
pub(super) const START_DATA: &[u8] = b"354 End data with <CR><LF>.<CR><LF>\r\n";

pub(super) const VERIFY: Reply =
    Reply::fixed(252, (2, 1, 5), "Cannot verify, but will take mail for this user and try to deliver it");
pub(super) const BYE: Reply = Reply::fixed(221, (2, 0, 0), "Bye");
pub(super) const INTERNAL: Reply = Reply::fixed(451, (4, 3, 0), "Error in processing");
pub(super) const INTERNAL_CLOSING: Reply = Reply::fixed(421, (4, 3, 0), "Error in processing, closing");
pub(super) const SHUTTING_DOWN: Reply = Reply::fixed(421, (4, 3, 2), "Service shutting down, closing");
pub(super) const TIMED_OUT: Reply = Reply::fixed(421, (4, 4, 2), "Timeout, closing");
pub(super) const TOO_MANY_ERRORS: Reply = Reply::fixed(421, (4, 7, 0), "Too many errors, closing");
pub(super) const LINE_TOO_LONG: Reply = Reply::fixed(500, (5, 5, 2), "Line too long");
pub(super) const BARE_LINE_END: Reply = Reply::fixed(500, (5, 5, 2), "Lines end in <CR><LF>; bare <CR> or <LF> received");
pub(super) const HELO_FIRST: Reply = Reply::fixed(503, (5, 5, 1), "Send HELO or EHLO first");
pub(super) const NESTED_MAIL: Reply = Reply::fixed(503, (5, 5, 1), "Nested MAIL command");
pub(super) const MAIL_FIRST: Reply = Reply::fixed(503, (5, 5, 1), "Need MAIL command first");
pub(super) const NO_RECIPIENTS: Reply = Reply::fixed(554, (5, 5, 1), "No valid recipients");
pub(super) const TOO_MANY_RECIPIENTS: Reply = Reply::fixed(452, (4, 5, 3), "Too many recipients");
pub(super) const SIZE_TOO_LARGE: Reply = Reply::fixed(552, (5, 3, 4), "Message size exceeds limit");
pub(super) const RUNAWAY: Reply = Reply::fixed(552, (5, 3, 4), "Message size far exceeds limit, closing");

/// What a line that is no command gets, and whether the connection closes behind it.
pub(super) fn for_command(error: CommandError) -> (Reply, bool) {
    let reply = match error {
        CommandError::Unknown => Reply::fixed(500, (5, 5, 1), "Command not recognized"),
        CommandError::NotImplemented => Reply::fixed(502, (5, 5, 1), "Command not implemented"),
        CommandError::Chunk => Reply::fixed(502, (5, 5, 1), "BDAT not implemented, closing"),
        CommandError::OtherProtocol => Reply::fixed(500, (5, 5, 1), "This is a mail server, closing"),
        CommandError::Arguments(verb) => Reply::fixed(501, (5, 5, 4), syntax(verb)),
        CommandError::BadSender => Reply::fixed(501, (5, 1, 7), "Bad sender address syntax"),
        CommandError::BadRecipient => Reply::fixed(501, (5, 1, 3), "Bad recipient address syntax"),
        CommandError::NonAsciiAddress => Reply::fixed(553, (5, 6, 7), "Address needs SMTPUTF8, which is not offered"),
    };
    (reply, matches!(error, CommandError::Chunk | CommandError::OtherProtocol))
}

fn syntax(verb: Verb) -> &'static str {
    match verb {
        Verb::Helo => "Syntax: HELO hostname",
        Verb::Ehlo => "Syntax: EHLO hostname",
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

pub(super) fn for_parameter(error: &ParameterError) -> Reply {
    match error {
        ParameterError::Unsupported => Reply::fixed(555, (5, 5, 4), "Unsupported parameter"),
        ParameterError::BadValue => Reply::fixed(501, (5, 5, 4), "Bad parameter value"),
    }
}

pub(super) fn for_refusal(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::TooLarge => SIZE_TOO_LARGE,
        Refusal::BareLineEnd => Reply::fixed(554, (5, 6, 0), "Lines end in <CR><LF>; message with bare <CR> or <LF> refused"),
    }
}

/// The commands that we know.
pub(super) fn help() -> Reply {
    let mut text = String::from("Commands:");
    for verb in Verb::ALL {
        text.push(' ');
        text.push_str(verb.as_str());
    }
    Reply::plain(214, text)
}

/// The extensions, for EHLO (RFC 5321 §4.1.1.1). Only what is true of this session, without those that the host hides.
pub(super) fn extensions(hostname: &str, message_size_max: u64, hidden: &[String]) -> Reply {
    let size = format!("SIZE {message_size_max}");
    let mut text = hostname.to_owned();
    for line in ["PIPELINING", &size, "8BITMIME", "ENHANCEDSTATUSCODES", "HELP"] {
        let keyword = line.split(' ').next().unwrap_or(line);
        if !hidden.iter().any(|h| h == keyword) {
            text.push('\n');
            text.push_str(line);
        }
    }
    Reply::plain(250, text)
}

/// A reply as it goes over the wire. Its text may come from the host; what would break the line is replaced.
pub(super) fn wire(reply: &Reply) -> Bytes {
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
        assert_eq!(extensions("h", 9, &[]).text(), "h\nPIPELINING\nSIZE 9\n8BITMIME\nENHANCEDSTATUSCODES\nHELP");
        assert_eq!(
            extensions("h", 9, &["SIZE".to_owned(), "HELP".to_owned()]).text(),
            "h\nPIPELINING\n8BITMIME\nENHANCEDSTATUSCODES"
        );
    }
}
