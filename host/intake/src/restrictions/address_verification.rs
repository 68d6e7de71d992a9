//! Restrictions `reject_unverified_recipient` and `reject_unverified_sender`: probes the mail server of an address.

use waxwing_config::{Restriction, RestrictionSubject, TempfailAction};
use waxwing_pipeline::ResolvedRecipient;
use waxwing_types::{Address, AddressClass, Reply, ReversePath};

use super::{RestrictionDecision, RestrictionEvaluator, RestrictionRefusal, rejection_reply, rule_label};
use crate::replies;
use crate::verify::{ProbeResult, VerifyRole};

/// Location of an address's mailbox.
enum AddressLocation {
    /// Served by this server; no probe is needed.
    Local {
        exists: bool,
    },
    Remote,
}

impl RestrictionEvaluator<'_> {
    /// Verifies remote recipients only: local recipients are looked up after all lists. An alias is delivered to its targets, so that the
    /// domain of the alias is irrelevant.
    pub(super) async fn reject_unverified_recipient(&mut self, rule: &Restriction) -> RestrictionDecision {
        let Some((address, AddressClass::Relay | AddressClass::Remote)) = self.request.recipient else {
            return RestrictionDecision::Dunno;
        };
        match self.is_alias(address).await {
            Ok(true) => RestrictionDecision::Dunno,
            Ok(false) => self.check_verified(address, VerifyRole::Recipient, rule).await,
            Err(reply) => RestrictionDecision::Refuse(reply),
        }
    }

    /// Returns whether a plugin resolves the address. Context changes by the plugins are dropped here: the same plugins run again before
    /// the commit.
    async fn is_alias(&mut self, address: &Address) -> Result<bool, Reply> {
        let mut context = self.request.context.clone();
        match self.intake.services.pipeline.resolve(self.hooks, &mut context, address, true).await {
            ResolvedRecipient::Targets(_) => Ok(true),
            ResolvedRecipient::Failed(reply) => Err(reply),
            ResolvedRecipient::Unknown | ResolvedRecipient::NotMine => Ok(false),
        }
    }

    /// Verifies the sender address, except `<>` and the sender of address probes.
    pub(super) async fn reject_unverified_sender(&mut self, rule: &Restriction) -> RestrictionDecision {
        let Some(sender) = self.request.sender() else { return RestrictionDecision::Dunno };
        let is_probe = self.policy.verifier.as_ref().is_some_and(|v| v.config.address_verify_sender == *sender);
        match sender {
            ReversePath::Address(address) if !is_probe => self.check_verified(address, VerifyRole::Sender, rule).await,
            ReversePath::Address(_) | ReversePath::Null => RestrictionDecision::Dunno,
        }
    }

    async fn check_verified(&mut self, address: &Address, role: VerifyRole, rule: &Restriction) -> RestrictionDecision {
        // No verifier exists in `waxwing plugin test` and `waxwing replay`.
        let Some(verifier) = self.policy.verifier.clone() else { return RestrictionDecision::Dunno };
        let (about, consequence, detail) = match role {
            VerifyRole::Recipient => (RestrictionSubject::Recipient, verifier.unverified_action(role), 1),
            VerifyRole::Sender => (RestrictionSubject::Sender, verifier.unverified_action(role), 7),
        };
        let result = match self.locate(address).await {
            Ok(AddressLocation::Local { exists: true }) => ProbeResult::Deliverable,
            Ok(AddressLocation::Local { exists: false }) => ProbeResult::Undeliverable("User unknown".to_owned()),
            Ok(AddressLocation::Remote) => verifier.verify(address, role, self.request.context.helo.as_deref()).await,
            Err(ruling) => return ruling,
        };
        let code = |code: u16| (code, (if code < 500 { 4 } else { 5 }, 1, detail));
        match result {
            ProbeResult::Deliverable => RestrictionDecision::Dunno,
            ProbeResult::Undeliverable(why) => {
                let why = format!("undeliverable address: {why}");
                RestrictionDecision::Refuse(rejection_reply(self.request, about, code(consequence.reject_code), &why))
            }
            ProbeResult::Unknown(why) => {
                let reply =
                    rejection_reply(self.request, about, code(consequence.defer_code), &format!("unverified address: {why}"));
                match consequence.tempfail_action {
                    TempfailAction::Permit => RestrictionDecision::Dunno,
                    TempfailAction::Defer => RestrictionDecision::Refuse(reply),
                    TempfailAction::DeferIfPermit if rule.warn_only => RestrictionDecision::Refuse(reply),
                    TempfailAction::DeferIfPermit => {
                        let refusal = RestrictionRefusal { reply, rule: rule_label(self.list, rule) };
                        self.outcome.defer_if_permit.get_or_insert(refusal);
                        RestrictionDecision::Dunno
                    }
                }
            }
        }
    }

    /// Locates an address by address class.
    async fn locate(&mut self, address: &Address) -> Result<AddressLocation, RestrictionDecision> {
        let directory = &self.intake.services.directory;
        match directory.class_of(address) {
            AddressClass::Relay | AddressClass::Remote => Ok(AddressLocation::Remote),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                match directory.exists(address).await {
                    Ok(exists) => Ok(AddressLocation::Local { exists }),
                    Err(error) => {
                        tracing::error!(target: "intake", "{error}");
                        Err(RestrictionDecision::Refuse(replies::LOOKUP_FAILED))
                    }
                }
            }
        }
    }
}
