//! Octets that a guest hands over: its own, or those of the message, which then need no copy through it.

use bytes::Bytes;
use wasmtime::Result;
use waxwing_bindings::imports::types::Payload;

use crate::settings::MessageGrant;
use crate::state::State;

/// Why there are none.
pub(crate) enum PayloadError {
    /// It may not read the message.
    NotGranted,
    /// More than allowed.
    TooLarge,
    /// There is no message at this hook, no such part, or it can't be read.
    NotHere(String),
}

impl State {
    /// At most `bytes_max` octets. A message that can't be read ends the call.
    pub(crate) async fn payload(
        &mut self,
        payload: Payload,
        bytes_max: usize,
    ) -> Result<std::result::Result<Bytes, PayloadError>> {
        let full = self.shared.grants.message == MessageGrant::Full;
        let found = match payload {
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
            Payload::Part(index) => match self.part(index).await? {
                Ok(octets) => octets,
                Err(error) => return Ok(Err(PayloadError::NotHere(format!("part {index}: {error}")))),
            },
        };
        Ok(if found.len() > bytes_max { Err(PayloadError::TooLarge) } else { Ok(found) })
    }
}
