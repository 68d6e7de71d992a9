//! SMTP commands: read by the server, printed by the client (RFC 5321 §4.1.1).

use std::fmt;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, Parameter, ReversePath};

use crate::path::{PathError, parse_parameters, split_path};

/// Octets of the name after HELO or EHLO (RFC 5321 §4.5.3.1.2).
const HELO_NAME_BYTES_MAX: usize = 255;

/// A command that the server knows. Printing one and reading it again gives the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO with the client's name.
    Helo(String),
    /// EHLO with the client's name.
    Ehlo(String),
    /// MAIL FROM.
    Mail {
        /// The reverse-path, source route taken off.
        sender: ReversePath,
        /// Its parameters, keywords in upper case.
        parameters: Vec<Parameter>,
    },
    /// RCPT TO.
    Rcpt {
        /// The forward-path, source route taken off.
        recipient: Address,
        /// Its parameters, keywords in upper case.
        parameters: Vec<Parameter>,
    },
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP; its argument is ignored.
    Noop,
    /// VRFY with a mailbox or a user name.
    Vrfy(Address),
    /// HELP; its argument is ignored.
    Help,
    /// QUIT.
    Quit,
}

/// The first word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of that name")]
pub enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

impl Verb {
    /// All of them, in the order in which HELP names them.
    pub const ALL: [Self; 10] =
        [Self::Helo, Self::Ehlo, Self::Mail, Self::Rcpt, Self::Data, Self::Rset, Self::Noop, Self::Vrfy, Self::Help, Self::Quit];

    /// As it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Helo => "HELO",
            Self::Ehlo => "EHLO",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Help => "HELP",
            Self::Quit => "QUIT",
        }
    }
}

/// Why a line is not a command that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a word of SMTP.
    #[error("not a command")]
    Unknown,
    /// A command that exists elsewhere.
    #[error("a command that is not implemented")]
    NotImplemented,
    /// BDAT (RFC 3030), which is not offered: message octets follow it, so the connection can't go on.
    #[error("BDAT, whose octets would be taken as commands")]
    Chunk,
    /// A request of another protocol.
    #[error("not a mail client")]
    OtherProtocol,
    /// The arguments are missing, too many or malformed.
    #[error("wrong arguments of {}", .0.as_str())]
    Arguments(Verb),
    /// The sender is not an address.
    #[error("not a reverse-path")]
    BadSender,
    /// The recipient is not an address.
    #[error("not a forward-path")]
    BadRecipient,
    /// An address has octets above 127, and SMTPUTF8 is not offered.
    #[error("an address that needs SMTPUTF8")]
    NonAsciiAddress,
}

impl Command {
    /// Reads a line without its CRLF.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let line = line.trim_ascii_end();
        let (word, rest) = line.split_at(memchr::memchr(b' ', line).unwrap_or(line.len()));
        let verb = find_verb(word)?;
        let argument = rest.trim_ascii_start();
        let wrong = CommandError::Arguments(verb);
        let alone = |command| if argument.is_empty() { Ok(command) } else { Err(wrong) };
        match verb {
            Verb::Helo => helo_name(argument).map(Self::Helo).ok_or(wrong),
            Verb::Ehlo => helo_name(argument).map(Self::Ehlo).ok_or(wrong),
            Verb::Mail => parse_mail(argument),
            Verb::Rcpt => parse_rcpt(argument),
            Verb::Vrfy => parse_vrfy(argument),
            Verb::Data => alone(Self::Data),
            Verb::Rset => alone(Self::Rset),
            Verb::Quit => alone(Self::Quit),
            Verb::Noop => Ok(Self::Noop),
            Verb::Help => Ok(Self::Help),
        }
    }
}

/// The word, in upper case, and what stands behind it, of a line whose answer is a matter of policy: of commands that nobody here knows,
/// and of those that servers leave to their operators. AUTH and STARTTLS are none of them, nor is what another protocol begins with.
#[must_use]
pub(crate) fn left_to_policy(line: &[u8]) -> Option<(String, Bytes)> {
    let line = line.trim_ascii_end();
    let (word, rest) = line.split_at(memchr::memchr(b' ', line).unwrap_or(line.len()));
    let never = [b"AUTH".as_slice(), b"STARTTLS"].iter().any(|w| word.eq_ignore_ascii_case(w));
    match find_verb(word) {
        Ok(Verb::Vrfy) | Err(CommandError::Unknown | CommandError::NotImplemented) if !never => {
            let verb = std::str::from_utf8(word).ok().filter(|word| word.bytes().all(|b| b.is_ascii_graphic()))?;
            Some((verb.to_ascii_uppercase(), Bytes::copy_from_slice(rest.trim_ascii_start())))
        }
        Ok(_) | Err(_) => None,
    }
}

fn find_verb(word: &[u8]) -> Result<Verb, CommandError> {
    let known = Verb::ALL.into_iter().find(|verb| word.eq_ignore_ascii_case(verb.as_str().as_bytes()));
    let is_one_of = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()));
    match known {
        Some(verb) => Ok(verb),
        None if is_one_of(&["BDAT"]) => Err(CommandError::Chunk),
        // smtpd_forbidden_commands: a browser that is led to post to us must not get to send mail.
        None if is_one_of(&["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]) => Err(CommandError::OtherProtocol),
        None if is_one_of(&["ATRN", "AUTH", "ETRN", "EXPN", "SAML", "SEND", "SOML", "STARTTLS", "TURN"]) => {
            Err(CommandError::NotImplemented)
        }
        None => Err(CommandError::Unknown),
    }
}

fn helo_name(argument: &[u8]) -> Option<String> {
    let ok = (1..=HELO_NAME_BYTES_MAX).contains(&argument.len()) && argument.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(argument).ok().filter(|_| ok).map(str::to_owned)
}

/// What follows `FROM:` or `TO:`; white space there is no syntax of RFC 5321, but common.
fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_ascii_start())
}

fn parse_mail(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::Arguments(Verb::Mail);
    let path = after_keyword(argument, b"FROM:").ok_or(wrong)?;
    let (sender, rest) = split_path(path).map_err(|e| path_error(e, wrong, CommandError::BadSender))?;
    let parameters = parse_parameters(rest).ok_or(wrong)?;
    Ok(Command::Mail { sender: sender.map_or(ReversePath::Null, ReversePath::Of), parameters })
}

fn parse_rcpt(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::Arguments(Verb::Rcpt);
    let path = after_keyword(argument, b"TO:").ok_or(wrong)?;
    let (recipient, rest) = split_path(path).map_err(|e| path_error(e, wrong, CommandError::BadRecipient))?;
    let recipient = recipient.ok_or(CommandError::BadRecipient)?;
    Ok(Command::Rcpt { recipient, parameters: parse_parameters(rest).ok_or(wrong)? })
}

fn parse_vrfy(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::Arguments(Verb::Vrfy);
    match split_path(argument).map_err(|e| path_error(e, wrong, CommandError::BadRecipient))? {
        (Some(address), "") => Ok(Command::Vrfy(address)),
        (None, _) | (Some(_), _) => Err(wrong),
    }
}

fn path_error(error: PathError, brackets: CommandError, address: CommandError) -> CommandError {
    match error {
        PathError::Brackets => brackets,
        PathError::NonAscii => CommandError::NonAsciiAddress,
        PathError::Address(_) | PathError::Route => address,
    }
}

impl fmt::Display for Command {
    /// Without CRLF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Mail { sender, parameters } => {
                write!(f, "MAIL FROM:<{sender}>")?;
                print_parameters(f, parameters)
            }
            Self::Rcpt { recipient, parameters } => {
                write!(f, "RCPT TO:<{recipient}>")?;
                print_parameters(f, parameters)
            }
            Self::Vrfy(address) => write!(f, "VRFY {address}"),
            Self::Data => f.write_str(Verb::Data.as_str()),
            Self::Rset => f.write_str(Verb::Rset.as_str()),
            Self::Noop => f.write_str(Verb::Noop.as_str()),
            Self::Help => f.write_str(Verb::Help.as_str()),
            Self::Quit => f.write_str(Verb::Quit.as_str()),
        }
    }
}

fn print_parameters(f: &mut fmt::Formatter<'_>, parameters: &[Parameter]) -> fmt::Result {
    for (keyword, value) in parameters {
        write!(f, " {keyword}")?;
        if let Some(value) = value {
            write!(f, "={value}")?;
        }
    }
    Ok(())
}

/// The parameters of MAIL that we offer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MailParameters {
    pub(crate) size: Option<u64>,
    pub(crate) body: BodyType,
}

/// Why a parameter is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ParameterError {
    /// We did not offer it.
    Unsupported,
    /// Offered, but not with this value.
    BadValue,
}

/// Reads SIZE (RFC 1870) and BODY (RFC 6152).
pub(crate) fn mail_parameters(parameters: &[Parameter]) -> Result<MailParameters, ParameterError> {
    let mut found = MailParameters { size: None, body: BodyType::SevenBit };
    for (keyword, value) in parameters {
        let value = value.as_deref().unwrap_or_default();
        match keyword.as_str() {
            "SIZE" => found.size = Some(read_size(value).ok_or(ParameterError::BadValue)?),
            "BODY" if value.eq_ignore_ascii_case("8BITMIME") => found.body = BodyType::EightBitMime,
            "BODY" if value.eq_ignore_ascii_case("7BIT") => found.body = BodyType::SevenBit,
            "BODY" => return Err(ParameterError::BadValue),
            _ => return Err(ParameterError::Unsupported),
        }
    }
    Ok(found)
}

/// One to twenty digits (RFC 1870 §4); a number beyond 64 bits is beyond every limit.
fn read_size(value: &str) -> Option<u64> {
    let ok = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    ok.then(|| value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_commands_in_any_case_and_with_trailing_space() {
        assert_eq!(Command::parse(b"helo  x.example \t"), Ok(Command::Helo("x.example".to_owned())));
        assert_eq!(Command::parse(b"Noop what ever"), Ok(Command::Noop));
        assert_eq!(Command::parse(b"mail from: <>"), Ok(Command::Mail { sender: ReversePath::Null, parameters: Vec::new() }));
    }

    #[test]
    fn tells_errors_apart() {
        for (line, error) in [
            ("", CommandError::Unknown),
            ("FOO", CommandError::Unknown),
            ("EXPN x", CommandError::NotImplemented),
            ("BDAT 10", CommandError::Chunk),
            ("GET / HTTP/1.1", CommandError::OtherProtocol),
            ("HELO", CommandError::Arguments(Verb::Helo)),
            ("EHLO a b", CommandError::Arguments(Verb::Ehlo)),
            ("DATA x", CommandError::Arguments(Verb::Data)),
            ("MAIL <a@b>", CommandError::Arguments(Verb::Mail)),
            ("MAIL FROM:<a@b> =", CommandError::Arguments(Verb::Mail)),
            ("MAIL FROM:<a..b@c>", CommandError::BadSender),
            ("RCPT TO:<>", CommandError::BadRecipient),
            ("RCPT TO:<\u{e4}@c>", CommandError::NonAsciiAddress),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(error), "{line}");
        }
    }

    #[test]
    fn reads_size_and_body() {
        let read = |text: &str| mail_parameters(&parse_parameters(text).unwrap());
        assert_eq!(read(" SIZE=5 body=8bitmime"), Ok(MailParameters { size: Some(5), body: BodyType::EightBitMime }));
        assert_eq!(read(" SIZE=99999999999999999999").unwrap().size, Some(u64::MAX));
        assert_eq!(read(" SIZE"), Err(ParameterError::BadValue));
        assert_eq!(read(" SIZE=-1"), Err(ParameterError::BadValue));
        assert_eq!(read(" BODY=BINARYMIME"), Err(ParameterError::BadValue));
        assert_eq!(read(" SMTPUTF8"), Err(ParameterError::Unsupported));
    }
}
