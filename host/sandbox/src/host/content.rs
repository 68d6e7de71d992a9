//! `content`: body and parts, read as far as asked.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::Result;
use waxwing_bindings::imports::content::{Host, MimePart, ReadError};
use waxwing_pipeline::FaultKind;

use crate::parts::{self, Part};
use crate::state::State;

type Read<T> = std::result::Result<T, ReadError>;

impl State {
    /// At most `length` octets of the whole message. A failure ends the call: it never looks like the end.
    async fn read_message(&mut self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
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

    /// The parts, made at the first question of a call.
    async fn take_apart(&mut self) -> Result<Read<Arc<Vec<Part>>>> {
        if let Some(parts) = &self.call.parts {
            return Ok(Ok(Arc::clone(parts)));
        }
        let max = self.shared.limits.parts_bytes_max;
        if self.call.context.size() > max {
            return Ok(Err(ReadError::Undecodable(format!("the message has more than {max} octets"))));
        }
        let length = usize::try_from(max).unwrap_or(usize::MAX);
        let Some(raw) = self.read_message(0, length).await? else { return Ok(Err(ReadError::NotHere)) };
        let parts = Arc::new(parts::index(&Bytes::from(raw)));
        self.call.parts = Some(Arc::clone(&parts));
        Ok(Ok(parts))
    }
}

fn mime_part(index: u32, part: &Part) -> MimePart {
    MimePart {
        index,
        parent: part.parent,
        content_type: part.content_type.clone(),
        charset: part.charset.clone(),
        filename: part.filename.clone(),
        inline: part.inline,
        size: part.content.as_ref().map_or(0, |c| c.len() as u64),
    }
}

impl Host for State {
    async fn parts(&mut self) -> Result<Read<Vec<MimePart>>> {
        Ok(self.take_apart().await?.map(|parts| (0..).zip(&*parts).map(|(index, part)| mime_part(index, part)).collect()))
    }

    async fn read_part(&mut self, index: u32, offset: u64, length: u32) -> Result<Read<Vec<u8>>> {
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        Ok(self.take_apart().await?.and_then(|parts| {
            let part = parts.get(index as usize).ok_or(ReadError::NoSuchPart)?;
            let content =
                part.content.as_ref().ok_or_else(|| ReadError::Undecodable("its transfer encoding is broken".to_owned()))?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
            let end = start.saturating_add(length).min(content.len());
            Ok(content.slice(start..end).to_vec())
        }))
    }

    async fn read_raw(&mut self, offset: u64, length: u32) -> Result<Read<Vec<u8>>> {
        let length = (length as usize).min(self.shared.limits.read_bytes_max);
        Ok(self.read_message(offset, length).await?.ok_or(ReadError::NotHere))
    }
}
