//! What a mail server says to a milter.

use bytes::Bytes;

use crate::codec::text::{Reader, packet, text};
use crate::codec::{Actions, Frame, Steps, Terms, WireError};

/// Where a milter wants certain macros (`SMFIM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The connection.
    Connect,
    /// HELO.
    Helo,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The end of the message.
    EndOfMessage,
    /// The end of the header.
    EndOfHeader,
}

impl Stage {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Helo, Self::Mail, Self::Rcpt, Self::Data, Self::EndOfMessage, Self::EndOfHeader];

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied())
    }

    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// The command that these macros are sent for.
    #[must_use]
    pub fn command(self) -> u8 {
        match self {
            Self::Connect => b'C',
            Self::Helo => b'H',
            Self::Mail => b'M',
            Self::Rcpt => b'R',
            Self::Data => b'T',
            Self::EndOfMessage => b'E',
            Self::EndOfHeader => b'N',
        }
    }
}

/// The client's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// There is none.
    Unknown,
    /// The path of a socket.
    Unix(Bytes),
    /// Address and port.
    Inet(u16, Bytes),
    /// Address and port.
    Inet6(u16, Bytes),
}

/// One packet to a milter. Texts have no NUL; one that is there is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What we can, and offer to leave out.
    Negotiate(Terms),
    /// Macros for the command of this code, which follows: names and values.
    Macros(u8, Vec<(Bytes, Bytes)>),
    /// A client: its name and address.
    Connect(Bytes, Family),
    /// What it says after HELO or EHLO.
    Helo(Bytes),
    /// The sender in angle brackets, then the ESMTP parameters.
    Mail(Vec<Bytes>),
    /// A recipient in angle brackets, then the ESMTP parameters.
    Rcpt(Vec<Bytes>),
    /// DATA.
    Data,
    /// A header field: name and value, folds as LF and white space.
    Header(Bytes, Bytes),
    /// The header is complete.
    EndOfHeader,
    /// A piece of the body.
    Body(Bytes),
    /// The message is complete; the last piece of the body may be with it.
    EndOfBody(Bytes),
    /// A command that the server does not know.
    Unknown(Bytes),
    /// The message is given up.
    Abort,
    /// The connection ends.
    Quit,
    /// The SMTP session ends; another follows on this connection.
    QuitNewConnection,
}

impl Command {
    /// Its code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Macros(..) => b'D',
            Self::Connect(..) => b'C',
            Self::Helo(_) => b'H',
            Self::Mail(_) => b'M',
            Self::Rcpt(_) => b'R',
            Self::Data => b'T',
            Self::Header(..) => b'L',
            Self::EndOfHeader => b'N',
            Self::Body(_) => b'B',
            Self::EndOfBody(_) => b'E',
            Self::Unknown(_) => b'U',
            Self::Abort => b'A',
            Self::Quit => b'Q',
            Self::QuitNewConnection => b'K',
        }
    }

    /// Appends it as it goes over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        packet(out, self.code(), |out| match self {
            Self::Negotiate(terms) => {
                for number in [terms.version, terms.actions.0, terms.steps.0] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Macros(of, list) => {
                out.push(*of);
                for (name, value) in list {
                    text(out, name);
                    text(out, value);
                }
            }
            Self::Connect(host, family) => connect(out, host, family),
            Self::Helo(line) | Self::Unknown(line) => text(out, line),
            Self::Mail(texts) | Self::Rcpt(texts) => texts.iter().for_each(|t| text(out, t)),
            Self::Header(name, value) => {
                text(out, name);
                text(out, value);
            }
            Self::Body(piece) | Self::EndOfBody(piece) => out.extend_from_slice(piece),
            Self::Data | Self::EndOfHeader | Self::Abort | Self::Quit | Self::QuitNewConnection => {}
        });
    }

    /// Reads one, as a milter does.
    pub fn parse(frame: Frame) -> Result<Self, WireError> {
        let reader = |what| Reader::new(frame.data.clone(), what);
        let bare = |command, what| reader(what).end().map(|()| command);
        match frame.code {
            b'O' => {
                let mut data = reader("OPTNEG");
                let (version, actions, steps) = (data.long()?, Actions(data.long()?), Steps(data.long()?));
                data.end()?;
                Ok(Self::Negotiate(Terms { version, actions, steps, macros: Vec::new() }))
            }
            b'D' => macros(reader("MACRO")),
            b'C' => parse_connect(reader("CONNECT")),
            b'H' => one(reader("HELO")).map(Self::Helo),
            b'M' => reader("MAIL").texts().map(Self::Mail),
            b'R' => reader("RCPT").texts().map(Self::Rcpt),
            b'T' => bare(Self::Data, "DATA"),
            b'L' => {
                let mut data = reader("HEADER");
                let (name, value) = (data.text()?, data.text()?);
                data.end()?;
                Ok(Self::Header(name, value))
            }
            b'N' => bare(Self::EndOfHeader, "EOH"),
            b'B' => Ok(Self::Body(frame.data)),
            b'E' => Ok(Self::EndOfBody(frame.data)),
            b'U' => one(reader("UNKNOWN")).map(Self::Unknown),
            b'A' => bare(Self::Abort, "ABORT"),
            b'Q' => bare(Self::Quit, "QUIT"),
            b'K' => bare(Self::QuitNewConnection, "QUIT_NC"),
            other => Err(WireError::UnknownCode(other)),
        }
    }
}

fn one(mut data: Reader) -> Result<Bytes, WireError> {
    let text = data.text()?;
    data.end()?;
    Ok(text)
}

fn macros(mut data: Reader) -> Result<Command, WireError> {
    let of = data.octet()?;
    let mut list = Vec::new();
    while !data.is_at_end() {
        list.push((data.text()?, data.text()?));
    }
    Ok(Command::Macros(of, list))
}

fn connect(out: &mut Vec<u8>, host: &[u8], family: &Family) {
    text(out, host);
    let mut address = |code: u8, port: u16, address: &[u8]| {
        out.push(code);
        out.extend_from_slice(&port.to_be_bytes());
        text(out, address);
    };
    match family {
        Family::Unknown => out.push(b'U'),
        Family::Unix(path) => address(b'L', 0, path),
        Family::Inet(port, ip) => address(b'4', *port, ip),
        Family::Inet6(port, ip) => address(b'6', *port, ip),
    }
}

fn parse_connect(mut data: Reader) -> Result<Command, WireError> {
    let host = data.text()?;
    let code = data.octet()?;
    if code == b'U' {
        // Some send an address of no octets here.
        return Ok(Command::Connect(host, Family::Unknown));
    }
    let (port, address) = (data.short()?, data.text()?);
    data.end()?;
    let family = match code {
        b'L' => Family::Unix(address),
        b'4' => Family::Inet(port, address),
        b'6' => Family::Inet6(port, address),
        _ => return Err(WireError::Malformed("CONNECT")),
    };
    Ok(Command::Connect(host, family))
}
