//! Values of the keys for address verification.

use toml::Value;
use waxwing_types::{Address, ReversePath};

use crate::kind::{Kind, Words, string};
use crate::reader::{Node, Reader};

/// Action for an address that cannot be verified at present (`unverified_..._tempfail_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TempfailAction {
    /// Reject with a temporary error.
    Defer,
    /// Reject with a temporary error, unless a later restriction rejects permanently.
    DeferIfPermit,
    /// Accept the address.
    Permit,
}

impl Words for TempfailAction {
    const FORM: &'static str = "\"defer_if_permit\", \"defer\" or \"permit\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("defer_if_permit", Self::DeferIfPermit), ("defer", Self::Defer), ("permit", Self::Permit)];
}

/// A sender: `<>` or an address.
pub(crate) struct Sender;

impl Kind for Sender {
    type Value = ReversePath;
    const FORM: &'static str = "\"<>\" or \"user@domain\"";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<ReversePath> {
        let text = string(node, reader, "a sender in quotes, \"<>\" or \"user@example.com\"")?;
        if matches!(text, "" | "<>") {
            return Some(ReversePath::Null);
        }
        match Address::parse(text) {
            Ok(address) if !address.is_bare() => Some(ReversePath::Of(address)),
            Ok(_) | Err(_) => {
                let advice = "write \"<>\", or an address with its domain, \"verifier@example.com\"".to_owned();
                reader.wrong(node.span.clone(), format!("\"{text}\" is no sender"), advice);
                None
            }
        }
    }

    fn show(value: &ReversePath) -> Option<Value> {
        Some(Value::String(match value {
            ReversePath::Null => "<>".to_owned(),
            ReversePath::Of(address) => address.to_string(),
        }))
    }
}
