//! Payloads of host calls: bytes of the guest, or bytes of the message without a copy through the guest.

use bytes::Bytes;
use wasmtime::Result;
use waxwing_bindings::imports::types::Payload;

use crate::settings::MessageAccess;
use crate::state::InstanceState;

/// Failure to provide a payload.
pub(crate) enum PayloadError {
    /// Plugin without the grant to read the message.
    NotGranted,
    /// Payload larger than the limit.
    TooLarge,
    /// No message at this hook, no such part, or part unreadable.
    NotHere(String),
}

impl InstanceState {
    /// Returns a payload of at most `bytes_max` bytes. A read failure of the message ends the call.
    pub(crate) async fn payload(
        &mut self,
        payload: Payload,
        bytes_max: usize,
    ) -> Result<std::result::Result<Bytes, PayloadError>> {
        let full = self.shared.grants.message == MessageAccess::Full;
        let content = match payload {
            Payload::Bytes(octets) => Bytes::from(octets),
            Payload::Message | Payload::Part(_) if !full => return Ok(Err(PayloadError::NotGranted)),
            Payload::Message => {
                if self.call.context.size() > bytes_max as u64 {
                    return Ok(Err(PayloadError::TooLarge));
                }
                match self.read_message(0, bytes_max).await? {
                    Some(octets) => octets.into(),
                    None => return Ok(Err(PayloadError::NotHere("there is no message at this hook".to_owned()))),
                }
            }
            Payload::Part(index) => match self.part_content(index).await? {
                Ok(octets) => octets,
                Err(error) => return Ok(Err(PayloadError::NotHere(format!("part {index}: {error}")))),
            },
        };
        Ok(if content.len() > bytes_max { Err(PayloadError::TooLarge) } else { Ok(content) })
    }
}
