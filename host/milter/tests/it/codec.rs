//! The laws of the codec: any chopping, no panic, what is printed is read as the same.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use waxwing_milter::codec::{
    ActionFlags, MacroStage, MilterAddress, MilterCommand, MilterOptions, MilterPacket, MilterResponse, PacketError,
    PacketSplitter, ProtocolFlags, RESPONSE_BYTES_MAX,
};

fn text() -> impl Strategy<Value = Bytes> {
    vec(1..=255_u8, 0..40).prop_map(Bytes::from)
}

fn octets() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn terms() -> impl Strategy<Value = MilterOptions> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(version, actions, steps)| MilterOptions {
        version,
        actions: ActionFlags(actions),
        protocol: ProtocolFlags(steps),
        macros: vec![],
    })
}

fn terms_with_macros() -> impl Strategy<Value = MilterOptions> {
    let names = vec("[a-z]|\\{[a-z_]{1,10}\\}", 1..4);
    let macros = vec((prop::sample::select(MacroStage::ALL.to_vec()), names), 0..4);
    (terms(), macros).prop_map(|(terms, macros)| MilterOptions { macros, ..terms })
}

fn family() -> impl Strategy<Value = MilterAddress> {
    prop_oneof![
        Just(MilterAddress::Unknown),
        text().prop_map(MilterAddress::Unix),
        (any::<u16>(), text()).prop_map(|(port, ip)| MilterAddress::Inet(port, ip)),
        (any::<u16>(), text()).prop_map(|(port, ip)| MilterAddress::Inet6(port, ip)),
    ]
}

fn command() -> impl Strategy<Value = MilterCommand> {
    prop_oneof![
        terms().prop_map(MilterCommand::Negotiate),
        (any::<u8>(), vec((text(), text()), 0..4)).prop_map(|(of, list)| MilterCommand::Macros(of, list)),
        (text(), family()).prop_map(|(host, family)| MilterCommand::Connect(host, family)),
        text().prop_map(MilterCommand::Helo),
        vec(text(), 0..4).prop_map(MilterCommand::Mail),
        vec(text(), 0..4).prop_map(MilterCommand::Rcpt),
        (text(), text()).prop_map(|(name, value)| MilterCommand::Header(name, value)),
        octets().prop_map(MilterCommand::Body),
        octets().prop_map(MilterCommand::EndOfBody),
        text().prop_map(MilterCommand::Unknown),
        prop::sample::select(vec![
            MilterCommand::Data,
            MilterCommand::EndOfHeader,
            MilterCommand::Abort,
            MilterCommand::Quit,
            MilterCommand::QuitNewConnection
        ]),
    ]
}

fn response() -> impl Strategy<Value = MilterResponse> {
    prop_oneof![
        terms_with_macros().prop_map(MilterResponse::Negotiate),
        text().prop_map(MilterResponse::ReplyCode),
        (text(), text()).prop_map(|(n, v)| MilterResponse::AddHeader(n, v)),
        (any::<u32>(), text(), text()).prop_map(|(at, n, v)| MilterResponse::InsertHeader(at, n, v)),
        (any::<u32>(), text(), text()).prop_map(|(at, n, v)| MilterResponse::ChangeHeader(at, n, v)),
        (text(), prop::option::of(text())).prop_map(|(a, p)| MilterResponse::ChangeSender(a, p)),
        (text(), prop::option::of(text())).prop_map(|(a, p)| MilterResponse::AddRecipientWithParameters(a, p)),
        text().prop_map(MilterResponse::AddRecipient),
        text().prop_map(MilterResponse::DeleteRecipient),
        octets().prop_map(MilterResponse::ReplaceBody),
        text().prop_map(MilterResponse::Quarantine),
        prop::sample::select(vec![
            MilterResponse::Continue,
            MilterResponse::Accept,
            MilterResponse::Reject,
            MilterResponse::TemporaryFailure,
            MilterResponse::Discard,
            MilterResponse::Skip,
            MilterResponse::Shutdown,
            MilterResponse::ConnectionFailure,
            MilterResponse::Progress,
        ]),
    ]
}

/// All packets, pushed in pieces of these sizes in turn; the error that ended it, if one did.
fn frames(wire: &[u8], sizes: &[usize], bytes_max: usize) -> (Vec<MilterPacket>, Option<PacketError>) {
    let (mut frames, mut found, mut rest) = (PacketSplitter::new(bytes_max), Vec::new(), wire);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(*size));
        frames.push(piece);
        rest = after;
        loop {
            match frames.next_packet() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_printed(commands in vec(command(), 1..6), sizes in vec(1..50_usize, 1..8)) {
        let mut wire = Vec::new();
        commands.iter().for_each(|c| c.write_to(&mut wire));
        let (found, error) = frames(&wire, &sizes, RESPONSE_BYTES_MAX);
        prop_assert_eq!(error, None);
        let read: Vec<MilterCommand> = found.into_iter().map(|f| MilterCommand::parse(f).unwrap()).collect();
        prop_assert_eq!(read, commands);
    }

    #[test]
    fn responses_are_read_as_they_were_printed(responses in vec(response(), 1..6), sizes in vec(1..50_usize, 1..8)) {
        let mut wire = Vec::new();
        responses.iter().for_each(|r| r.write_to(&mut wire));
        let (found, error) = frames(&wire, &sizes, RESPONSE_BYTES_MAX);
        prop_assert_eq!(error, None);
        let read: Vec<MilterResponse> = found.into_iter().map(|f| MilterResponse::parse(f).unwrap()).collect();
        prop_assert_eq!(read, responses);
    }

    #[test]
    fn nothing_panics_and_any_chopping_gives_the_same(wire in vec(any::<u8>(), 0..400), sizes in vec(1..50_usize, 1..8)) {
        let (whole, error) = frames(&wire, &[wire.len().max(1)], 64);
        let (chopped, chopped_error) = frames(&wire, &sizes, 64);
        prop_assert_eq!(&whole, &chopped);
        prop_assert_eq!(error.map(|e| e.to_string()), chopped_error.map(|e| e.to_string()));
        for frame in whole {
            let _ = MilterCommand::parse(frame.clone());
            let _ = MilterResponse::parse(frame);
        }
    }

    #[test]
    fn nothing_panics_on_any_data(code in any::<u8>(), data in octets()) {
        let _ = MilterCommand::parse(MilterPacket { code, data: data.clone() });
        let _ = MilterResponse::parse(MilterPacket { code, data });
    }
}

#[test]
fn packets_are_as_libmilter_defines_them() {
    let wire = |command: MilterCommand| {
        let mut out = Vec::new();
        command.write_to(&mut out);
        out
    };
    let offer = MilterOptions { version: 6, actions: ActionFlags::ALL, protocol: ProtocolFlags::OFFERED, macros: vec![] };
    assert_eq!(wire(MilterCommand::Negotiate(offer)), b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xf7\xff");
    let peer = MilterAddress::Inet(25, Bytes::from_static(b"192.0.2.1"));
    assert_eq!(
        wire(MilterCommand::Connect(Bytes::from_static(b"a.example"), peer)),
        b"\0\0\0\x18Ca.example\x004\0\x19192.0.2.1\0"
    );
    let mail = vec![Bytes::from_static(b"<a@b.example>"), Bytes::from_static(b"SIZE=5")];
    assert_eq!(wire(MilterCommand::Mail(mail)), b"\0\0\0\x16M<a@b.example>\0SIZE=5\0");
    let macros = vec![(Bytes::from_static(b"i"), Bytes::from_static(b"77"))];
    assert_eq!(wire(MilterCommand::Macros(b'M', macros)), b"\0\0\0\x07DMi\x0077\0");
    let header = MilterCommand::Header(Bytes::from_static(b"A"), Bytes::from_static(b"one\n two"));
    assert_eq!(wire(header), b"\0\0\0\x0cLA\0one\n two\0");
    assert_eq!(wire(MilterCommand::QuitNewConnection), b"\0\0\0\x01K");
}

#[test]
fn a_nul_cannot_begin_another_text() {
    let mut wire = Vec::new();
    MilterCommand::Header(Bytes::from_static(b"A\0"), Bytes::from_static(b"b\0c")).write_to(&mut wire);
    assert_eq!(wire, b"\0\0\0\x06LA\0bc\0");
}

#[test]
fn a_packet_that_is_too_long_is_refused_before_it_comes() {
    let mut frames = PacketSplitter::new(16);
    frames.push(b"220 mail.example ESMTP");
    let Err(PacketError::TooLong { excerpt, .. }) = frames.next_packet() else { panic!("a greeting passed for a packet") };
    assert_eq!(excerpt, "220 mail.example ESMTP");
    let mut frames = PacketSplitter::new(16);
    frames.push(b"\0\0\0\x00");
    assert_eq!(frames.next_packet(), Err(PacketError::Empty));
}
