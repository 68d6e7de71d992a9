//! Record encoding of envelopes, tags and delivery statuses. Frozen with the record versions that use the encoding.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

use waxwing_types::{
    Address, BodyType, DsnReturn, EnhancedCode, Envelope, Notify, Origin, Recipient, RecipientTarget, ReversePath, Source,
    Status, Tags, Timestamp,
};

use crate::codec::{MalformedRecord, RecordReader, RecordWriter};

/// Version of message records whose recipients have no target.
pub(crate) const WITHOUT_TARGETS: u8 = 1;

/// Encodes the envelope of a record of the current version.
pub(crate) fn write_envelope(out: &mut RecordWriter, envelope: &Envelope) {
    match &envelope.sender {
        ReversePath::Null => out.u8(0),
        ReversePath::Address(address) => {
            out.u8(1);
            write_address(out, address);
        }
    }
    out.number(envelope.recipients.len() as u64);
    for recipient in &envelope.recipients {
        write_address(out, &recipient.address);
        out.optional(recipient.original.as_deref());
        out.u8(notify_code(recipient.notify));
        write_target(out, &recipient.target);
    }
    out.u8(body_flags_code(envelope));
    out.u8(match envelope.ret {
        None => 0,
        Some(DsnReturn::Full) => 1,
        Some(DsnReturn::Headers) => 2,
    });
    out.optional(envelope.envid.as_deref());
    write_origin(out, &envelope.origin);
}

/// Decodes the envelope of a message record of the given version.
pub(crate) fn read_envelope(input: &mut RecordReader<'_>, version: u8) -> Result<Envelope, MalformedRecord> {
    let sender = if input.flag()? { ReversePath::Address(read_address(input)?) } else { ReversePath::Null };
    let count = input.count()?;
    let mut recipients = Vec::with_capacity(count);
    for _ in 0..count {
        let address = read_address(input)?;
        let original = input.optional()?;
        let notify = notify_from_code(input.u8()?)?;
        let target = if version == WITHOUT_TARGETS { RecipientTarget::Address } else { read_target(input)? };
        recipients.push(Recipient { address, original, notify, target });
    }
    let octets = input.u8()?;
    let (body_type, smtputf8, require_tls) = body_flags_from_code(octets)?;
    let ret = match input.u8()? {
        0 => None,
        1 => Some(DsnReturn::Full),
        2 => Some(DsnReturn::Headers),
        _ => return Err(MalformedRecord("RET is unknown")),
    };
    let envid = input.optional()?;
    let origin = read_origin(input)?;
    Ok(Envelope { sender, recipients, body_type, ret, envid, smtputf8, require_tls, origin })
}

pub(crate) fn write_tags(out: &mut RecordWriter, tags: &Tags) {
    out.number(tags.len() as u64);
    for (name, value) in tags {
        out.text(name);
        out.text(value);
    }
}

pub(crate) fn read_tags(input: &mut RecordReader<'_>) -> Result<Tags, MalformedRecord> {
    (0..input.count()?).map(|_| Ok((input.text()?.to_owned(), input.text()?.to_owned()))).collect()
}

pub(crate) fn write_status(out: &mut RecordWriter, status: &Status) {
    out.number(u64::from(status.code.unwrap_or(0)));
    out.u8(status.enhanced.class);
    out.number(u64::from(status.enhanced.subject));
    out.number(u64::from(status.enhanced.detail));
    out.optional(status.remote.as_deref());
    out.text(&status.text);
}

pub(crate) fn read_status(input: &mut RecordReader<'_>) -> Result<Status, MalformedRecord> {
    let code = Some(input.narrow()?).filter(|code| *code != 0);
    let enhanced = EnhancedCode::new(input.u8()?, input.narrow()?, input.narrow()?);
    Ok(Status { code, enhanced, remote: input.optional()?, text: input.text()?.to_owned() })
}

fn write_address(out: &mut RecordWriter, address: &Address) {
    out.text(address.local());
    out.text(address.domain());
}

fn read_address(input: &mut RecordReader<'_>) -> Result<Address, MalformedRecord> {
    let local = input.text()?;
    Address::new(local, input.text()?).map_err(|_| MalformedRecord("an address is not valid"))
}

fn write_target(out: &mut RecordWriter, target: &RecipientTarget) {
    match target {
        RecipientTarget::Address => out.u8(0),
        RecipientTarget::Command(name) => {
            out.u8(1);
            out.text(name);
        }
        RecipientTarget::File(path) => {
            out.u8(2);
            out.bytes(path.as_os_str().as_bytes());
        }
    }
}

fn read_target(input: &mut RecordReader<'_>) -> Result<RecipientTarget, MalformedRecord> {
    match input.u8()? {
        0 => Ok(RecipientTarget::Address),
        1 => Ok(RecipientTarget::Command(input.text()?.to_owned())),
        2 => Ok(RecipientTarget::File(OsStr::from_bytes(input.bytes()?).into())),
        _ => Err(MalformedRecord("the recipient's target is unknown")),
    }
}

/// Encodes the body type in the two lowest bits, then SMTPUTF8 and REQUIRETLS, so that older records without either flag
/// stay valid.
fn body_flags_code(envelope: &Envelope) -> u8 {
    let body = match envelope.body_type {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    };
    body | u8::from(envelope.smtputf8) << 2 | u8::from(envelope.require_tls) << 3
}

fn body_flags_from_code(code: u8) -> Result<(BodyType, bool, bool), MalformedRecord> {
    let body = match code & 3 {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        2 => BodyType::BinaryMime,
        _ => return Err(MalformedRecord("the body's type is unknown")),
    };
    if code >> 4 != 0 {
        return Err(MalformedRecord("the body's type is unknown"));
    }
    Ok((body, code & 4 != 0, code & 8 != 0))
}

fn notify_code(notify: Notify) -> u8 {
    match notify {
        Notify::Default => 0,
        Notify::Never => 1,
        Notify::On { success, failure, delay } => 8 | u8::from(success) | u8::from(failure) << 1 | u8::from(delay) << 2,
    }
}

fn notify_from_code(code: u8) -> Result<Notify, MalformedRecord> {
    match code {
        0 => Ok(Notify::Default),
        1 => Ok(Notify::Never),
        8..=15 => Ok(Notify::On { success: code & 1 != 0, failure: code & 2 != 0, delay: code & 4 != 0 }),
        _ => Err(MalformedRecord("NOTIFY is unknown")),
    }
}

fn write_origin(out: &mut RecordWriter, origin: &Origin) {
    match origin.peer {
        None => out.u8(0),
        Some(SocketAddr::V4(peer)) => {
            out.u8(4);
            out.0.extend_from_slice(&peer.ip().octets());
            out.number(u64::from(peer.port()));
        }
        Some(SocketAddr::V6(peer)) => {
            out.u8(6);
            out.0.extend_from_slice(&peer.ip().octets());
            out.number(u64::from(peer.port()));
            out.number(u64::from(peer.flowinfo()));
            out.number(u64::from(peer.scope_id()));
        }
    }
    out.optional(origin.client_name.as_deref());
    out.optional(origin.helo.as_deref());
    out.u8(u8::from(origin.esmtp));
    out.optional(origin.user.as_deref());
    out.u8(source_code(origin.source));
    out.number(origin.received_at.as_millis());
}

fn read_origin(input: &mut RecordReader<'_>) -> Result<Origin, MalformedRecord> {
    let peer = match input.u8()? {
        0 => None,
        4 => Some(SocketAddrV4::new(Ipv4Addr::from(input.array::<4>()?), input.narrow()?).into()),
        6 => {
            let address = Ipv6Addr::from(input.array::<16>()?);
            Some(SocketAddrV6::new(address, input.narrow()?, input.narrow()?, input.narrow()?).into())
        }
        _ => return Err(MalformedRecord("the peer's address family is unknown")),
    };
    Ok(Origin {
        peer,
        client_name: input.optional()?,
        helo: input.optional()?,
        esmtp: input.flag()?,
        user: input.optional()?,
        source: source_from_code(input.u8()?)?,
        received_at: Timestamp::from_millis(input.number()?),
    })
}

fn source_code(source: Source) -> u8 {
    match source {
        Source::Smtp => 0,
        Source::Submission => 1,
        Source::Lmtp => 2,
        Source::Pickup => 3,
        Source::Forward => 4,
        Source::Dsn => 5,
        Source::Api => 6,
    }
}

fn source_from_code(code: u8) -> Result<Source, MalformedRecord> {
    match code {
        0 => Ok(Source::Smtp),
        1 => Ok(Source::Submission),
        2 => Ok(Source::Lmtp),
        3 => Ok(Source::Pickup),
        4 => Ok(Source::Forward),
        5 => Ok(Source::Dsn),
        6 => Ok(Source::Api),
        _ => Err(MalformedRecord("the source is unknown")),
    }
}
