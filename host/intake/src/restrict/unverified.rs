//! Restrictions `reject_unverified_recipient` and `reject_unverified_sender`: probes the mail server of an address.

use waxwing_config::{Rule, Subject, TempfailAction};
use waxwing_pipeline::Resolved;
use waxwing_types::{Address, AddressClass, Reply, ReversePath};

use super::{Asking, Refusal, Ruling, named, refuse};
use crate::replies;
use crate::verify::{Finding, Role};

/// Location of an address's mailbox.
enum Place {
    /// Served by this server; no probe is needed.
    Here {
        exists: bool,
    },
    Elsewhere,
}

impl Asking<'_> {
    /// Verifies remote recipients only: local recipients are looked up after all lists. An alias is delivered to its targets, so that the
    /// domain of the alias is irrelevant.
    pub(super) async fn unverified_recipient(&mut self, rule: &Rule) -> Ruling {
        let Some((address, AddressClass::Relay | AddressClass::Default)) = self.case.recipient else { return Ruling::Dunno };
        match self.is_alias(address).await {
            Ok(true) => Ruling::Dunno,
            Ok(false) => self.verified(address, Role::Recipient, rule).await,
            Err(reply) => Ruling::Refuse(reply),
        }
    }

    /// Returns whether a plugin resolves the address. Context changes by the plugins are dropped here: the same plugins run again before
    /// the commit.
    async fn is_alias(&mut self, address: &Address) -> Result<bool, Reply> {
        let mut context = self.case.context.clone();
        match self.intake.parts.pipeline.resolve(self.chain, &mut context, address, true).await {
            Resolved::Targets(_) => Ok(true),
            Resolved::Failed(reply) => Err(reply),
            Resolved::Unknown | Resolved::NotMine => Ok(false),
        }
    }

    /// Verifies the sender address, except `<>` and the sender of address probes.
    pub(super) async fn unverified_sender(&mut self, rule: &Rule) -> Ruling {
        let Some(sender) = self.case.sender else { return Ruling::Dunno };
        let is_probe = self.policy.verifier.as_ref().is_some_and(|v| v.settings.address_verify_sender == *sender);
        match sender {
            ReversePath::Of(address) if !is_probe => self.verified(address, Role::Sender, rule).await,
            ReversePath::Of(_) | ReversePath::Null => Ruling::Dunno,
        }
    }

    async fn verified(&mut self, address: &Address, role: Role, rule: &Rule) -> Ruling {
        // No verifier exists in `waxwing plugin test` and `waxwing replay`.
        let Some(verifier) = self.policy.verifier.clone() else { return Ruling::Dunno };
        let (about, consequence, detail) = match role {
            Role::Recipient => (Subject::Recipient, verifier.settings.recipient, 1),
            Role::Sender => (Subject::Sender, verifier.settings.sender, 7),
        };
        let result = match self.place(address).await {
            Ok(Place::Here { exists: true }) => Finding::Deliverable,
            Ok(Place::Here { exists: false }) => Finding::Undeliverable("User unknown".to_owned()),
            Ok(Place::Elsewhere) => verifier.verify(address, role, self.case.context.helo.as_deref()).await,
            Err(ruling) => return ruling,
        };
        let code = |code: u16| (code, (if code < 500 { 4 } else { 5 }, 1, detail));
        match result {
            Finding::Deliverable => Ruling::Dunno,
            Finding::Undeliverable(why) => {
                let why = format!("undeliverable address: {why}");
                Ruling::Refuse(refuse(self.case, about, code(consequence.reject_code), &why))
            }
            Finding::Unknown(why) => {
                let reply = refuse(self.case, about, code(consequence.defer_code), &format!("unverified address: {why}"));
                match consequence.tempfail_action {
                    TempfailAction::Permit => Ruling::Dunno,
                    TempfailAction::Defer => Ruling::Refuse(reply),
                    TempfailAction::DeferIfPermit if rule.warn => Ruling::Refuse(reply),
                    TempfailAction::DeferIfPermit => {
                        let refusal = Refusal { reply, rule: named(self.list, rule) };
                        self.found.defer_if_permit.get_or_insert(refusal);
                        Ruling::Dunno
                    }
                }
            }
        }
    }

    /// Locates an address by address class.
    async fn place(&mut self, address: &Address) -> Result<Place, Ruling> {
        let directory = &self.intake.parts.directory;
        match directory.class_of(address) {
            AddressClass::Relay | AddressClass::Default => Ok(Place::Elsewhere),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                match directory.exists(address).await {
                    Ok(exists) => Ok(Place::Here { exists }),
                    Err(error) => {
                        tracing::error!(target: "intake", "{error}");
                        Err(Ruling::Refuse(replies::LOOKUP_FAILED))
                    }
                }
            }
        }
    }
}
