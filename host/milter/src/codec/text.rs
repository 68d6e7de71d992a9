//! Texts that end with NUL, and numbers.

use bytes::{Buf, Bytes};
use memchr::memchr;

use crate::codec::WireError;

/// Reads the data of one packet.
pub(crate) struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    pub(crate) fn new(data: Bytes, what: &'static str) -> Self {
        Self { rest: data, what }
    }

    fn malformed(&self) -> WireError {
        WireError::Malformed(self.what)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn octet(&mut self) -> Result<u8, WireError> {
        self.rest.try_get_u8().map_err(|_| self.malformed())
    }

    pub(crate) fn short(&mut self) -> Result<u16, WireError> {
        self.rest.try_get_u16().map_err(|_| self.malformed())
    }

    pub(crate) fn long(&mut self) -> Result<u32, WireError> {
        self.rest.try_get_u32().map_err(|_| self.malformed())
    }

    /// Up to the next NUL, which must be there.
    pub(crate) fn text(&mut self) -> Result<Bytes, WireError> {
        let end = memchr(0, &self.rest).ok_or_else(|| self.malformed())?;
        let text = self.rest.split_to(end);
        self.rest.advance(1);
        Ok(text)
    }

    /// All texts that follow.
    pub(crate) fn texts(&mut self) -> Result<Vec<Bytes>, WireError> {
        let mut texts = Vec::new();
        while !self.is_at_end() {
            texts.push(self.text()?);
        }
        Ok(texts)
    }

    /// Nothing follows.
    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Appends one packet to `out`; `fill` writes its data.
pub(crate) fn packet(out: &mut Vec<u8>, code: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, code]);
    fill(out);
    // Our own packets are far below 4 GiB: heads and bodies are cut before.
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a text and its NUL. A NUL within would end it early and make another text of the rest: it is left out.
pub(crate) fn text(out: &mut Vec<u8>, text: &[u8]) {
    match memchr(0, text) {
        None => out.extend_from_slice(text),
        Some(_) => out.extend(text.iter().copied().filter(|octet| *octet != 0)),
    }
    out.push(0);
}
