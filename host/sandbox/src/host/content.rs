//! Interface `content`: body and MIME parts, read on demand.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wasmtime::Result;
use waxwing_bindings::imports::content::{Host, MimePart, ReadError};
use waxwing_message::{Part, Parts, TooManyParts};
use waxwing_pipeline::FaultKind;

use crate::state::{Call, State};

type Read<T> = std::result::Result<T, ReadError>;

impl State {
    /// Reads at most `length` bytes of the message. A read failure ends the call, so a failure is never mistaken for the end of
    /// the message.
    pub(crate) async fn read_message(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let (Some(head), Some(body)) = (self.call.head_bytes(), self.call.context.body.clone()) else { return Ok(None) };
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
                Err(error) => return Err(self.end(FaultKind::Host, format!("the message cannot be read: {error}"))),
            }
        }
        Ok(Some(octets.freeze()))
    }

    /// Returns the decoded content of a part.
    pub(crate) async fn part(&mut self, index: u32) -> Result<Read<Bytes>> {
        Ok(match self.take_apart().await? {
            Err(why) => Err(why.into()),
            Ok(parts) => self.call.content_of(&parts, index).ok_or(ReadError::NoSuchPart),
        })
    }

    /// Parses the message into parts, once per call.
    pub(crate) async fn take_apart(&mut self) -> Result<std::result::Result<Arc<Parts>, Whole>> {
        if let Some(parts) = &self.call.parts {
            return Ok(Ok(Arc::clone(parts)));
        }
        let max = self.shared.limits.parts_bytes_max;
        if self.call.context.size() > max {
            return Ok(Err(Whole::TooLarge(max)));
        }
        let (Some(head), Some(body)) = (self.call.context.head.clone(), self.read_body().await?) else {
            return Ok(Err(Whole::NotHere));
        };
        Ok(match Parts::read(&head, body) {
            Ok(parts) => Ok(Arc::clone(self.call.parts.insert(Arc::new(parts)))),
            Err(error) => Err(Whole::TooMany(error)),
        })
    }
}

impl Call {
    /// Returns the content of a part, decoded once per call: a plugin that reads in small pieces would otherwise decode for
    /// each piece.
    fn content_of(&mut self, parts: &Parts, index: u32) -> Option<Bytes> {
        if let Some(content) = self.contents.get(&index) {
            return Some(content.clone());
        }
        let content = parts.content(index)?;
        self.contents.insert(index, content.clone());
        Some(content)
    }
}

/// Failure to parse the message into parts.
pub(crate) enum Whole {
    /// Message not complete, or not available at this hook.
    NotHere,
    /// Message larger than the limit in bytes.
    TooLarge(u64),
    /// More parts than the limit.
    TooMany(TooManyParts),
}

impl From<Whole> for ReadError {
    fn from(why: Whole) -> Self {
        match why {
            Whole::NotHere => Self::NotHere,
            Whole::TooLarge(max) => Self::Undecodable(format!("the message has more than {max} octets")),
            Whole::TooMany(error) => Self::Undecodable(error.to_string()),
        }
    }
}

fn mime_part(part: &Part) -> MimePart {
    MimePart {
        index: part.index,
        parent: part.parent,
        content_type: part.content_type.clone(),
        charset: part.charset.clone(),
        filename: part.filename.clone(),
        inline: part.inline,
        size: part.size,
    }
}

impl Host for State {
    async fn parts(&mut self) -> Result<Read<Vec<MimePart>>> {
        self.called("content.parts");
        Ok(self.take_apart().await?.map(|parts| parts.list().iter().map(mime_part).collect()).map_err(ReadError::from))
    }

    async fn read_part(&mut self, index: u32, offset: u64, length: u32) -> Result<Read<Vec<u8>>> {
        self.called("content.read-part");
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        let content = match self.take_apart().await? {
            Err(why) => return Ok(Err(why.into())),
            Ok(parts) => self.call.content_of(&parts, index),
        };
        Ok(content.ok_or(ReadError::NoSuchPart).map(|content| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(length).min(content.len());
            content.slice(start..end).to_vec()
        }))
    }

    async fn read_raw(&mut self, offset: u64, length: u32) -> Result<Read<Vec<u8>>> {
        self.called("content.read-raw");
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        Ok(self.read_message(offset, length).await?.ok_or(ReadError::NotHere))
    }
}
