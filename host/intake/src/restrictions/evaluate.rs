//! Evaluation of the restriction lists of a stage.

use std::pin::Pin;

use waxwing_config::{Restriction, RestrictionKind, RestrictionSubject};
use waxwing_pipeline::HookSession;
use waxwing_types::{AddressClass, Reply, ReversePath};

use super::{
    DEPTH_MAX, Policy, RestrictionDecision, RestrictionOutcome, RestrictionRefusal, RestrictionRequest, RestrictionStage,
    default_subject, dnsbl, host_names, rejection_reply, rule_label,
};
use crate::{Intake, replies};

/// Rule of the implicit sender login check on submission listeners.
pub(super) const LOGIN_RULE: &str = "smtpd_sender_login_maps";

/// State of an evaluation.
pub(crate) struct RestrictionEvaluator<'a> {
    pub(super) intake: &'a Intake,
    pub(super) policy: &'a Policy,
    pub(super) request: &'a RestrictionRequest<'a>,
    /// Plugin sessions for restrictions that resolve aliases.
    pub(super) hooks: &'a mut HookSession,
    pub(super) list: &'static str,
    pub(super) outcome: RestrictionOutcome,
}

impl Intake {
    /// Evaluates all restriction lists of a stage.
    pub(crate) async fn evaluate_restrictions(
        &self,
        hooks: &mut HookSession,
        request: &RestrictionRequest<'_>,
    ) -> RestrictionOutcome {
        let policy = &self.services.policy;
        let enforces_login = request.stage == RestrictionStage::Mail && policy.enforces_sender_login(request.context);
        if policy.is_empty_at(request.stage) && !enforces_login {
            return RestrictionOutcome::default();
        }
        let mut evaluator =
            RestrictionEvaluator { intake: self, policy, request, hooks, list: "", outcome: RestrictionOutcome::default() };
        evaluator.evaluate_stage().await;
        let outcome = evaluator.outcome.finish();
        for warning in &outcome.warnings {
            let client = request.context.client.as_ref().map(|client| client.peer.to_string()).unwrap_or_default();
            tracing::info!(target: "smtpd", "reject_warning: from {client}: {}; rule={}", warning.reply, warning.rule);
        }
        outcome
    }

    /// Returns whether the client is in `mynetworks` or authenticated.
    pub(super) fn is_trusted_client(&self, request: &RestrictionRequest<'_>) -> bool {
        request.context.user.is_some() || self.in_mynetworks(request)
    }

    fn in_mynetworks(&self, request: &RestrictionRequest<'_>) -> bool {
        request.context.client.as_ref().is_some_and(|client| self.services.settings.in_mynetworks(client.peer.ip()))
    }
}

impl RestrictionEvaluator<'_> {
    async fn evaluate_stage(&mut self) {
        let stage = self.request.stage;
        if self.policy.scores_dnsbl_at(stage)
            && !self.intake.is_trusted_client(self.request)
            && let Some(refusal) = dnsbl::dnsbl_score(self.policy, self.request).await
        {
            self.outcome.refusal = Some(refusal);
            return;
        }
        if stage == RestrictionStage::Mail
            && self.policy.enforces_sender_login(self.request.context)
            && let RestrictionDecision::Refuse(reply) = self.check_sender_login(true, false).await
        {
            self.outcome.refusal = Some(RestrictionRefusal { reply, rule: LOGIN_RULE.to_owned() });
            return;
        }
        for (list, rules) in self.policy.lists_at(stage) {
            self.list = list;
            if let RestrictionDecision::Refuse(_) = self.evaluate_list(rules, 0).await {
                return;
            }
        }
    }

    /// Evaluates a list. The future is boxed because an access table may name further restrictions.
    pub(super) fn evaluate_list<'s>(
        &'s mut self,
        rules: &'s [Restriction],
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = RestrictionDecision> + Send + 's>> {
        Box::pin(async move {
            for rule in rules {
                match self.evaluate_rule(rule, depth).await {
                    RestrictionDecision::Dunno => {}
                    RestrictionDecision::Permit => return RestrictionDecision::Permit,
                    RestrictionDecision::Refuse(reply) => {
                        let refusal = RestrictionRefusal { reply: reply.clone(), rule: rule_label(self.list, rule) };
                        if rule.warn_only {
                            self.outcome.warnings.push(refusal);
                            continue;
                        }
                        // A nested list has recorded the exact restriction already.
                        self.outcome.refusal.get_or_insert(refusal);
                        return RestrictionDecision::Refuse(reply);
                    }
                }
            }
            RestrictionDecision::Dunno
        })
    }

    async fn evaluate_rule(&mut self, rule: &Restriction, depth: usize) -> RestrictionDecision {
        let (request, about, resolver) = (self.request, default_subject(self.list), &*self.policy.resolver);
        match &rule.kind {
            RestrictionKind::Permit => RestrictionDecision::Permit,
            RestrictionKind::Reject => {
                RestrictionDecision::Refuse(rejection_reply(request, about, (554, (5, 7, 1)), "Access denied"))
            }
            RestrictionKind::Defer => {
                RestrictionDecision::Refuse(rejection_reply(request, about, (450, (4, 7, 1)), "Try again later"))
            }
            RestrictionKind::PermitMynetworks => permit_if(self.intake.in_mynetworks(request)),
            RestrictionKind::PermitSaslAuthenticated => permit_if(request.context.user.is_some()),
            RestrictionKind::PermitTlsAllClientcerts => {
                let is_verified =
                    |tls: &std::sync::Arc<waxwing_types::TlsSession>| tls.client_fingerprint.is_some() && tls.verified;
                permit_if(request.context.tls.as_ref().is_some_and(is_verified))
            }
            RestrictionKind::PermitAuthDestination => {
                permit_if(request.recipient.is_some_and(|(_, class)| class != AddressClass::Remote))
            }
            // Checked in `relay_control.rs` regardless of the configured lists.
            RestrictionKind::RejectUnauthDestination | RestrictionKind::RejectUnlistedRecipient => RestrictionDecision::Dunno,
            RestrictionKind::RejectMultiRecipientBounce => self.reject_multi_recipient_bounce(),
            RestrictionKind::RejectUnverifiedRecipient => self.reject_unverified_recipient(rule).await,
            RestrictionKind::RejectUnverifiedSender => self.reject_unverified_sender(rule).await,
            RestrictionKind::RejectUnlistedSender => self.reject_unlisted_sender().await,
            RestrictionKind::RejectSenderLoginMismatch => self.check_sender_login(true, true).await,
            RestrictionKind::RejectAuthenticatedSenderLoginMismatch => self.check_sender_login(true, false).await,
            RestrictionKind::RejectUnauthenticatedSenderLoginMismatch => self.check_sender_login(false, true).await,
            RestrictionKind::RejectRbl(list) => dnsbl::reject_rbl(self.policy, request, list).await,
            RestrictionKind::RejectRhsbl(subject, list) => dnsbl::reject_rhsbl(self.policy, request, *subject, list).await,
            RestrictionKind::PermitDnswlClient(list) => permit_if(dnsbl::is_client_listed(self.policy, request, list).await),
            RestrictionKind::Access(subject, table) => self.check_access(*subject, table, rule, depth).await,
            RestrictionKind::CheckPolicyService(endpoint) => self.check_policy_service(&endpoint.to_string(), rule, depth).await,
            RestrictionKind::RejectInvalidHeloHostname => host_names::reject_invalid_helo(request),
            RestrictionKind::RejectNonFqdnHeloHostname => host_names::reject_non_fqdn(request, RestrictionSubject::Helo),
            RestrictionKind::RejectNonFqdnSender => host_names::reject_non_fqdn(request, RestrictionSubject::Sender),
            RestrictionKind::RejectNonFqdnRecipient => host_names::reject_non_fqdn(request, RestrictionSubject::Recipient),
            RestrictionKind::RejectUnknownHeloHostname => host_names::reject_unknown_helo(resolver, request).await,
            RestrictionKind::RejectUnknownSenderDomain => {
                host_names::reject_unknown_sender(resolver, request, self.sender_class()).await
            }
            RestrictionKind::RejectUnknownRecipientDomain => host_names::reject_unknown_recipient(resolver, request).await,
            RestrictionKind::RejectUnknownClientHostname => host_names::reject_unknown_client(resolver, request, false).await,
            RestrictionKind::RejectUnknownReverseClientHostname => {
                host_names::reject_unknown_client(resolver, request, true).await
            }
        }
    }

    /// Parses and evaluates restrictions named by an access table.
    pub(super) async fn evaluate_nested(&mut self, text: &str, depth: usize) -> Option<RestrictionDecision> {
        if depth >= DEPTH_MAX {
            return None;
        }
        let rules: Result<Vec<Restriction>, _> = text.split(',').map(str::parse).collect();
        let rules = rules.ok()?;
        Some(self.evaluate_list(&rules, depth + 1).await)
    }

    fn sender_class(&self) -> AddressClass {
        let address = self.request.sender().and_then(ReversePath::address);
        address.map_or(AddressClass::Local, |address| self.intake.services.directory.class_of(address))
    }

    fn reject_multi_recipient_bounce(&self) -> RestrictionDecision {
        let is_bounce = self.request.sender() == Some(&ReversePath::Null);
        let is_complete = matches!(self.request.stage, RestrictionStage::Data | RestrictionStage::EndOfData);
        match is_bounce && is_complete && self.request.context.recipients.len() > 1 {
            true => {
                RestrictionDecision::Refuse(Reply::fixed(550, (5, 5, 3), "<>: Sender address rejected: Multi-recipient bounce"))
            }
            false => RestrictionDecision::Dunno,
        }
    }

    async fn reject_unlisted_sender(&mut self) -> RestrictionDecision {
        let Some(ReversePath::Address(address)) = self.request.sender() else { return RestrictionDecision::Dunno };
        let directory = &self.intake.services.directory;
        match directory.class_of(address) {
            AddressClass::Relay | AddressClass::Remote => RestrictionDecision::Dunno,
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                match directory.exists(address).await {
                    Ok(true) => RestrictionDecision::Dunno,
                    Ok(false) => RestrictionDecision::Refuse(rejection_reply(
                        self.request,
                        RestrictionSubject::Sender,
                        (550, (5, 1, 0)),
                        "User unknown",
                    )),
                    Err(error) => {
                        tracing::error!(target: "intake", "{error}");
                        RestrictionDecision::Refuse(replies::LOOKUP_FAILED)
                    }
                }
            }
        }
    }
}

fn permit_if(holds: bool) -> RestrictionDecision {
    if holds { RestrictionDecision::Permit } else { RestrictionDecision::Dunno }
}
