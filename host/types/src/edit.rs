//! Edits of a message and its envelope by hooks.

use bytes::Bytes;

use crate::{Address, Parameter, ReversePath};

/// Staged edit. Edits are applied in order after the call that staged them has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Appends a header field after all others.
    AddHeader {
        /// Field name, without colon.
        name: String,
        /// Field value, unfolded or folded by LF or CRLF and white space; no trailing line end.
        value: Bytes,
    },
    /// Inserts a header field before the field with the given index; 0 is before all others.
    InsertHeader {
        /// Index among all fields.
        at: u32,
        /// Field name, without colon.
        name: String,
        /// Field value, as in [`Edit::AddHeader`].
        value: Bytes,
    },
    /// Replaces the value of the `nth` field of the given name, counted from 0.
    ReplaceHeader {
        /// Field name, case-insensitive.
        name: String,
        /// Number among fields of the same name.
        nth: u32,
        /// Field value, as in [`Edit::AddHeader`].
        value: Bytes,
    },
    /// Removes the `nth` field of the given name, counted from 0 among the fields before the call.
    RemoveHeader {
        /// Field name, case-insensitive.
        name: String,
        /// Number among fields of the same name.
        nth: u32,
    },
    /// Replaces the envelope sender.
    SetSender(ReversePath, Vec<Parameter>),
    /// Adds an envelope recipient.
    AddRecipient(Address, Vec<Parameter>),
    /// Replaces the address of a recipient; index, ORCPT and NOTIFY stay.
    ChangeRecipient {
        /// Index of the recipient.
        index: u32,
        /// New recipient address.
        to: Address,
    },
    /// Removes an envelope recipient.
    RemoveRecipient {
        /// Index of the recipient.
        index: u32,
    },
    /// Replaces everything after the header block; line ends are CRLF.
    ReplaceBody(Bytes),
    /// Sets a tag, kept with the message for all later hooks.
    Tag {
        /// Name of the tag.
        name: String,
        /// Value of the tag; replaces an earlier value of the same name.
        value: String,
    },
}

/// Tags of a message, sorted by name.
pub type Tags = std::collections::BTreeMap<String, String>;
