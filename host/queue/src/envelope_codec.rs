//! Record encoding of envelopes, tags and delivery statuses. Frozen with the record versions that use the encoding.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use waxwing_types::{
    Address, BodyType, EnhancedCode, Envelope, Notify, Origin, Recipient, Return, ReversePath, Status, Tags, Timestamp, Via,
};

use crate::codec::{Malformed, Reader, Writer};

pub(crate) fn put_envelope(out: &mut Writer, envelope: &Envelope) {
    match &envelope.sender {
        ReversePath::Null => out.u8(0),
        ReversePath::Of(address) => {
            out.u8(1);
            put_address(out, address);
        }
    }
    out.number(envelope.recipients.len() as u64);
    for recipient in &envelope.recipients {
        put_address(out, &recipient.address);
        out.optional(recipient.original.as_deref());
        out.u8(notify_code(recipient.notify));
    }
    out.u8(octets_code(envelope));
    out.u8(match envelope.ret {
        None => 0,
        Some(Return::Full) => 1,
        Some(Return::Headers) => 2,
    });
    out.optional(envelope.envid.as_deref());
    put_origin(out, &envelope.origin);
}

pub(crate) fn take_envelope(input: &mut Reader<'_>) -> Result<Envelope, Malformed> {
    let sender = if input.flag()? { ReversePath::Of(take_address(input)?) } else { ReversePath::Null };
    let count = input.count()?;
    let mut recipients = Vec::with_capacity(count);
    for _ in 0..count {
        let address = take_address(input)?;
        let original = input.optional()?;
        recipients.push(Recipient { address, original, notify: notify_of(input.u8()?)? });
    }
    let octets = input.u8()?;
    let (body_type, smtputf8, require_tls) = octets_of(octets)?;
    let ret = match input.u8()? {
        0 => None,
        1 => Some(Return::Full),
        2 => Some(Return::Headers),
        _ => return Err(Malformed("RET is unknown")),
    };
    let envid = input.optional()?;
    let origin = take_origin(input)?;
    Ok(Envelope { sender, recipients, body_type, ret, envid, smtputf8, require_tls, origin })
}

pub(crate) fn put_tags(out: &mut Writer, tags: &Tags) {
    out.number(tags.len() as u64);
    for (name, value) in tags {
        out.text(name);
        out.text(value);
    }
}

pub(crate) fn take_tags(input: &mut Reader<'_>) -> Result<Tags, Malformed> {
    (0..input.count()?).map(|_| Ok((input.text()?.to_owned(), input.text()?.to_owned()))).collect()
}

pub(crate) fn put_status(out: &mut Writer, status: &Status) {
    out.number(u64::from(status.code.unwrap_or(0)));
    out.u8(status.enhanced.class);
    out.number(u64::from(status.enhanced.subject));
    out.number(u64::from(status.enhanced.detail));
    out.optional(status.remote.as_deref());
    out.text(&status.text);
}

pub(crate) fn take_status(input: &mut Reader<'_>) -> Result<Status, Malformed> {
    let code = Some(input.narrow()?).filter(|code| *code != 0);
    let enhanced = EnhancedCode::new(input.u8()?, input.narrow()?, input.narrow()?);
    Ok(Status { code, enhanced, remote: input.optional()?, text: input.text()?.to_owned() })
}

fn put_address(out: &mut Writer, address: &Address) {
    out.text(address.local());
    out.text(address.domain());
}

fn take_address(input: &mut Reader<'_>) -> Result<Address, Malformed> {
    let local = input.text()?;
    Address::new(local, input.text()?).map_err(|_| Malformed("an address is not valid"))
}

/// Encodes the body type in the two lowest bits, then SMTPUTF8 and REQUIRETLS, so that older records without either flag
/// stay valid.
fn octets_code(envelope: &Envelope) -> u8 {
    let body = match envelope.body_type {
        BodyType::SevenBit => 0,
        BodyType::EightBitMime => 1,
        BodyType::BinaryMime => 2,
    };
    body | u8::from(envelope.smtputf8) << 2 | u8::from(envelope.require_tls) << 3
}

fn octets_of(code: u8) -> Result<(BodyType, bool, bool), Malformed> {
    let body = match code & 3 {
        0 => BodyType::SevenBit,
        1 => BodyType::EightBitMime,
        2 => BodyType::BinaryMime,
        _ => return Err(Malformed("the body's type is unknown")),
    };
    if code >> 4 != 0 {
        return Err(Malformed("the body's type is unknown"));
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

fn notify_of(code: u8) -> Result<Notify, Malformed> {
    match code {
        0 => Ok(Notify::Default),
        1 => Ok(Notify::Never),
        8..=15 => Ok(Notify::On { success: code & 1 != 0, failure: code & 2 != 0, delay: code & 4 != 0 }),
        _ => Err(Malformed("NOTIFY is unknown")),
    }
}

fn put_origin(out: &mut Writer, origin: &Origin) {
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
    out.u8(via_code(origin.via));
    out.number(origin.received_at.as_millis());
}

fn take_origin(input: &mut Reader<'_>) -> Result<Origin, Malformed> {
    let peer = match input.u8()? {
        0 => None,
        4 => Some(SocketAddrV4::new(Ipv4Addr::from(input.array::<4>()?), input.narrow()?).into()),
        6 => {
            let address = Ipv6Addr::from(input.array::<16>()?);
            Some(SocketAddrV6::new(address, input.narrow()?, input.narrow()?, input.narrow()?).into())
        }
        _ => return Err(Malformed("the peer's address family is unknown")),
    };
    Ok(Origin {
        peer,
        client_name: input.optional()?,
        helo: input.optional()?,
        esmtp: input.flag()?,
        user: input.optional()?,
        via: via_of(input.u8()?)?,
        received_at: Timestamp::from_millis(input.number()?),
    })
}

fn via_code(via: Via) -> u8 {
    match via {
        Via::Smtp => 0,
        Via::Submission => 1,
        Via::Lmtp => 2,
        Via::Pickup => 3,
        Via::Forward => 4,
        Via::Dsn => 5,
        Via::Api => 6,
    }
}

fn via_of(code: u8) -> Result<Via, Malformed> {
    match code {
        0 => Ok(Via::Smtp),
        1 => Ok(Via::Submission),
        2 => Ok(Via::Lmtp),
        3 => Ok(Via::Pickup),
        4 => Ok(Via::Forward),
        5 => Ok(Via::Dsn),
        6 => Ok(Via::Api),
        _ => Err(Malformed("the source is unknown")),
    }
}
