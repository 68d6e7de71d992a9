//! Packets from a mail server to a milter.

use bytes::Bytes;

use crate::codec::text::{Reader, packet, text};
use crate::codec::{Actions, Frame, Steps, Terms, WireError};

/// Stage for which a milter can select macros (`SMFIM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Start of the connection.
    Connect,
    /// HELO or EHLO command.
    Helo,
    /// MAIL command of a transaction.
    Mail,
    /// RCPT command of a transaction.
    Rcpt,
    /// DATA command of a transaction.
    Data,
    /// End of the message.
    EndOfMessage,
    /// End of the header.
    EndOfHeader,
}

impl Stage {
    /// All stages, in the order of the protocol numbers.
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Helo, Self::Mail, Self::Rcpt, Self::Data, Self::EndOfMessage, Self::EndOfHeader];

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|n| Self::ALL.get(n).copied())
    }

    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// Returns the code of the command preceded by these macros.
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

/// Address of the client in the connect packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// No known address.
    Unknown,
    /// Path of a Unix socket.
    Unix(Bytes),
    /// Port and IPv4 address.
    Inet(u16, Bytes),
    /// Port and IPv6 address.
    Inet6(u16, Bytes),
}

/// A packet to a milter. NUL bytes within texts are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Offered version, actions and protocol flags.
    Negotiate(Terms),
    /// Names and values of macros for the following command with this code.
    Macros(u8, Vec<(Bytes, Bytes)>),
    /// Name and address of the client.
    Connect(Bytes, Family),
    /// Argument of HELO or EHLO.
    Helo(Bytes),
    /// Sender in angle brackets, followed by the ESMTP parameters.
    Mail(Vec<Bytes>),
    /// Recipient in angle brackets, followed by the ESMTP parameters.
    Rcpt(Vec<Bytes>),
    /// DATA command of a transaction.
    Data,
    /// Name and value of a header field, folded with LF and white space.
    Header(Bytes, Bytes),
    /// End of the header.
    EndOfHeader,
    /// Piece of the body.
    Body(Bytes),
    /// End of the message; may carry the last piece of the body.
    EndOfBody(Bytes),
    /// Command unknown to the server.
    Unknown(Bytes),
    /// End of the transaction without a message.
    Abort,
    /// End of the milter connection.
    Quit,
    /// End of the SMTP session; another session follows on this connection.
    QuitNewConnection,
}

impl Command {
    /// Returns the code of the command.
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

    /// Appends the packet in wire format.
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

    /// Parses a packet, for the milter side.
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
        // Some servers send an empty address here.
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
