//! Recording codec: recordings to octets and back, with redaction.

use bytes::{Bytes, BytesMut};
use waxwing_config::RecordingConfig;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{REDACTED, RecordedBody, Recording};

use crate::RecordDecodeError;
use crate::trace_codec::{redact_entry, redact_in_place};

/// First octet of a recording; any change of the format takes the next number, and recordings of other versions are skipped.
pub const RECORDING_VERSION: u8 = 2;
/// ESMTP parameters with values never written: the identity behind a submission (RFC 4954 §5).
const SECRET_PARAMETERS: [&str; 1] = ["AUTH"];

/// Encodes a recording after redaction.
pub(crate) fn encode(mut recording: Recording, config: &RecordingConfig) -> Bytes {
    if let (true, RecordedBody::Complete(body)) = (config.redact_body, &recording.body) {
        recording.body = RecordedBody::Redacted { size: body.len() as u64 };
    }
    if let (true, RecordedBody::TooLarge { size }) = (config.redact_body, &recording.body) {
        recording.body = RecordedBody::Redacted { size: *size };
    }
    if let Some(head) = recording.header.take() {
        recording.header = Some(redact_head(&head, config, &mut recording.redacted_headers));
    }
    for (_, value) in recording.mail_parameters.iter_mut().filter(|(keyword, _)| is_secret(keyword)) {
        *value = Some(REDACTED.to_owned());
    }
    redact_in_place(&mut recording.reply);
    redact_in_place(&mut recording.helo);
    for entry in &mut recording.entries {
        redact_entry(entry);
        entry.edits.iter_mut().for_each(|edit| redact_edit(edit, &config.redact_headers));
    }
    // Serialising into memory fails only for types without a form in the encoding; recordings have none.
    postcard::to_extend(&recording, vec![RECORDING_VERSION]).unwrap_or_default().into()
}

fn is_secret(keyword: &str) -> bool {
    SECRET_PARAMETERS.iter().any(|secret| keyword.eq_ignore_ascii_case(secret))
}

fn redact_head(head: &Bytes, config: &RecordingConfig, redacted: &mut Vec<String>) -> Bytes {
    let is_hidden = |name: &str| config.redact_headers.iter().any(|hidden| name.eq_ignore_ascii_case(hidden));
    let block = HeaderBlock::parse(head.clone(), false);
    if !block.fields().iter().any(|field| is_hidden(field.name())) {
        return head.clone();
    }
    let mut out = BytesMut::with_capacity(head.len());
    let mut taken = 0;
    for field in block.fields() {
        taken += field.raw().len();
        if is_hidden(field.name()) {
            out.extend_from_slice(format!("{}: {REDACTED}\r\n", field.name()).as_bytes());
            if !redacted.iter().any(|name| name.eq_ignore_ascii_case(field.name())) {
                redacted.push(field.name().to_owned());
            }
        } else {
            out.extend_from_slice(field.raw());
        }
    }
    // Empty line after the header.
    out.extend_from_slice(head.get(taken..).unwrap_or_default());
    out.freeze()
}

/// Redacts a header edit of a plugin: `+Name: value`, `~Name[0]: value`, `+[0]Name: value`.
fn redact_edit(edit: &mut String, hidden: &[String]) {
    let Some((before, _)) = edit.split_once(": ") else { return };
    let name = before.trim_start_matches(['+', '~', '-']);
    let name = name.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(name, |(_, name)| name);
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    if hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)) {
        *edit = format!("{before}: {REDACTED}");
    }
}

pub(crate) fn decode(octets: &[u8]) -> Result<Recording, RecordDecodeError> {
    match octets.split_first() {
        Some((&RECORDING_VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((recording, [])) => Ok(recording),
            Ok(_) | Err(_) => Err(RecordDecodeError::Damaged),
        },
        Some((&other, _)) => Err(RecordDecodeError::Version(other)),
        None => Err(RecordDecodeError::Damaged),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use waxwing_pipeline::TraceEntry;
    use waxwing_types::{Source, Tags, Timestamp};

    use super::*;

    pub(crate) fn recording(id: &str) -> Recording {
        let at = Timestamp::from_millis(1_800_000_000_000);
        let mut entry = TraceEntry::server_step(at, "p", "on-message", "", "next");
        entry.edits = vec!["+X-Token: secret".into(), "~[0]x-token[1]: secret".into(), "+Date: x".into()];
        entry.log = vec!["AUTH PLAIN c2VjcmV0".into()];
        Recording {
            id: id.into(),
            at,
            peer: Some("192.0.2.1:25".parse().unwrap()),
            client_name: None,
            listener: "smtp".into(),
            source: Source::Smtp,
            helo: "me.example".into(),
            esmtp: true,
            sender: "a@b.example".into(),
            mail_parameters: vec![("AUTH".into(), Some("secret".into())), ("SIZE".into(), Some("5".into()))],
            recipients: vec![("c@d.example".into(), Vec::new())],
            header: Some(Bytes::from_static(b"Subject: x\r\nx-token: secret\r\n folded secret\r\nB: \xff\r\n\r\n")),
            body: RecordedBody::Complete(Bytes::from_static(b"the secret body \xfe\0\r\n")),
            redacted_headers: Vec::new(),
            tags: Tags::from([("k".to_owned(), "v".to_owned())]),
            final_verdict: "accept".into(),
            reply: "250 2.0.0 Ok".into(),
            entries: vec![entry],
        }
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let none = RecordingConfig {
            redact_body: false,
            redact_headers: Vec::new(),
            ..waxwing_config::Config::with_defaults().recording
        };
        let octets = encode(recording("1h0000000000q"), &none);
        let read = decode(&octets).unwrap();
        assert_eq!((read.header.clone(), read.body.clone()), (recording("x").header, recording("x").body));
        assert_eq!(decode(&[]), Err(RecordDecodeError::Damaged));
        assert_eq!(decode(&[9, 1, 2]), Err(RecordDecodeError::Version(9)));
        for length in 1..octets.len() {
            assert_eq!(decode(&octets[..length]), Err(RecordDecodeError::Damaged), "the first {length} octets");
        }
        let json = serde_json::to_string(&read).unwrap();
        assert!(json.contains("Subject: x\\r\\n"), "a person can read it: {json}");
        assert_eq!(serde_json::from_str::<Recording>(&json).unwrap(), read, "octets survive the control socket");
    }

    /// What version 2 looks like on disk. When this fails, the form has changed: raise [`RECORDING_VERSION`].
    #[test]
    fn version_2_is_what_it_was() {
        let octets = encode(
            recording("1h0000000000q"),
            &RecordingConfig {
                redact_body: false,
                redact_headers: Vec::new(),
                ..waxwing_config::Config::with_defaults().recording
            },
        );
        assert_eq!(octets.iter().map(|b| format!("{b:02x}")).collect::<String>(), VERSION_2);
    }

    const VERSION_2: &str = concat!(
        "020d3168303030303030303030307180a0f1c2b1340100c0000201190004736d7470000a6d652e6578616d706c65010b6140",
        "622e6578616d706c65020441555448010a287265646163746564290453495a45010135010b6340642e6578616d706c650001",
        "355375626a6563743a20780d0a782d746f6b656e3a207365637265740d0a20666f6c646564207365637265740d0a423a20ff",
        "0d0a0d0a01147468652073656372657420626f647920fe000d0a0001016b0176066163636570740c32353020322e302e3020",
        "4f6b0180a0f1c2b1340170000a6f6e2d6d65737361676500046e65787403102b582d546f6b656e3a20736563726574167e5b30",
        "5d782d746f6b656e5b315d3a20736563726574082b446174653a207800010001154155544820504c41494e20287265646163",
        "7465642900",
    );

    #[test]
    fn what_is_redacted_does_not_reach_the_disk() {
        let redaction = RecordingConfig {
            redact_body: true,
            redact_headers: vec!["X-Token".into()],
            ..waxwing_config::Config::with_defaults().recording
        };
        let octets = encode(recording("1h0000000000q"), &redaction);
        for secret in [&b"secret"[..], b"c2VjcmV0"] {
            assert!(!octets.windows(secret.len()).any(|window| window == secret));
        }
        let read = decode(&octets).unwrap();
        assert_eq!(read.body, RecordedBody::Redacted { size: 20 });
        assert_eq!(read.header.unwrap(), &b"Subject: x\r\nx-token: (redacted)\r\nB: \xff\r\n\r\n"[..]);
        assert_eq!(read.redacted_headers, ["x-token"]);
        assert_eq!(read.mail_parameters[1].1.as_deref(), Some("5"));
        assert_eq!(read.entries[0].edits[2], "+Date: x");
    }
}
