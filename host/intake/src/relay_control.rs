//! Relay control. No hook can relax the decisions made in this module.

use waxwing_pipeline::{Context, ResolvedRecipient};
use waxwing_types::{Address, AddressClass, Reply};

use crate::transaction::MailTransaction;
use crate::{Intake, replies};

/// Local part reserved in every local domain (RFC 5321 §4.5.1).
const POSTMASTER: &str = "postmaster";

impl Intake {
    /// Address class of the recipient, or a refusal if the client must not relay to the recipient.
    /// `is_local_postmaster`: recipient `postmaster` without a domain, in the domain of this server.
    pub(crate) fn check_relay(
        &self,
        context: &Context,
        recipient: &Address,
        is_local_postmaster: bool,
    ) -> Result<AddressClass, Reply> {
        let class = self.services.directory.class_of(recipient);
        match class {
            AddressClass::Remote | AddressClass::Relay if self.may_relay(context) || is_local_postmaster => Ok(class),
            AddressClass::Remote => Err(replies::RELAY_DENIED),
            AddressClass::Relay if has_source_route(recipient) => Err(replies::RELAY_DENIED),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox | AddressClass::Relay => Ok(class),
        }
    }

    /// Refuses a recipient in a local domain that does not exist.
    pub(crate) async fn check_recipient_exists(
        &self,
        transaction: &mut MailTransaction,
        recipient: &Address,
        class: AddressClass,
    ) -> Result<(), Reply> {
        match class {
            AddressClass::Remote | AddressClass::Relay => Ok(()),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                self.recipient_exists(transaction, recipient).await
            }
        }
    }

    /// Returns whether the client is in `mynetworks` or authenticated.
    fn may_relay(&self, context: &Context) -> bool {
        let trusted = |ip| self.services.settings.in_mynetworks(ip);
        context.user.is_some() || context.client.as_ref().is_some_and(|c| trusted(c.peer.ip()))
    }

    async fn recipient_exists(&self, transaction: &mut MailTransaction, recipient: &Address) -> Result<(), Reply> {
        let MailTransaction { hooks, context, .. } = transaction;
        match self.services.pipeline.resolve(hooks, context, recipient, true).await {
            ResolvedRecipient::Targets(_) => return Ok(()),
            ResolvedRecipient::Failed(reply) => return Err(reply),
            ResolvedRecipient::Unknown | ResolvedRecipient::NotMine => {}
        }
        if is_postmaster(recipient) {
            return Ok(());
        }
        match self.services.directory.exists(recipient).await {
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

/// Returns whether the local part holds a source route: `user%remote@relayed`, `remote!user@relayed` or `"user@remote"@relayed`. The next
/// hop trusts this server and might follow the route (Postfix: `allow_untrusted_routing`).
fn has_source_route(address: &Address) -> bool {
    address.local().contains(['@', '%', '!'])
}
