//! Results of alias expansion: recipients, and the aliases to report to the sender.

use std::sync::Arc;

use waxwing_types::{Notify, Recipient, ReversePath};

/// Recipient, and the owner of the list that contains the recipient.
pub(crate) type ExpandedRecipient = (Recipient, Option<ReversePath>);

/// Aliases whose expansion must be reported to the sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpandedAliases {
    /// Recipient of the DSN: the envelope sender before replacement by a list owner.
    pub(crate) sender: Option<Arc<ReversePath>>,
    /// Aliases with several members.
    pub(crate) aliases: Vec<Recipient>,
}

/// NOTIFY value for the members of an alias: the expanded DSN replaces the success DSNs of members.
pub(crate) fn notify_for_members(notify: Notify) -> Notify {
    match notify {
        Notify::On { success: true, failure: false, delay: false } => Notify::Never,
        Notify::On { success: true, failure, delay } => Notify::On { success: false, failure, delay },
        Notify::On { success: false, .. } | Notify::Default | Notify::Never => notify,
    }
}
