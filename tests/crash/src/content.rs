//! Deterministic messages derived from the queue ID, so that checks need no stored copy.

use bytes::Bytes;
use waxwing_spool::UNIT_RECIPIENTS_MAX;
use waxwing_types::{Address, BodyType, Envelope, Notify, Origin, QueueId, Recipient, ReversePath, Source, Tags, Timestamp};

/// Small random number generator with incompressible output.
pub struct TestRng(u64);

impl TestRng {
    /// Creates a generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Next number (splitmix64).
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Random number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    fn fill(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Bytes of the body: mostly small, some near the limit of 256 KiB, some far above.
#[must_use]
pub fn body_size(id: QueueId) -> usize {
    let mut dice = TestRng::new(id.as_u64());
    let (low, high) = match dice.below(100) {
        0..=9 => (0, 10),
        10..=69 => (100, 5_000),
        70..=87 => (5_000, 60_000),
        88..=93 => (255 << 10, 257 << 10),
        _ => (257 << 10, 900 << 10),
    };
    (low + dice.below(high - low)) as usize
}

/// Message body of the ID.
#[must_use]
pub fn body(id: QueueId) -> Bytes {
    TestRng::new(!id.as_u64()).fill(body_size(id)).into()
}

/// Header block of the ID.
#[must_use]
pub fn head(id: QueueId) -> Bytes {
    format!("Received: by crash.example with id {id}\r\nMessage-ID: <{id}@crash.example>\r\n\r\n").into()
}

/// Number of recipients: mostly few, sometimes enough for several delivery units.
#[must_use]
pub fn recipient_count(id: QueueId) -> usize {
    let mut dice = TestRng::new(id.as_u64().rotate_left(17));
    match dice.below(20) {
        0 => 51 + dice.below(100) as usize,
        n => 1 + (n % 3) as usize,
    }
}

/// Number of delivery units of the message.
#[must_use]
pub fn unit_count(id: QueueId) -> u16 {
    recipient_count(id).div_ceil(UNIT_RECIPIENTS_MAX) as u16
}

/// Envelope of the ID, except for the time.
#[must_use]
pub fn envelope(id: QueueId, received_at: Timestamp) -> Envelope {
    let address = |n: usize| Address::new(format!("r{n}"), &format!("d{}.example", id.as_u64() % 97)).unwrap();
    let recipient = |n: usize| Recipient {
        original: (n % 7 == 3).then(|| format!("rfc822;r{n}")),
        notify: if n % 5 == 4 { Notify::On { success: true, failure: true, delay: false } } else { Notify::Default },
        ..Recipient::new(address(n))
    };
    Envelope {
        sender: if id.as_u64().is_multiple_of(13) { ReversePath::Null } else { ReversePath::Address(address(0)) },
        recipients: (0..recipient_count(id)).map(recipient).collect(),
        body_type: BodyType::EightBitMime,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
        origin: Origin::internal(Source::Smtp, received_at),
    }
}

/// Tags of the ID.
#[must_use]
pub fn tags(id: QueueId) -> Tags {
    Tags::from([("id".to_owned(), id.to_string())])
}
