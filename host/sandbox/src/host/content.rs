//! `content`: body and parts, read as far as asked.

use wasmtime::Result;
use waxwing_bindings::imports::content::{Host, MimePart, ReadError};
use waxwing_pipeline::FaultKind;

use crate::state::State;

impl State {
    /// At most `length` octets of the whole message. A failure ends the call: it never looks like the end.
    async fn read_message(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let (Some(head), Some(body)) = (self.call.head_bytes(), self.call.context.body.clone()) else { return Ok(None) };
        let length = length.min(self.shared.limits.read_bytes_max);
        let head_size = head.len() as u64;
        let start = usize::try_from(offset.min(head_size)).unwrap_or(head.len());
        let mut octets = head.slice(start..head.len().min(start.saturating_add(length))).to_vec();
        while octets.len() < length {
            let at = (offset + octets.len() as u64).saturating_sub(head_size);
            match body.read(at, length - octets.len()).await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => octets.extend_from_slice(&piece),
                Err(error) => return Err(self.end(FaultKind::Host, format!("the message cannot be read: {error}"))),
            }
        }
        Ok(Some(octets))
    }
}

impl Host for State {
    async fn parts(&mut self) -> Result<std::result::Result<Vec<MimePart>, ReadError>> {
        Ok(Err(ReadError::NotHere))
    }

    async fn read_part(&mut self, _index: u32, _offset: u64, _length: u32) -> Result<std::result::Result<Vec<u8>, ReadError>> {
        Ok(Err(ReadError::NotHere))
    }

    async fn read_raw(&mut self, offset: u64, length: u32) -> Result<std::result::Result<Vec<u8>, ReadError>> {
        Ok(self.read_message(offset, length as usize).await?.ok_or(ReadError::NotHere))
    }
}
