//! Packet framing: a length and a payload.

use bytes::{Buf, Bytes, BytesMut};

/// Maximum size of a packet from a milter in bytes, including the code.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Maximum length of an excerpt of invalid data in an error, in bytes.
const EXCERPT_BYTES_MAX: usize = 60;

/// Failure to parse a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The length exceeds the limit.
    #[error("a packet of {length} octets is too long")]
    TooLong {
        /// Length field of the packet.
        length: u32,
        /// First received bytes as text, for diagnosis.
        excerpt: String,
    },
    /// The packet has no code.
    #[error("a packet has no code")]
    Empty,
    /// The code is not part of the protocol.
    #[error("the code 0x{0:02x} is unknown")]
    UnknownCode(u8),
    /// The data does not match the code.
    #[error("the packet \"{0}\" is malformed")]
    Malformed(&'static str),
}

/// A packet of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MilterPacket {
    /// Code of the command or response.
    pub code: u8,
    /// Data after the code.
    pub data: Bytes,
}

/// Splits a byte stream into packets. Errors persist, because an invalid packet stays in the buffer.
#[derive(Debug)]
pub struct PacketSplitter {
    buffer: BytesMut,
    bytes_max: usize,
}

impl PacketSplitter {
    /// Creates a splitter; `bytes_max` limits a packet, including the code.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// Appends received bytes.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Returns whether no bytes are buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Returns the next complete packet; `None` if more bytes are needed.
    pub fn next_packet(&mut self) -> Result<Option<MilterPacket>, PacketError> {
        let Some((length, _)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size == 0 {
            return Err(PacketError::Empty);
        }
        if size > self.bytes_max {
            let excerpt =
                String::from_utf8_lossy(self.buffer.get(..self.buffer.len().min(EXCERPT_BYTES_MAX)).unwrap_or_default());
            return Err(PacketError::TooLong { length, excerpt: excerpt.into_owned() });
        }
        if self.buffer.len() - 4 < size {
            self.buffer.reserve(size + 4 - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut data = self.buffer.split_to(size).freeze();
        Ok(Some(MilterPacket { code: data.get_u8(), data }))
    }
}
