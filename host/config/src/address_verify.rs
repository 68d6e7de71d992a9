//! Values of the keys for address verification.

use toml::Value;
use waxwing_types::{Address, ReversePath};

use crate::reader::{ConfigReader, ValueNode};
use crate::value::{StringEnum, ValueType, expect_string};

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

impl StringEnum for TempfailAction {
    const FORM: &'static str = "\"defer_if_permit\", \"defer\" or \"permit\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("defer_if_permit", Self::DeferIfPermit), ("defer", Self::Defer), ("permit", Self::Permit)];
}

/// A sender: `<>` or an address.
pub(crate) struct SenderValue;

impl ValueType for SenderValue {
    type Value = ReversePath;
    const FORM: &'static str = "\"<>\" or \"user@domain\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<ReversePath> {
        let text = expect_string(node, reader, "a sender in quotes, \"<>\" or \"user@example.com\"")?;
        if matches!(text, "" | "<>") {
            return Some(ReversePath::Null);
        }
        match Address::parse(text) {
            Ok(address) if !address.has_no_domain() => Some(ReversePath::Address(address)),
            Ok(_) | Err(_) => {
                let advice = "write \"<>\", or an address with its domain, \"verifier@example.com\"".to_owned();
                reader.error(node.span.clone(), format!("\"{text}\" is no sender"), advice);
                None
            }
        }
    }

    fn show(value: &ReversePath) -> Option<Value> {
        Some(Value::String(match value {
            ReversePath::Null => "<>".to_owned(),
            ReversePath::Address(address) => address.to_string(),
        }))
    }
}
