//! Packets from a mail server to a milter.

use bytes::Bytes;

use crate::codec::text::{PacketReader, write_packet, write_text};
use crate::codec::{ActionFlags, MilterPacket, PacketError, ProtocolFlags};

/// Stage for which a milter can select macros (`SMFIM_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MacroStage {
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

impl MacroStage {
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
pub enum MilterAddress {
    /// No known address.
    Unknown,
    /// Path of a Unix socket.
    Unix(Bytes),
    /// Port and IPv4 address.
    Inet(u16, Bytes),
    /// Port and IPv6 address.
    Inet6(u16, Bytes),
}

/// Options of a negotiation. Only a milter sends `macros`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MilterOptions {
    /// Protocol version of the peer.
    pub version: u32,
    /// Offered or requested actions.
    pub actions: ActionFlags,
    /// Offered or requested protocol flags.
    pub protocol: ProtocolFlags,
    /// Names of the macros that the milter selects for a stage, instead of the defaults.
    pub macros: Vec<(MacroStage, Vec<String>)>,
}

/// A packet to a milter. NUL bytes within texts are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterCommand {
    /// Offered version, actions and protocol flags.
    Negotiate(MilterOptions),
    /// Names and values of macros for the following command with this code.
    Macros(u8, Vec<(Bytes, Bytes)>),
    /// Name and address of the client.
    Connect(Bytes, MilterAddress),
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

impl MilterCommand {
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
        write_packet(out, self.code(), |out| match self {
            Self::Negotiate(terms) => {
                for number in [terms.version, terms.actions.0, terms.protocol.0] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Macros(of, list) => {
                out.push(*of);
                for (name, value) in list {
                    write_text(out, name);
                    write_text(out, value);
                }
            }
            Self::Connect(host, family) => write_connect(out, host, family),
            Self::Helo(line) | Self::Unknown(line) => write_text(out, line),
            Self::Mail(texts) | Self::Rcpt(texts) => texts.iter().for_each(|t| write_text(out, t)),
            Self::Header(name, value) => {
                write_text(out, name);
                write_text(out, value);
            }
            Self::Body(piece) | Self::EndOfBody(piece) => out.extend_from_slice(piece),
            Self::Data | Self::EndOfHeader | Self::Abort | Self::Quit | Self::QuitNewConnection => {}
        });
    }

    /// Parses a packet, for the milter side.
    pub fn parse(frame: MilterPacket) -> Result<Self, PacketError> {
        let reader = |what| PacketReader::new(frame.data.clone(), what);
        let bare = |command, what| reader(what).finish().map(|()| command);
        match frame.code {
            b'O' => {
                let mut data = reader("OPTNEG");
                let (version, actions, steps) =
                    (data.read_u32()?, ActionFlags(data.read_u32()?), ProtocolFlags(data.read_u32()?));
                data.finish()?;
                Ok(Self::Negotiate(MilterOptions { version, actions, protocol: steps, macros: Vec::new() }))
            }
            b'D' => parse_macros(reader("MACRO")),
            b'C' => parse_connect(reader("CONNECT")),
            b'H' => single_text(reader("HELO")).map(Self::Helo),
            b'M' => reader("MAIL").texts().map(Self::Mail),
            b'R' => reader("RCPT").texts().map(Self::Rcpt),
            b'T' => bare(Self::Data, "DATA"),
            b'L' => {
                let mut data = reader("HEADER");
                let (name, value) = (data.text()?, data.text()?);
                data.finish()?;
                Ok(Self::Header(name, value))
            }
            b'N' => bare(Self::EndOfHeader, "EOH"),
            b'B' => Ok(Self::Body(frame.data)),
            b'E' => Ok(Self::EndOfBody(frame.data)),
            b'U' => single_text(reader("UNKNOWN")).map(Self::Unknown),
            b'A' => bare(Self::Abort, "ABORT"),
            b'Q' => bare(Self::Quit, "QUIT"),
            b'K' => bare(Self::QuitNewConnection, "QUIT_NC"),
            other => Err(PacketError::UnknownCode(other)),
        }
    }
}

fn single_text(mut data: PacketReader) -> Result<Bytes, PacketError> {
    let text = data.text()?;
    data.finish()?;
    Ok(text)
}

fn parse_macros(mut data: PacketReader) -> Result<MilterCommand, PacketError> {
    let of = data.read_u8()?;
    let mut list = Vec::new();
    while !data.is_at_end() {
        list.push((data.text()?, data.text()?));
    }
    Ok(MilterCommand::Macros(of, list))
}

fn write_connect(out: &mut Vec<u8>, host: &[u8], family: &MilterAddress) {
    write_text(out, host);
    let mut address = |code: u8, port: u16, address: &[u8]| {
        out.push(code);
        out.extend_from_slice(&port.to_be_bytes());
        write_text(out, address);
    };
    match family {
        MilterAddress::Unknown => out.push(b'U'),
        MilterAddress::Unix(path) => address(b'L', 0, path),
        MilterAddress::Inet(port, ip) => address(b'4', *port, ip),
        MilterAddress::Inet6(port, ip) => address(b'6', *port, ip),
    }
}

fn parse_connect(mut data: PacketReader) -> Result<MilterCommand, PacketError> {
    let host = data.text()?;
    let code = data.read_u8()?;
    if code == b'U' {
        // Some servers send an empty address here.
        return Ok(MilterCommand::Connect(host, MilterAddress::Unknown));
    }
    let (port, address) = (data.read_u16()?, data.text()?);
    data.finish()?;
    let family = match code {
        b'L' => MilterAddress::Unix(address),
        b'4' => MilterAddress::Inet(port, address),
        b'6' => MilterAddress::Inet6(port, address),
        _ => return Err(PacketError::Malformed("CONNECT")),
    };
    Ok(MilterCommand::Connect(host, family))
}
