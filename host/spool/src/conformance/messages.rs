//! Messages and settlements of the suite.

use std::time::Duration;

use bytes::Bytes;
use waxwing_types::{
    Address, BodyRead, BodyType, EnhancedCode, Envelope, Origin, QueueId, Recipient, ReversePath, Source, Status, Tags, Timestamp,
};

use crate::{NewBody, NewMessage, NextState, Settlement, Unit, UnitRecipient};

/// Returns a small message with the given number of recipients.
pub fn new_message(id: QueueId, recipients: usize, now: Timestamp) -> NewMessage {
    let recipient = |n| Recipient::new(Address::new(format!("r{n}"), "example.org").unwrap());
    let envelope = Envelope {
        sender: ReversePath::Address(Address::parse("sender@example.com").unwrap()),
        recipients: (0..recipients).map(recipient).collect(),
        body_type: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
        origin: Origin::internal(Source::Smtp, now),
    };
    NewMessage {
        id,
        envelope,
        header: Bytes::from_static(b"Subject: test\r\n\r\n"),
        body: NewBody::inline(Bytes::from_static(b"hello\r\n")).unwrap(),
        tags: Tags::new(),
        hold: None,
        not_before: Duration::ZERO,
        priority: 0,
        attached: Vec::new(),
    }
}

/// Returns octets without a period, so that misplaced pieces show.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

/// Returns the settlement of a unit whose recipients are all done.
pub fn removed(unit: &Unit) -> Settlement {
    Settlement {
        unit: unit.clone(),
        remaining: Vec::new(),
        attempts: unit.attempts + 1,
        next_state: NextState::Removed,
        generated: Vec::new(),
    }
}

/// Returns the settlement of a unit that is due again at `at`.
pub fn deferred(unit: &Unit, at: Timestamp) -> Settlement {
    let status = Status::local(EnhancedCode::new(4, 4, 1), "no answer");
    let wait = |recipient: &UnitRecipient| UnitRecipient { index: recipient.index, last_status: Some(status.clone()) };
    Settlement {
        unit: unit.clone(),
        remaining: unit.recipients.iter().map(wait).collect(),
        attempts: unit.attempts + 1,
        next_state: NextState::RetryAt(at),
        generated: Vec::new(),
    }
}

/// Reads a body to its end.
pub async fn read_body(body: &dyn BodyRead) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = body.read(all.len() as u64, 100_000).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}
