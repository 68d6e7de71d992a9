//! Packets from a milter to the mail server.

use bytes::Bytes;

use crate::codec::text::{PacketReader, write_packet, write_text};
use crate::codec::{ActionFlags, MacroStage, MilterOptions, MilterPacket, PacketError, ProtocolFlags};

/// A packet from a milter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MilterResponse {
    /// Requested version, actions and protocol flags.
    Negotiate(MilterOptions),
    /// Continue with the next step.
    Continue,
    /// Accept the message, or at CONNECT and HELO the session, without further packets.
    Accept,
    /// Reject with a permanent error (5yz).
    Reject,
    /// Reject with a temporary error (4yz).
    TemporaryFailure,
    /// Accept with 250 and discard the message.
    Discard,
    /// Skip further packets of this step.
    Skip,
    /// Reply 421 and end the session.
    Shutdown,
    /// End the session at once.
    ConnectionFailure,
    /// Progress of a long operation; extends the timeout.
    Progress,
    /// SMTP reply, with lines separated by CR LF.
    ReplyCode(Bytes),
    /// Append a header field: name and value.
    AddHeader(Bytes, Bytes),
    /// Insert a header field: index, name and value.
    InsertHeader(u32, Bytes, Bytes),
    /// Replace the value of a header field: number among the fields of the name, from 1, name and value; an empty
    /// value deletes the field.
    ChangeHeader(u32, Bytes, Bytes),
    /// Replace the sender: address and ESMTP parameters.
    ChangeSender(Bytes, Option<Bytes>),
    /// Add a recipient to the envelope.
    AddRecipient(Bytes),
    /// Add a recipient with ESMTP parameters.
    AddRecipientWithParameters(Bytes, Option<Bytes>),
    /// Delete a recipient from the envelope.
    DeleteRecipient(Bytes),
    /// Piece of the replacement body.
    ReplaceBody(Bytes),
    /// Move the message to the hold queue, with this reason.
    Quarantine(Bytes),
}

impl MilterResponse {
    /// Returns the code of the response.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Continue => b'c',
            Self::Accept => b'a',
            Self::Reject => b'r',
            Self::TemporaryFailure => b't',
            Self::Discard => b'd',
            Self::Skip => b's',
            Self::Shutdown => b'4',
            Self::ConnectionFailure => b'f',
            Self::Progress => b'p',
            Self::ReplyCode(_) => b'y',
            Self::AddHeader(..) => b'h',
            Self::InsertHeader(..) => b'i',
            Self::ChangeHeader(..) => b'm',
            Self::ChangeSender(..) => b'e',
            Self::AddRecipient(_) => b'+',
            Self::AddRecipientWithParameters(..) => b'2',
            Self::DeleteRecipient(_) => b'-',
            Self::ReplaceBody(_) => b'b',
            Self::Quarantine(_) => b'q',
        }
    }

    /// Returns the name of the response in libmilter, for display.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Negotiate(_) => "OPTNEG",
            Self::Continue => "CONTINUE",
            Self::Accept => "ACCEPT",
            Self::Reject => "REJECT",
            Self::TemporaryFailure => "TEMPFAIL",
            Self::Discard => "DISCARD",
            Self::Skip => "SKIP",
            Self::Shutdown => "SHUTDOWN",
            Self::ConnectionFailure => "CONN_FAIL",
            Self::Progress => "PROGRESS",
            Self::ReplyCode(_) => "REPLYCODE",
            Self::AddHeader(..) => "ADDHEADER",
            Self::InsertHeader(..) => "INSHEADER",
            Self::ChangeHeader(..) => "CHGHEADER",
            Self::ChangeSender(..) => "CHGFROM",
            Self::AddRecipient(_) => "ADDRCPT",
            Self::AddRecipientWithParameters(..) => "ADDRCPT_PAR",
            Self::DeleteRecipient(_) => "DELRCPT",
            Self::ReplaceBody(_) => "REPLBODY",
            Self::Quarantine(_) => "QUARANTINE",
        }
    }

    /// Appends the packet in wire format, for the milter side.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        write_packet(out, self.code(), |out| match self {
            Self::Negotiate(terms) => write_options(out, terms),
            Self::ReplyCode(one) | Self::AddRecipient(one) | Self::DeleteRecipient(one) | Self::Quarantine(one) => {
                write_text(out, one)
            }
            Self::AddHeader(name, value) => {
                write_text(out, name);
                write_text(out, value);
            }
            Self::InsertHeader(place, name, value) | Self::ChangeHeader(place, name, value) => {
                out.extend_from_slice(&place.to_be_bytes());
                write_text(out, name);
                write_text(out, value);
            }
            Self::ChangeSender(address, parameters) | Self::AddRecipientWithParameters(address, parameters) => {
                write_text(out, address);
                parameters.iter().for_each(|p| write_text(out, p));
            }
            Self::ReplaceBody(piece) => out.extend_from_slice(piece),
            Self::Continue
            | Self::Accept
            | Self::Reject
            | Self::TemporaryFailure
            | Self::Discard
            | Self::Skip
            | Self::Shutdown
            | Self::ConnectionFailure
            | Self::Progress => {}
        });
    }

    /// Parses a packet from a milter.
    pub fn parse(frame: MilterPacket) -> Result<Self, PacketError> {
        let reader = |what| PacketReader::new(frame.data.clone(), what);
        let bare = |response: Self| reader(response.name()).finish().map(|()| response);
        match frame.code {
            b'O' => parse_options(reader("OPTNEG")).map(Self::Negotiate),
            b'c' => bare(Self::Continue),
            b'a' => bare(Self::Accept),
            b'r' => bare(Self::Reject),
            b't' => bare(Self::TemporaryFailure),
            b'd' => bare(Self::Discard),
            b's' => bare(Self::Skip),
            b'4' => bare(Self::Shutdown),
            b'f' => bare(Self::ConnectionFailure),
            b'p' => bare(Self::Progress),
            b'y' => single_text(reader("REPLYCODE")).map(Self::ReplyCode),
            b'h' => {
                let mut data = reader("ADDHEADER");
                let (name, value) = (data.text()?, data.text()?);
                data.finish()?;
                Ok(Self::AddHeader(name, value))
            }
            b'i' => index_name_value(reader("INSHEADER")).map(|(place, name, value)| Self::InsertHeader(place, name, value)),
            b'm' => index_name_value(reader("CHGHEADER")).map(|(place, name, value)| Self::ChangeHeader(place, name, value)),
            b'e' => {
                address_and_parameters(reader("CHGFROM")).map(|(address, parameters)| Self::ChangeSender(address, parameters))
            }
            b'+' => single_text(reader("ADDRCPT")).map(Self::AddRecipient),
            b'2' => {
                address_and_parameters(reader("ADDRCPT_PAR")).map(|(address, p)| Self::AddRecipientWithParameters(address, p))
            }
            b'-' => single_text(reader("DELRCPT")).map(Self::DeleteRecipient),
            b'b' => Ok(Self::ReplaceBody(frame.data)),
            b'q' => single_text(reader("QUARANTINE")).map(Self::Quarantine),
            other => Err(PacketError::UnknownCode(other)),
        }
    }
}

fn single_text(mut data: PacketReader) -> Result<Bytes, PacketError> {
    let text = data.text()?;
    data.finish()?;
    Ok(text)
}

fn index_name_value(mut data: PacketReader) -> Result<(u32, Bytes, Bytes), PacketError> {
    let (place, name, value) = (data.read_u32()?, data.text()?, data.text()?);
    data.finish()?;
    Ok((place, name, value))
}

fn address_and_parameters(mut data: PacketReader) -> Result<(Bytes, Option<Bytes>), PacketError> {
    let address = data.text()?;
    let parameters = if data.is_at_end() { None } else { Some(data.text()?) };
    data.finish()?;
    Ok((address, parameters))
}

fn write_options(out: &mut Vec<u8>, terms: &MilterOptions) {
    for number in [terms.version, terms.actions.0, terms.protocol.0] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    for (stage, names) in &terms.macros {
        out.extend_from_slice(&stage.number().to_be_bytes());
        write_text(out, names.join(" ").as_bytes());
    }
}

fn parse_options(mut data: PacketReader) -> Result<MilterOptions, PacketError> {
    let (version, actions, steps) = (data.read_u32()?, ActionFlags(data.read_u32()?), ProtocolFlags(data.read_u32()?));
    let mut macros = Vec::new();
    while !data.is_at_end() {
        let stage = data.read_u32()?;
        let names = data.text()?;
        // Stages of later protocol versions are ignored.
        if let Some(stage) = MacroStage::from_number(stage) {
            let names = String::from_utf8_lossy(&names);
            let names = names.split([' ', ',', '\t']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            macros.push((stage, names));
        }
    }
    Ok(MilterOptions { version, actions, protocol: steps, macros })
}
