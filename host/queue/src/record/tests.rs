//! The records' layout is frozen: each fixture was written once, must be read for ever, and is what is written today.

use std::path::PathBuf;

use proptest::prelude::*;
use waxwing_types::{
    Address, BodyType, DsnReturn, EnhancedCode, Notify, Origin, Recipient, RecipientTarget, ReversePath, Source, Status, Tags,
    Timestamp,
};

use super::*;
use crate::keys::suspended_key;

const ID: QueueId = QueueId::from_u64(0x0001_a2b3_c4d5_e6f7);

/// Reads the fixture of a record version.
fn read_fixture(version: &str, name: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version).join(format!("{name}.hex"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Compares with the fixture. A fixture that is not there is written, so that a new version can be added; an existing one is
/// never changed.
fn check_fixture(version: &str, name: &str, record: &[u8]) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(version).join(format!("{name}.hex"));
    if std::env::var_os("WAXWING_ADD_FIXTURES").is_some() && !path.exists() {
        let lines: Vec<String> = record.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let fixture = read_fixture(version, name);
    assert_eq!(fixture, record, "{name}: the layout has changed; make a new version beside the old one");
    fixture
}

fn envelope() -> Envelope {
    let recipient = |local: &str, original: Option<&str>, notify| Recipient {
        original: original.map(str::to_owned),
        notify,
        ..Recipient::new(Address::new(local, "example.org").unwrap())
    };
    Envelope {
        sender: ReversePath::Address(Address::new("a b", "example.com").unwrap()),
        recipients: vec![
            recipient("one", None, Notify::Default),
            recipient("two", Some("rfc822;zwei@example.org"), Notify::Never),
            recipient("three", None, Notify::On { success: true, failure: false, delay: true }),
            Recipient::new(Address::new("root", "").unwrap()),
        ],
        body_type: BodyType::EightBitMime,
        ret: Some(DsnReturn::Headers),
        envid: Some("QQ+2B".to_owned()),
        smtputf8: false,
        require_tls: false,
        origin: Origin {
            peer: Some("[2001:db8::1]:2525".parse().unwrap()),
            client_name: Some("client.example".to_owned()),
            helo: Some("helo.example".to_owned()),
            esmtp: true,
            user: Some("user".to_owned()),
            source: Source::Submission,
            received_at: Timestamp::from_millis(1_800_000_000_123),
        },
    }
}

fn tags() -> Tags {
    Tags::from([("spam".to_owned(), "no".to_owned()), ("score".to_owned(), "0.5".to_owned())])
}

fn unit() -> Unit {
    let status = Status {
        code: Some(451),
        enhanced: EnhancedCode::new(4, 7, 300),
        remote: Some("mx.example[192.0.2.1]:25".to_owned()),
        text: "later, please".to_owned(),
    };
    Unit {
        id: ID,
        number: 3,
        recipients: vec![
            UnitRecipient { index: 150, last_status: None },
            UnitRecipient { index: 151, last_status: Some(status) },
            UnitRecipient { index: 152, last_status: Some(Status::local(EnhancedCode::new(4, 4, 1), "")) },
        ],
        attempts: 7,
        next_at: Timestamp::from_millis(1_800_000_300_000),
        version: 1 << 40,
        unit_count: 4,
        has_body_file: true,
    }
}

/// The envelope with a target of each kind, which version 1 cannot hold.
fn envelope_with_targets() -> Envelope {
    let mut envelope = envelope();
    for (recipient, target) in envelope
        .recipients
        .iter_mut()
        .zip([RecipientTarget::Command("procmail".to_owned()), RecipientTarget::File(PathBuf::from("/var/mail/archive"))])
    {
        recipient.target = target;
    }
    envelope
}

#[test]
fn messages_of_version_1_are_read_with_addresses_as_targets() {
    let read = decode_message(ID, &read_fixture("v1", "message-inside")).unwrap();
    assert_eq!((read.envelope, read.tags, &read.header[..]), (envelope(), tags(), &b"Subject: x\r\n\r\n"[..]));
    let read = decode_message(ID, &read_fixture("v1", "message-file")).unwrap();
    assert_eq!(read.envelope.recipients, [Recipient::new(Address::new("x", "example.org").unwrap())]);
    assert!(matches!(read.body, RecordBody::File(body) if body.suffix == 2 && body.block_checksums.len() == 5));
}

#[test]
fn message_with_its_body_inside() {
    let body = RecordBody::Inline(Bytes::from_static(b"line\r\n\x00\xff"));
    let made = encode_message(ID, &envelope_with_targets(), &tags(), b"Subject: x\r\n\r\n", &body).unwrap();
    assert_eq!((&made.header[..], &made.inline_body[..]), (&b"Subject: x\r\n\r\n"[..], &b"line\r\n\x00\xff"[..]));
    let read = decode_message(ID, &check_fixture("v2", "message-inside", &made.bytes)).unwrap();
    let header = Bytes::from_static(b"Subject: x\r\n\r\n");
    assert_eq!(read, MessageRecord { envelope: envelope_with_targets(), tags: tags(), header, body });
}

#[test]
fn message_with_its_body_in_a_file() {
    let blocks: Arc<[u32]> = Arc::new([1, 0xdead_beef, 3, 4, 5]);
    let body = RecordBody::File(BodyFileRef { suffix: 2, size: 4 * BODY_BLOCK_BYTES as u64 + 1, block_checksums: blocks });
    let envelope = Envelope {
        sender: ReversePath::Null,
        recipients: vec![Recipient::new(Address::new("x", "example.org").unwrap())],
        body_type: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
        origin: Origin::internal(Source::Dsn, Timestamp::from_millis(0)),
    };
    let made = encode_message(ID, &envelope, &Tags::new(), b"", &body).unwrap();
    let read = decode_message(ID, &check_fixture("v2", "message-file", &made.bytes)).unwrap();
    assert_eq!(read, MessageRecord { envelope, tags: Tags::new(), header: Bytes::new(), body });
}

#[test]
fn unit_in_the_due_index() {
    let key = unit().due_key();
    let record = check_fixture("v1", "unit", &encode_unit(&unit(), &due_key(key)));
    assert_eq!(decode_unit(key, &record).unwrap(), unit());
    let elsewhere = DueKey { number: 4, ..key };
    assert!(decode_unit(elsewhere, &record).is_err(), "a record under another key is corrupt");
}

#[test]
fn parked_units() {
    let key = suspended_key(ID, 3);
    let next_at = unit().next_at;
    for (name, parked) in [
        ("parked-held", SuspendedUnit::Held { reason: "plugin: quarantine".to_owned(), unit: unit() }),
        ("parked-corrupt-message", SuspendedUnit::CorruptMessage { detail: "its CRC".to_owned(), unit: unit() }),
        (
            "parked-corrupt-unit",
            SuspendedUnit::CorruptUnit { detail: "its CRC".to_owned(), next_at, record: Bytes::from_static(b"?") },
        ),
    ] {
        let record = check_fixture("v1", name, &encode_suspended(&key, &parked));
        assert_eq!(decode_suspended(&key, ID, 3, &record).unwrap(), parked);
    }
}

#[test]
fn state_and_numbers() {
    let state = StateRecord { low: unit().due_key(), last_id: ID };
    assert_eq!(decode_state(b"state", &check_fixture("v1", "state", &encode_state(b"state", state))).unwrap(), state);
    assert_eq!(decode_number(b"epoch", &check_fixture("v1", "number", &encode_number(b"epoch", 300))).unwrap(), 300);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let body = RecordBody::Inline(Bytes::from_static(b"body"));
    let record = encode_message(ID, &envelope(), &tags(), b"head", &body).unwrap().bytes;
    for at in 0..record.len() * 8 {
        let mut broken = record.to_vec();
        broken[at / 8] ^= 1 << (at % 8);
        assert!(decode_message(ID, &broken.into()).is_err(), "bit {at}");
    }
    for length in 0..record.len() {
        assert!(decode_message(ID, &record.slice(..length)).is_err(), "cut after {length}");
    }
}

/// With a valid CRC in front, so that the fields are reached.
fn sealed(payload: &[u8], version: u8, key: &[u8]) -> Bytes {
    let mut writer = RecordWriter::new_record(version, payload.len());
    writer.0.extend_from_slice(payload);
    writer.seal(key).into()
}

proptest! {
    #[test]
    fn nothing_panics_on_any_octets(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (due, parked) = (unit().due_key(), suspended_key(ID, 3));
        for version in 1..=MESSAGE_VERSION {
            drop(decode_message(ID, &sealed(&payload, version, &ID.to_key())));
        }
        drop(decode_unit(due, &sealed(&payload, UNIT_VERSION, &due_key(due))));
        drop(decode_suspended(&parked, ID, 3, &sealed(&payload, SUSPENDED_VERSION, &parked)));
        let _ = decode_state(b"state", &sealed(&payload, STATE_VERSION, b"state"));
        let _ = decode_number(b"epoch", &sealed(&payload, NUMBER_VERSION, b"epoch"));
    }

    #[test]
    fn numbers_are_read_back(value in any::<u64>()) {
        let record = encode_number(b"k", value);
        prop_assert_eq!(decode_number(b"k", &record).unwrap(), value);
    }

    #[test]
    fn due_keys_sort_as_their_octets(a in any::<(u8, u8, u8)>(), b in any::<(u8, u8, u8)>()) {
        let key = |(at, id, number): (u8, u8, u8)| DueKey {
            next_at: Timestamp::from_millis(u64::from(at) << 20),
            id: QueueId::from_u64(u64::from(id) << 30),
            number: u16::from(number) << 4,
        };
        prop_assert_eq!(key(a).cmp(&key(b)), due_key(key(a)).cmp(&due_key(key(b))));
        prop_assert_eq!(parse_due_key(&due_key(key(a))), Some(key(a)));
        prop_assert!(key(a).next() > key(a));
    }
}
