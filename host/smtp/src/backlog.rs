//! Input that came with the octets that opened a question, kept until its answer.

/// Capacity that an empty backlog keeps, so that an idle session costs little.
const KEPT_BYTES_MAX: usize = 4096;

/// Never longer than what the loop gave in one input, since it gives none while a question is open.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    taken: usize,
}

impl Backlog {
    /// Octets not taken yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Adds octets behind those that wait.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        self.bytes.extend_from_slice(rest);
    }

    /// Drops all but the last `left` octets.
    pub(crate) fn leave(&mut self, left: usize) {
        self.taken = self.bytes.len().saturating_sub(left);
        if left == 0 {
            self.taken = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES_MAX);
        }
    }
}
