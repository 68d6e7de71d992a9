//! Buffer for input received while a question is open.

/// Capacity in octets retained by an empty buffer, so that an idle session costs little memory.
const IDLE_CAPACITY_BYTES_MAX: usize = 4096;

/// Input waiting for an answer of the host. Never longer than one input of the session loop: the loop reads nothing
/// while a question is open.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer {
    bytes: Vec<u8>,
    consumed: usize,
}

impl InputBuffer {
    /// Returns the octets not yet consumed.
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.consumed..).unwrap_or_default()
    }

    /// Appends octets to the unread octets.
    pub(crate) fn append(&mut self, rest: &[u8]) {
        self.bytes.extend_from_slice(rest);
    }

    /// Drops all but the last `left` octets.
    pub(crate) fn retain_last(&mut self, left: usize) {
        self.consumed = self.bytes.len().saturating_sub(left);
        if left == 0 {
            self.consumed = 0;
            self.bytes.clear();
            self.bytes.shrink_to(IDLE_CAPACITY_BYTES_MAX);
        }
    }
}
