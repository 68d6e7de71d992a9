//! Changes that a hook may make to a message and its envelope.

use bytes::Bytes;

use crate::{Address, Parameter, ReversePath};

/// One staged change; edits are applied in order, when the call that made them has returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A header field below all others.
    AddHeader {
        /// Field name, without colon.
        name: String,
        /// Field value, unfolded or folded by LF or CRLF and white space; no trailing line end.
        value: Bytes,
    },
    /// A header field above the one at this index; 0 is above all others.
    InsertHeader {
        /// Index among all fields.
        at: u32,
        /// Field name.
        name: String,
        /// Field value.
        value: Bytes,
    },
    /// A new value for the `nth` field of that name, counted from 0.
    ReplaceHeader {
        /// Field name, any case.
        name: String,
        /// Which of that name.
        nth: u32,
        /// Field value.
        value: Bytes,
    },
    /// Takes away the `nth` field of that name, counted from 0 among those that the call found.
    RemoveHeader {
        /// Field name, any case.
        name: String,
        /// Which of that name.
        nth: u32,
    },
    /// Another envelope sender.
    SetSender(ReversePath, Vec<Parameter>),
    /// One more envelope recipient.
    AddRecipient(Address, Vec<Parameter>),
    /// Another address for a recipient, which keeps its index, ORCPT and NOTIFY.
    ChangeRecipient {
        /// Index of the recipient.
        index: u32,
        /// The new address.
        to: Address,
    },
    /// Takes a recipient away.
    RemoveRecipient {
        /// Index of the recipient.
        index: u32,
    },
    /// Everything after the header block; line ends are CRLF.
    ReplaceBody(Bytes),
    /// A word that travels with the message to every later hook.
    Tag {
        /// Name of the tag.
        name: String,
        /// Its value; a later one of the same name replaces it.
        value: String,
    },
}

/// The tags of a message, sorted by name.
pub type Tags = std::collections::BTreeMap<String, String>;
