//! Who may write to whom. No hook softens what is decided here.

use waxwing_pipeline::{Context, Resolved};
use waxwing_types::{Address, AddressClass, Reply};

use crate::transaction::Transaction;
use crate::{Intake, replies};

/// The one name that every domain of ours has (RFC 5321 §4.5.1).
const POSTMASTER: &str = "postmaster";

impl Intake {
    /// Who delivers to the recipient, or a refusal if the client may not write there. `ours`: the client named no domain, and means
    /// this server's own.
    pub(crate) fn may_write_to(&self, context: &Context, recipient: &Address, ours: bool) -> Result<AddressClass, Reply> {
        let class = self.parts.directory.class_of(recipient);
        match class {
            AddressClass::Default | AddressClass::Relay if self.may_relay(context) || ours => Ok(class),
            AddressClass::Default => Err(replies::RELAY_DENIED),
            AddressClass::Relay if names_a_route(recipient) => Err(replies::RELAY_DENIED),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox | AddressClass::Relay => Ok(class),
        }
    }

    /// Refuses a recipient of ours that does not exist.
    pub(crate) async fn is_there(
        &self,
        transaction: &mut Transaction,
        recipient: &Address,
        class: AddressClass,
    ) -> Result<(), Reply> {
        match class {
            AddressClass::Default | AddressClass::Relay => Ok(()),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                self.exists(transaction, recipient).await
            }
        }
    }

    /// The client is one of ours.
    fn may_relay(&self, context: &Context) -> bool {
        let trusted = |ip| self.parts.settings.in_mynetworks(ip);
        context.user.is_some() || context.client.as_ref().is_some_and(|c| trusted(c.peer.ip()))
    }

    async fn exists(&self, transaction: &mut Transaction, recipient: &Address) -> Result<(), Reply> {
        let Transaction { chain, context, .. } = transaction;
        match self.parts.pipeline.resolve(chain, context, recipient, true).await {
            Resolved::Targets(_) => return Ok(()),
            Resolved::Failed(reply) => return Err(reply),
            Resolved::Unknown | Resolved::NotMine => {}
        }
        if is_postmaster(recipient) {
            return Ok(());
        }
        match self.parts.directory.exists(recipient).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(replies::USER_UNKNOWN),
            Err(error) => {
                tracing::error!(target: "intake", "{error}");
                Err(replies::LOOKUP_FAILED)
            }
        }
    }
}

pub(crate) fn is_postmaster(address: &Address) -> bool {
    address.local().eq_ignore_ascii_case(POSTMASTER)
}

/// `user%remote@relayed`, `remote!user@relayed`, `"user@remote"@relayed`: the server behind us trusts us and might follow it
/// (Postfix: `allow_untrusted_routing`).
fn names_a_route(address: &Address) -> bool {
    address.local().contains(['@', '%', '!'])
}
