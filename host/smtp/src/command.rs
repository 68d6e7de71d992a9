//! SMTP commands: parsed by the server, written by the client (RFC 5321 §4.1.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use waxwing_types::{Address, Parameter, ReversePath};

use crate::path::{PathSyntaxError, parse_parameters, split_path};
use crate::xtext;

/// Maximum length in octets of the name after HELO or EHLO (RFC 5321 §4.5.3.1.2).
const HELO_NAME_BYTES_MAX: usize = 255;
/// Maximum length in octets of the name of a SASL mechanism (RFC 4422 §3.1).
const MECHANISM_BYTES_MAX: usize = 20;
/// Maximum length in octets of an XCLIENT value after xtext decoding (XCLIENT_README, "The XCLIENT protocol").
const XCLIENT_VALUE_BYTES_MAX: usize = 255;
/// Attribute names allowed in XCLIENT.
pub(crate) const XCLIENT_ATTRIBUTES: [&str; 8] = ["NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"];

/// Parsed SMTP command. Writing a command and parsing the result gives the same command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// HELO with the client's name.
    Helo(String),
    /// EHLO with the client's name.
    Ehlo(String),
    /// LHLO with the client's name (RFC 2033 §4.1).
    Lhlo(String),
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// Name of the SASL mechanism, in upper case.
        mechanism: String,
        /// Initial response, if the client sent one.
        initial: Option<SaslResponse>,
    },
    /// MAIL FROM (RFC 5321 §4.1.1.2).
    Mail {
        /// Reverse-path without source route.
        sender: ReversePath,
        /// Parameters of the command, keywords in upper case.
        parameters: Vec<Parameter>,
    },
    /// RCPT TO (RFC 5321 §4.1.1.3).
    Rcpt {
        /// Forward-path without source route.
        recipient: Address,
        /// Parameters of the command, keywords in upper case.
        parameters: Vec<Parameter>,
    },
    /// DATA (RFC 5321 §4.1.1.4).
    Data,
    /// BDAT; the octets of the chunk follow the line (RFC 3030 §2).
    Bdat {
        /// Number of octets in the chunk.
        size: u64,
        /// LAST was given: the message ends with the chunk.
        last: bool,
    },
    /// RSET (RFC 5321 §4.1.1.5).
    Rset,
    /// NOOP; the argument is ignored.
    Noop,
    /// VRFY with a mailbox or a user name.
    Vrfy(Address),
    /// HELP; the argument is ignored.
    Help,
    /// XCLIENT (Postfix XCLIENT_README): attribute names in upper case, values xtext-decoded. A value of `None` is
    /// unknown to the proxy.
    Xclient(Vec<(String, Option<String>)>),
    /// QUIT (RFC 5321 §4.1.1.10).
    Quit,
}

/// Client response of an AUTH exchange, base64-decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslResponse(pub Vec<u8>);

impl fmt::Debug for SaslResponse {
    /// Omits the secret octets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response")
    }
}

impl SaslResponse {
    /// Decodes base64; `None` if the text is not base64.
    pub(crate) fn from_base64(text: &[u8]) -> Option<Self> {
        BASE64.decode(text).ok().map(Self)
    }
}

/// Verb: the first word of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of that name")]
pub enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Help,
    Xclient,
    Quit,
}

impl Verb {
    /// All verbs, in the order of the HELP reply.
    pub const ALL: [Self; 15] = [
        Self::Helo,
        Self::Ehlo,
        Self::Lhlo,
        Self::StartTls,
        Self::Auth,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Rset,
        Self::Noop,
        Self::Vrfy,
        Self::Help,
        Self::Xclient,
        Self::Quit,
    ];

    /// Returns the verb as written in a command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Helo => "HELO",
            Self::Ehlo => "EHLO",
            Self::Lhlo => "LHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::Bdat => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Help => "HELP",
            Self::Xclient => "XCLIENT",
            Self::Quit => "QUIT",
        }
    }
}

/// Reason for rejecting a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Verb unknown to SMTP.
    #[error("not a command")]
    Unknown,
    /// SMTP command known from RFCs but not implemented here.
    #[error("a command that is not implemented")]
    NotImplemented,
    /// BDAT without a valid size: an unknown number of message octets follows, so the connection must close.
    #[error("BDAT without a valid size")]
    BadChunkSize,
    /// The initial response of AUTH is not base64.
    #[error("not base64")]
    BadBase64,
    /// First line of another protocol, such as HTTP.
    #[error("not a mail client")]
    OtherProtocol,
    /// Arguments missing, malformed, or too many.
    #[error("wrong arguments of {}", .0.as_str())]
    BadArguments(Verb),
    /// MAIL FROM without a valid reverse-path.
    #[error("not a reverse-path")]
    BadSender,
    /// RCPT TO or VRFY without a valid address.
    #[error("not a forward-path")]
    BadRecipient,
    /// Address with octets above 127 in a command without SMTPUTF8.
    #[error("an address that needs SMTPUTF8")]
    NonAsciiAddress,
}

impl Command {
    /// Parses a line without CRLF, outside a transaction with SMTPUTF8.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        Self::parse_with_utf8(line, false)
    }

    /// Parses a line without CRLF. `utf8` says whether MAIL had the parameter SMTPUTF8, so that RCPT may have an
    /// address beyond ASCII. MAIL and VRFY carry the parameter themselves (RFC 6531 §3.4, §3.7.4.2).
    pub fn parse_with_utf8(line: &[u8], utf8: bool) -> Result<Self, CommandError> {
        let line = line.trim_ascii_end();
        let (word, rest) = line.split_at(memchr::memchr(b' ', line).unwrap_or(line.len()));
        let verb = parse_verb(word)?;
        let argument = rest.trim_ascii_start();
        let wrong = CommandError::BadArguments(verb);
        let alone = |command| if argument.is_empty() { Ok(command) } else { Err(wrong) };
        match verb {
            Verb::Helo => parse_helo_name(argument).map(Self::Helo).ok_or(wrong),
            Verb::Ehlo => parse_helo_name(argument).map(Self::Ehlo).ok_or(wrong),
            Verb::Lhlo => parse_helo_name(argument).map(Self::Lhlo).ok_or(wrong),
            Verb::StartTls => alone(Self::StartTls),
            Verb::Auth => parse_auth(argument),
            Verb::Mail => parse_mail(argument),
            Verb::Rcpt => parse_rcpt(argument, utf8),
            Verb::Vrfy => parse_vrfy(argument),
            Verb::Bdat => parse_bdat(argument).ok_or(CommandError::BadChunkSize),
            Verb::Xclient => parse_xclient(argument).map(Self::Xclient).ok_or(wrong),
            Verb::Data => alone(Self::Data),
            Verb::Rset => alone(Self::Rset),
            Verb::Quit => alone(Self::Quit),
            Verb::Noop => Ok(Self::Noop),
            Verb::Help => Ok(Self::Help),
        }
    }
}

/// Splits a line into verb (in upper case) and argument if the reply is a matter of policy: for verbs unknown here and
/// for commands left to the operator, such as VRFY. `None` for all other commands, AUTH and STARTTLS included, and for
/// the first line of another protocol. `known` says whether the listener supports a verb.
#[must_use]
pub(crate) fn as_policy_command(line: &[u8], known: impl Fn(Verb) -> bool) -> Option<(String, Bytes)> {
    let line = line.trim_ascii_end();
    let (word, rest) = line.split_at(memchr::memchr(b' ', line).unwrap_or(line.len()));
    match parse_verb(word) {
        Ok(verb) if verb != Verb::Vrfy && known(verb) => None,
        Ok(_) | Err(CommandError::Unknown | CommandError::NotImplemented) => {
            let verb = std::str::from_utf8(word).ok().filter(|word| word.bytes().all(|b| b.is_ascii_graphic()))?;
            Some((verb.to_ascii_uppercase(), Bytes::copy_from_slice(rest.trim_ascii_start())))
        }
        Err(_) => None,
    }
}

/// Finds the verb of the first word of a line.
pub(crate) fn parse_verb(word: &[u8]) -> Result<Verb, CommandError> {
    let known = Verb::ALL.into_iter().find(|verb| word.eq_ignore_ascii_case(verb.as_str().as_bytes()));
    let is_one_of = |words: &[&str]| words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()));
    match known {
        Some(verb) => Ok(verb),
        // smtpd_forbidden_commands: a browser tricked into posting to an SMTP port must not get to send mail.
        None if is_one_of(&["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT"]) => Err(CommandError::OtherProtocol),
        // ETRN too: 458 and 459 come from a server with ETRN support (RFC 1985 §4), and would make the client retry.
        None if is_one_of(&["ATRN", "ETRN", "EXPN", "SAML", "SEND", "SOML", "TURN"]) => Err(CommandError::NotImplemented),
        None => Err(CommandError::Unknown),
    }
}

fn parse_helo_name(argument: &[u8]) -> Option<String> {
    let ok = (1..=HELO_NAME_BYTES_MAX).contains(&argument.len()) && argument.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(argument).ok().filter(|_| ok).map(str::to_owned)
}

/// Returns the rest behind `FROM:` or `TO:`. White space there is not in the syntax of RFC 5321, but common.
fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (prefix, rest) = argument.split_at_checked(keyword.len())?;
    prefix.eq_ignore_ascii_case(keyword).then(|| rest.trim_ascii_start())
}

fn parse_mail(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::BadArguments(Verb::Mail);
    let path = after_keyword(argument, b"FROM:").ok_or(wrong)?;
    let (sender, rest, utf8) = split_path(path).map_err(|e| map_path_error(e, wrong, CommandError::BadSender))?;
    let parameters = parse_parameters(rest).ok_or(wrong)?;
    if utf8 && !parameters.iter().any(|(keyword, _)| keyword == "SMTPUTF8") {
        return Err(CommandError::NonAsciiAddress);
    }
    Ok(Command::Mail { sender: sender.map_or(ReversePath::Null, ReversePath::Address), parameters })
}

fn parse_rcpt(argument: &[u8], smtputf8: bool) -> Result<Command, CommandError> {
    let wrong = CommandError::BadArguments(Verb::Rcpt);
    let path = after_keyword(argument, b"TO:").ok_or(wrong)?;
    let (recipient, rest, utf8) = split_path(path).map_err(|e| map_path_error(e, wrong, CommandError::BadRecipient))?;
    if utf8 && !smtputf8 {
        return Err(CommandError::NonAsciiAddress);
    }
    let recipient = recipient.ok_or(CommandError::BadRecipient)?;
    Ok(Command::Rcpt { recipient, parameters: parse_parameters(rest).ok_or(wrong)? })
}

fn parse_vrfy(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::BadArguments(Verb::Vrfy);
    let (address, rest, utf8) = split_path(argument).map_err(|e| map_path_error(e, wrong, CommandError::BadRecipient))?;
    match (address, rest.trim()) {
        (Some(_), "") if utf8 => Err(CommandError::NonAsciiAddress),
        (Some(address), "") => Ok(Command::Vrfy(address)),
        (Some(address), word) if word.eq_ignore_ascii_case("SMTPUTF8") => Ok(Command::Vrfy(address)),
        (None | Some(_), _) => Err(wrong),
    }
}

/// Parses `mechanism [initial-response]`; `=` is a response of no octets (RFC 4954 §4).
fn parse_auth(argument: &[u8]) -> Result<Command, CommandError> {
    let wrong = CommandError::BadArguments(Verb::Auth);
    let (mechanism, rest) = argument.split_at(memchr::memchr(b' ', argument).unwrap_or(argument.len()));
    let name_ok = (1..=MECHANISM_BYTES_MAX).contains(&mechanism.len())
        && mechanism.iter().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(b));
    let mechanism = std::str::from_utf8(mechanism).ok().filter(|_| name_ok).ok_or(wrong)?.to_ascii_uppercase();
    let initial = match rest.trim_ascii() {
        b"" => None,
        b"=" => Some(SaslResponse(Vec::new())),
        text => Some(SaslResponse::from_base64(text).ok_or(CommandError::BadBase64)?),
    };
    Ok(Command::Auth { mechanism, initial })
}

/// Parses `size [LAST]` (RFC 3030 §2); a size beyond 64 bits is an error.
fn parse_bdat(argument: &[u8]) -> Option<Command> {
    let mut words = std::str::from_utf8(argument).ok()?.split(' ').filter(|word| !word.is_empty());
    let size = words.next().filter(|word| word.len() <= 20 && word.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Command::Bdat { size, last })
}

/// Parses a list of `NAME=xtext`, each name at most once.
fn parse_xclient(argument: &[u8]) -> Option<Vec<(String, Option<String>)>> {
    let mut attributes: Vec<(String, Option<String>)> = Vec::new();
    for word in std::str::from_utf8(argument).ok()?.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=')?;
        let name = XCLIENT_ATTRIBUTES.iter().find(|known| name.eq_ignore_ascii_case(known))?;
        if attributes.iter().any(|(before, _)| before == name) {
            return None;
        }
        let value = String::from_utf8(xtext::decode(value)?).ok()?;
        let plain = (1..=XCLIENT_VALUE_BYTES_MAX).contains(&value.len()) && !value.chars().any(char::is_control);
        let unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"].iter().any(|word| value.eq_ignore_ascii_case(word));
        match plain {
            true => attributes.push(((*name).to_owned(), Some(value).filter(|_| !unknown))),
            false => return None,
        }
    }
    Some(attributes).filter(|attributes| !attributes.is_empty())
}

fn map_path_error(error: PathSyntaxError, brackets: CommandError, address: CommandError) -> CommandError {
    match error {
        PathSyntaxError::Brackets => brackets,
        PathSyntaxError::NotUtf8 | PathSyntaxError::Address(_) | PathSyntaxError::BadSourceRoute => address,
    }
}

impl fmt::Display for Command {
    /// Writes the command line without CRLF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Helo(name) => write!(f, "HELO {name}"),
            Self::Ehlo(name) => write!(f, "EHLO {name}"),
            Self::Mail { sender, parameters } => {
                write!(f, "MAIL FROM:<{sender}>")?;
                write_parameters(f, parameters)
            }
            Self::Rcpt { recipient, parameters } => {
                write!(f, "RCPT TO:<{recipient}>")?;
                write_parameters(f, parameters)
            }
            Self::Vrfy(address) if address.local().is_ascii() => write!(f, "VRFY {address}"),
            Self::Vrfy(address) => write!(f, "VRFY {address} SMTPUTF8"),
            Self::Lhlo(name) => write!(f, "LHLO {name}"),
            Self::StartTls => f.write_str(Verb::StartTls.as_str()),
            Self::Auth { mechanism, initial } => {
                write!(f, "AUTH {mechanism}")?;
                match initial {
                    None => Ok(()),
                    Some(SaslResponse(octets)) if octets.is_empty() => f.write_str(" ="),
                    Some(SaslResponse(octets)) => write!(f, " {}", BASE64.encode(octets)),
                }
            }
            Self::Bdat { size, last } => write!(f, "BDAT {size}{}", if *last { " LAST" } else { "" }),
            Self::Xclient(attributes) => {
                f.write_str(Verb::Xclient.as_str())?;
                attributes.iter().try_for_each(|(name, value)| match value {
                    Some(value) => write!(f, " {name}={}", xtext::encode(value)),
                    None => write!(f, " {name}=[UNAVAILABLE]"),
                })
            }
            Self::Data => f.write_str(Verb::Data.as_str()),
            Self::Rset => f.write_str(Verb::Rset.as_str()),
            Self::Noop => f.write_str(Verb::Noop.as_str()),
            Self::Help => f.write_str(Verb::Help.as_str()),
            Self::Quit => f.write_str(Verb::Quit.as_str()),
        }
    }
}

fn write_parameters(f: &mut fmt::Formatter<'_>, parameters: &[Parameter]) -> fmt::Result {
    for (keyword, value) in parameters {
        write!(f, " {keyword}")?;
        if let Some(value) = value {
            write!(f, "={value}")?;
        }
    }
    Ok(())
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
            ("BDAT x", CommandError::BadChunkSize),
            ("BDAT 10 LAST now", CommandError::BadChunkSize),
            ("AUTH", CommandError::BadArguments(Verb::Auth)),
            ("AUTH PLAIN ?", CommandError::BadBase64),
            ("XCLIENT FOO=x", CommandError::BadArguments(Verb::Xclient)),
            ("XCLIENT NAME=a NAME=b", CommandError::BadArguments(Verb::Xclient)),
            ("GET / HTTP/1.1", CommandError::OtherProtocol),
            ("HELO", CommandError::BadArguments(Verb::Helo)),
            ("EHLO a b", CommandError::BadArguments(Verb::Ehlo)),
            ("DATA x", CommandError::BadArguments(Verb::Data)),
            ("MAIL <a@b>", CommandError::BadArguments(Verb::Mail)),
            ("MAIL FROM:<a@b> =", CommandError::BadArguments(Verb::Mail)),
            ("MAIL FROM:<a..b@c>", CommandError::BadSender),
            ("RCPT TO:<>", CommandError::BadRecipient),
            ("RCPT TO:<\u{e4}@c>", CommandError::NonAsciiAddress),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), Err(error), "{line}");
        }
    }
}
