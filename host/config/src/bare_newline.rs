//! Values of `smtpd_forbid_bare_newline`.

use crate::value::StringEnum;

/// Handling of a message with a bare CR or LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForbidBareNewline {
    /// Rejects the message.
    Reject,
    /// Replaces each bare CR or LF by CR LF.
    Normalize,
    /// Leaves the message unchanged.
    No,
}

impl StringEnum for ForbidBareNewline {
    const FORM: &'static str = "\"reject\", \"normalize\" or \"no\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("reject", Self::Reject), ("normalize", Self::Normalize), ("no", Self::No)];
}
