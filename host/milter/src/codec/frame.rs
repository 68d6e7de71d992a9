//! Packets: a length and as many octets.

use bytes::{Buf, Bytes, BytesMut};

/// Octets of one packet from a milter, its code included.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// Octets of what is no packet that an error shows.
const EXCERPT_BYTES_MAX: usize = 60;

/// Why octets are no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It says that it is this long; the first octets that came, as text.
    #[error("a packet of {length} octets is too long")]
    TooLong {
        /// Its length.
        length: u32,
        /// What came, for a person.
        excerpt: String,
    },
    /// A packet without a code.
    #[error("a packet has no code")]
    Empty,
    /// A code that nobody has defined.
    #[error("the code 0x{0:02x} is unknown")]
    UnknownCode(u8),
    /// The data does not fit the code.
    #[error("the packet \"{0}\" is malformed")]
    Malformed(&'static str),
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub code: u8,
    /// The rest.
    pub data: Bytes,
}

/// Cuts octets into packets. It holds what was pushed and not yet taken; an error stays.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    bytes_max: usize,
}

impl Frames {
    /// `bytes_max` bounds one packet, its code included.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), bytes_max }
    }

    /// More octets.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Nothing waits that was not taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next whole packet. `None`: more octets are needed.
    pub fn take(&mut self) -> Result<Option<Frame>, WireError> {
        let Some((length, _)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size == 0 {
            return Err(WireError::Empty);
        }
        if size > self.bytes_max {
            let excerpt =
                String::from_utf8_lossy(self.buffer.get(..self.buffer.len().min(EXCERPT_BYTES_MAX)).unwrap_or_default());
            return Err(WireError::TooLong { length, excerpt: excerpt.into_owned() });
        }
        if self.buffer.len() - 4 < size {
            self.buffer.reserve(size + 4 - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        let mut data = self.buffer.split_to(size).freeze();
        Ok(Some(Frame { code: data.get_u8(), data }))
    }
}
