//! Interface `content`: body and MIME parts, read on demand.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wasmtime::Result;
use waxwing_bindings::imports::content::{Host, MimePart as WitMimePart, ReadError};
use waxwing_message::{MimePart, MimeParts, TooManyParts};
use waxwing_pipeline::FaultKind;

use crate::state::{CallState, InstanceState};

type ReadResult<T> = std::result::Result<T, ReadError>;

impl InstanceState {
    /// Reads at most `length` bytes of the message. A read failure ends the call, so a failure is never mistaken for the end of
    /// the message.
    pub(crate) async fn read_message(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let (Some(head), Some(body)) = (self.call.encoded_header(), self.call.context.body.clone()) else { return Ok(None) };
        let head_size = head.len() as u64;
        let start = usize::try_from(offset.min(head_size)).unwrap_or(head.len());
        let mut octets = head.slice(start..head.len().min(start.saturating_add(length))).to_vec();
        while octets.len() < length {
            let at = (offset + octets.len() as u64).saturating_sub(head_size);
            match body.read(at, length - octets.len()).await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => octets.extend_from_slice(&piece),
                Err(error) => return Err(self.abort_call(FaultKind::Host, format!("the message cannot be read: {error}"))),
            }
        }
        Ok(Some(octets))
    }

    /// Reads the complete body. The size was checked before.
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let Some(body) = self.call.context.body.clone() else { return Ok(None) };
        if let Some(octets) = body.in_memory() {
            return Ok(Some(octets.clone()));
        }
        let size = usize::try_from(body.size()).unwrap_or(usize::MAX);
        let mut octets = BytesMut::with_capacity(size);
        while octets.len() < size {
            match body.read(octets.len() as u64, size - octets.len()).await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => octets.extend_from_slice(&piece),
                Err(error) => return Err(self.abort_call(FaultKind::Host, format!("the message cannot be read: {error}"))),
            }
        }
        Ok(Some(octets.freeze()))
    }

    /// Returns the decoded content of a part.
    pub(crate) async fn part_content(&mut self, index: u32) -> Result<ReadResult<Bytes>> {
        Ok(match self.parse_parts().await? {
            Err(why) => Err(why.into()),
            Ok(parts) => self.call.decoded_part(&parts, index).ok_or(ReadError::NoSuchPart),
        })
    }

    /// Parses the message into parts, once per call.
    pub(crate) async fn parse_parts(&mut self) -> Result<std::result::Result<Arc<MimeParts>, PartsUnavailable>> {
        if let Some(parts) = &self.call.parts {
            return Ok(Ok(Arc::clone(parts)));
        }
        let max = self.shared.limits.parts_bytes_max;
        if self.call.context.size() > max {
            return Ok(Err(PartsUnavailable::TooLarge(max)));
        }
        let (Some(head), Some(body)) = (self.call.context.header.clone(), self.read_body().await?) else {
            return Ok(Err(PartsUnavailable::NotHere));
        };
        Ok(match MimeParts::parse(&head, body) {
            Ok(parts) => Ok(Arc::clone(self.call.parts.insert(Arc::new(parts)))),
            Err(error) => Err(PartsUnavailable::TooManyParts(error)),
        })
    }
}

impl CallState {
    /// Returns the content of a part, decoded once per call: a plugin that reads in small pieces would otherwise decode for
    /// each piece.
    fn decoded_part(&mut self, parts: &MimeParts, index: u32) -> Option<Bytes> {
        if let Some(content) = self.decoded_parts.get(&index) {
            return Some(content.clone());
        }
        let content = parts.content(index)?;
        self.decoded_parts.insert(index, content.clone());
        Some(content)
    }
}

/// Failure to parse the message into parts.
pub(crate) enum PartsUnavailable {
    /// Message not complete, or not available at this hook.
    NotHere,
    /// Message larger than the limit in bytes.
    TooLarge(u64),
    /// More parts than the limit.
    TooManyParts(TooManyParts),
}

impl From<PartsUnavailable> for ReadError {
    fn from(why: PartsUnavailable) -> Self {
        match why {
            PartsUnavailable::NotHere => Self::NotHere,
            PartsUnavailable::TooLarge(max) => Self::Undecodable(format!("the message has more than {max} octets")),
            PartsUnavailable::TooManyParts(error) => Self::Undecodable(error.to_string()),
        }
    }
}

fn mime_part(part: &MimePart) -> WitMimePart {
    WitMimePart {
        index: part.index,
        parent: part.parent,
        content_type: part.content_type.clone(),
        charset: part.charset.clone(),
        filename: part.filename.clone(),
        inline: part.inline,
        size: part.size,
    }
}

impl Host for InstanceState {
    async fn parts(&mut self) -> Result<ReadResult<Vec<WitMimePart>>> {
        self.called("content.parts");
        Ok(self.parse_parts().await?.map(|parts| parts.list().iter().map(mime_part).collect()).map_err(ReadError::from))
    }

    async fn read_part(&mut self, index: u32, offset: u64, length: u32) -> Result<ReadResult<Vec<u8>>> {
        self.called("content.read-part");
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        let content = match self.parse_parts().await? {
            Err(why) => return Ok(Err(why.into())),
            Ok(parts) => self.call.decoded_part(&parts, index),
        };
        Ok(content.ok_or(ReadError::NoSuchPart).map(|content| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(length).min(content.len());
            content.slice(start..end).to_vec()
        }))
    }

    async fn read_raw(&mut self, offset: u64, length: u32) -> Result<ReadResult<Vec<u8>>> {
        self.called("content.read-raw");
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        Ok(self.read_message(offset, length).await?.ok_or(ReadError::NotHere))
    }
}
