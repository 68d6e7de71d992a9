//! What an SMTP session takes.

use crate::kind::Words;

/// What becomes of a message with a CR or LF that stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForbidBareNewline {
    /// It is refused.
    Reject,
    /// Each becomes CR LF.
    Normalize,
    /// Each stays as it is.
    No,
}

impl Words for ForbidBareNewline {
    const FORM: &'static str = "\"reject\", \"normalize\" or \"no\"";
    const WORDS: &'static [(&'static str, Self)] = &[("reject", Self::Reject), ("normalize", Self::Normalize), ("no", Self::No)];
}
