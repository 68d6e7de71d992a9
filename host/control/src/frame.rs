//! Framing of control messages: splits a stream into lines and parses each line as JSON, within limits.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest request in bytes, LF included.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Largest response in bytes, LF included: a page of messages with long addresses, or a long trace.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Error of the framing. The connection is not usable after [`FrameError::TooLong`].
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// No LF within the limit, in bytes.
    #[error("a message on the control socket is longer than {0} octets")]
    TooLong(usize),
    /// Not JSON, or an unknown message.
    #[error("not a message of the control socket: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Buffers bytes until a line is complete. Holds at most the line limit plus a single input.
#[derive(Debug)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer known to contain no LF.
    searched: usize,
    line_bytes_max: usize,
}

impl FrameReader {
    /// Creates a reader with a line limit in bytes, [`REQUEST_BYTES_MAX`] or [`RESPONSE_BYTES_MAX`].
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), searched: 0, line_bytes_max }
    }

    /// Appends bytes read from the socket.
    pub fn push(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// Number of buffered bytes, not yet part of a complete line.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the next message, or `None` if no complete line is buffered. An error of the parser skips the line.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let unseen = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unseen) else {
            self.searched = self.buffer.len();
            return if self.searched >= self.line_bytes_max { Err(FrameError::TooLong(self.line_bytes_max)) } else { Ok(None) };
        };
        let end = self.searched + at;
        if end >= self.line_bytes_max {
            return Err(FrameError::TooLong(self.line_bytes_max));
        }
        let parsed = serde_json::from_slice(self.buffer.get(..end).unwrap_or_default());
        self.buffer.drain(..=end);
        self.searched = 0;
        Ok(Some(parsed?))
    }
}

/// Encodes a message as a JSON line, LF included. Fails above [`RESPONSE_BYTES_MAX`]; senders must bound their lists.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > RESPONSE_BYTES_MAX {
        return Err(FrameError::TooLong(RESPONSE_BYTES_MAX));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waxwing_types::QueueId;

    use super::*;
    use crate::{ControlErrorKind, ControlRequest, ControlResponse, PasswordRecordText, QueuePage};

    fn requests() -> Vec<ControlRequest> {
        let id = QueueId::from_u64(u64::MAX - 1);
        vec![
            ControlRequest::Ping,
            ControlRequest::QueueList { after: None, limit: 7 },
            ControlRequest::QueueList { after: Some("d-5".into()), limit: 7 },
            ControlRequest::QueueShow { id },
            ControlRequest::Trace { id },
            ControlRequest::TraceLast { limit: 3 },
            ControlRequest::PluginList,
            ControlRequest::PluginReload { name: None },
            ControlRequest::PluginReload { name: Some("spam".into()) },
            ControlRequest::PluginRollback { name: "spam".into() },
            ControlRequest::PluginPromote { name: "spam".into() },
            ControlRequest::ConfigShow,
            ControlRequest::TlsShow,
            ControlRequest::UserList { after: Some("anna".into()) },
            ControlRequest::UserAdd { name: "anna".into(), records: vec![PasswordRecordText("{X}y".into())] },
            ControlRequest::UserDelete { name: "anna".into() },
        ]
    }

    #[test]
    fn any_chopping_gives_the_same_requests() {
        let wire: Vec<u8> = requests().iter().flat_map(|r| encode_frame(r).unwrap()).collect();
        for size in 1..wire.len() {
            let mut frames = FrameReader::new(REQUEST_BYTES_MAX);
            let mut got = Vec::new();
            for piece in wire.chunks(size) {
                frames.push(piece);
                while let Some(request) = frames.next_message::<ControlRequest>().unwrap() {
                    got.push(request);
                }
            }
            assert_eq!(got, requests(), "pieces of {size}");
            assert_eq!(frames.buffered_bytes(), 0);
        }
    }

    #[test]
    fn records_are_not_shown() {
        let request = ControlRequest::UserPasswd { name: "anna".into(), records: vec![PasswordRecordText("{X}hush".into())] };
        assert!(!format!("{request:?}").contains("hush"));
        let line = String::from_utf8(encode_frame(&request).unwrap()).unwrap();
        assert_eq!(line, "{\"ask\":\"user-passwd\",\"name\":\"anna\",\"records\":[\"{X}hush\"]}\n");
    }

    #[test]
    fn ids_are_text_and_unknown_words_are_refused() {
        let line = encode_frame(&ControlRequest::Trace { id: QueueId::from_u64(5) }).unwrap();
        assert_eq!(line, b"{\"ask\":\"trace\",\"id\":\"0000000000005\"}\n");
        for bad in ["{\"ask\":\"trace\",\"id\":5}", "{\"ask\":\"reboot\"}", "{\"ask\":\"queue-show\"}", "hello", ""] {
            let mut frames = FrameReader::new(REQUEST_BYTES_MAX);
            frames.push(bad.as_bytes());
            frames.push(b"\n{\"ask\":\"ping\"}\n");
            assert!(matches!(frames.next_message::<ControlRequest>(), Err(FrameError::Malformed(_))), "{bad}");
            assert_eq!(
                frames.next_message::<ControlRequest>().unwrap(),
                Some(ControlRequest::Ping),
                "the line after {bad:?} is read"
            );
        }
    }

    #[test]
    fn a_long_line_is_refused_whether_it_ends_or_not() {
        for tail in ["", "\n"] {
            let mut frames = FrameReader::new(100);
            frames.push("x".repeat(100).as_bytes());
            frames.push(tail.as_bytes());
            assert!(matches!(frames.next_message::<ControlRequest>(), Err(FrameError::TooLong(100))));
        }
    }

    #[test]
    fn responses_come_back_as_they_were() {
        let page = ControlResponse::Queue(QueuePage { next: Some("p".into()), ..QueuePage::default() });
        let problem = ControlResponse::error(ControlErrorKind::NotFound, "no message has this id");
        for response in [page, problem, ControlResponse::Trace { records: vec![serde_json::json!({"a": 1})] }] {
            let mut frames = FrameReader::new(RESPONSE_BYTES_MAX);
            frames.push(&encode_frame(&response).unwrap());
            assert_eq!(frames.next_message::<ControlResponse>().unwrap(), Some(response));
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let mut frames = FrameReader::new(64);
            for piece in pieces {
                frames.push(&piece);
                loop {
                    match frames.next_message::<ControlRequest>() {
                        Ok(Some(_)) | Err(FrameError::Malformed(_)) => {}
                        Ok(None) => break,
                        Err(FrameError::TooLong(_)) => return Ok(()),
                    }
                }
                prop_assert!(frames.buffered_bytes() < 64);
            }
        }
    }
}
