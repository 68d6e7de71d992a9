//! Encoding of texts, which end with NUL, and numbers.

use bytes::{Buf, Bytes};
use memchr::memchr;

use crate::codec::PacketError;

/// Reader of the data of a packet.
pub(crate) struct PacketReader {
    remaining: Bytes,
    packet_name: &'static str,
}

impl PacketReader {
    pub(crate) fn new(data: Bytes, what: &'static str) -> Self {
        Self { remaining: data, packet_name: what }
    }

    fn malformed(&self) -> PacketError {
        PacketError::Malformed(self.packet_name)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.remaining.is_empty()
    }

    pub(crate) fn read_u8(&mut self) -> Result<u8, PacketError> {
        self.remaining.try_get_u8().map_err(|_| self.malformed())
    }

    pub(crate) fn read_u16(&mut self) -> Result<u16, PacketError> {
        self.remaining.try_get_u16().map_err(|_| self.malformed())
    }

    pub(crate) fn read_u32(&mut self) -> Result<u32, PacketError> {
        self.remaining.try_get_u32().map_err(|_| self.malformed())
    }

    /// Reads a text up to the next NUL; a missing NUL is an error.
    pub(crate) fn text(&mut self) -> Result<Bytes, PacketError> {
        let end = memchr(0, &self.remaining).ok_or_else(|| self.malformed())?;
        let text = self.remaining.split_to(end);
        self.remaining.advance(1);
        Ok(text)
    }

    /// Reads all remaining texts.
    pub(crate) fn texts(&mut self) -> Result<Vec<Bytes>, PacketError> {
        let mut texts = Vec::new();
        while !self.is_at_end() {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    /// Returns an error unless all data was read.
    pub(crate) fn finish(self) -> Result<(), PacketError> {
        if self.remaining.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Appends a packet to `out`; `fill` writes the data.
pub(crate) fn write_packet(out: &mut Vec<u8>, code: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, code]);
    fill(out);
    // Packets of this server are far below 4 GiB: header and body are split before.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a text and NUL. NUL bytes within the text are removed, because each would end the text early.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    match memchr(0, text) {
        None => out.extend_from_slice(text),
        Some(_) => out.extend(text.iter().copied().filter(|octet| *octet != 0)),
    }
    out.push(0);
}
