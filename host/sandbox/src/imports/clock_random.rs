//! Interfaces `clock` and `random`: the sources of difference between two runs of the same call.

use wasmtime::Result;
use waxwing_bindings::imports::{clock, random};
use waxwing_pipeline::FaultKind;

use crate::state::InstanceState;

/// Maximum number of bytes in one answer.
const RANDOM_BYTES_MAX: u32 = 64 << 10;

impl clock::Host for InstanceState {
    fn now_ms(&mut self) -> Result<u64> {
        self.called("clock.now-ms");
        Ok(self.shared.clock.now().as_millis())
    }
}

impl random::Host for InstanceState {
    /// A request over the limit ends the call: a shorter answer could be mistaken for the requested length.
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>> {
        self.called("random.bytes");
        if length > RANDOM_BYTES_MAX {
            return Err(
                self.abort_call(FaultKind::BadAnswer, format!("random: {length} octets, where {RANDOM_BYTES_MAX} are possible"))
            );
        }
        let mut octets = vec![0; length as usize];
        match getrandom::fill(&mut octets) {
            Ok(()) => Ok(octets),
            Err(error) => Err(self.abort_call(FaultKind::Host, format!("no system randomness: {error}"))),
        }
    }
}
