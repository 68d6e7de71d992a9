//! Recipient in the context of a hook.

use waxwing_types::{AddressClass, Parameter, Recipient};

/// Envelope recipient as visible to hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRecipient {
    /// Index in this transaction; constant until the transaction ends.
    pub index: u32,
    /// Address, ORCPT and NOTIFY (RFC 3461 §4).
    pub recipient: Recipient,
    /// Address class, which determines the delivery transport.
    pub class: AddressClass,
    /// ESMTP parameters of RCPT.
    pub parameters: Vec<Parameter>,
}
