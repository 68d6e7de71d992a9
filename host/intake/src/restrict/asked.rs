//! Evaluation of the restriction lists of a stage.

use std::pin::Pin;

use waxwing_config::{Rule, Subject, Test};
use waxwing_pipeline::Chain;
use waxwing_types::{AddressClass, Reply, ReversePath};

use super::login::LOGIN_RULE;
use super::{Case, DEPTH_MAX, Found, Policy, Refusal, Ruling, Stage, dnsbl, named, names, refuse, subject_of};
use crate::{Intake, replies};

/// State of an evaluation.
pub(crate) struct Asking<'a> {
    pub(super) intake: &'a Intake,
    pub(super) policy: &'a Policy,
    pub(super) case: &'a Case<'a>,
    /// Plugin sessions for restrictions that resolve aliases.
    pub(super) chain: &'a mut Chain,
    pub(super) list: &'static str,
    pub(super) found: Found,
}

impl Intake {
    /// Evaluates all restriction lists of a stage.
    pub(crate) async fn restrict(&self, hooks: &mut Chain, request: &Case<'_>) -> Found {
        let policy = &self.parts.policy;
        let enforces_login = request.stage == Stage::Mail && policy.holds_to_own(request.context);
        if policy.is_silent_at(request.stage) && !enforces_login {
            return Found::default();
        }
        let mut evaluator = Asking { intake: self, policy, case: request, chain: hooks, list: "", found: Found::default() };
        evaluator.all().await;
        let outcome = evaluator.found.settle();
        for warning in &outcome.warnings {
            let client = request.context.client.as_ref().map(|client| client.peer.to_string()).unwrap_or_default();
            tracing::info!(target: "smtpd", "reject_warning: from {client}: {}; rule={}", warning.reply, warning.rule);
        }
        outcome
    }

    /// Returns whether the client is in `mynetworks` or authenticated.
    pub(super) fn is_ours(&self, request: &Case<'_>) -> bool {
        request.context.user.is_some() || self.in_mynetworks(request)
    }

    fn in_mynetworks(&self, request: &Case<'_>) -> bool {
        request.context.client.as_ref().is_some_and(|client| self.parts.settings.in_mynetworks(client.peer.ip()))
    }
}

impl Asking<'_> {
    async fn all(&mut self) {
        let stage = self.case.stage;
        if self.policy.scores_at(stage)
            && !self.intake.is_ours(self.case)
            && let Some(refusal) = dnsbl::score(self.policy, self.case).await
        {
            self.found.refusal = Some(refusal);
            return;
        }
        if stage == Stage::Mail
            && self.policy.holds_to_own(self.case.context)
            && let Ruling::Refuse(reply) = self.sender_login(true, false).await
        {
            self.found.refusal = Some(Refusal { reply, rule: LOGIN_RULE.to_owned() });
            return;
        }
        for (list, rules) in self.policy.lists_at(stage) {
            self.list = list;
            if let Ruling::Refuse(_) = self.rules(rules, 0).await {
                return;
            }
        }
    }

    /// Evaluates a list. The future is boxed because an access table may name further restrictions.
    pub(super) fn rules<'s>(&'s mut self, rules: &'s [Rule], depth: usize) -> Pin<Box<dyn Future<Output = Ruling> + Send + 's>> {
        Box::pin(async move {
            for rule in rules {
                match self.rule(rule, depth).await {
                    Ruling::Dunno => {}
                    Ruling::Permit => return Ruling::Permit,
                    Ruling::Refuse(reply) => {
                        let refusal = Refusal { reply: reply.clone(), rule: named(self.list, rule) };
                        if rule.warn {
                            self.found.warnings.push(refusal);
                            continue;
                        }
                        // A nested list has recorded the exact restriction already.
                        self.found.refusal.get_or_insert(refusal);
                        return Ruling::Refuse(reply);
                    }
                }
            }
            Ruling::Dunno
        })
    }

    async fn rule(&mut self, rule: &Rule, depth: usize) -> Ruling {
        let (request, about, resolver) = (self.case, subject_of(self.list), &*self.policy.resolver);
        match &rule.test {
            Test::Permit => Ruling::Permit,
            Test::Reject => Ruling::Refuse(refuse(request, about, (554, (5, 7, 1)), "Access denied")),
            Test::Defer => Ruling::Refuse(refuse(request, about, (450, (4, 7, 1)), "Try again later")),
            Test::PermitMynetworks => permit(self.intake.in_mynetworks(request)),
            Test::PermitSaslAuthenticated => permit(request.context.user.is_some()),
            Test::PermitTlsAllClientcerts => {
                let is_verified =
                    |tls: &std::sync::Arc<waxwing_types::TlsSession>| tls.client_fingerprint.is_some() && tls.verified;
                permit(request.context.tls.as_ref().is_some_and(is_verified))
            }
            Test::PermitAuthDestination => permit(request.recipient.is_some_and(|(_, class)| class != AddressClass::Default)),
            // Checked in `relay_control.rs` regardless of the configured lists.
            Test::RejectUnauthDestination | Test::RejectUnlistedRecipient => Ruling::Dunno,
            Test::RejectMultiRecipientBounce => self.multi_recipient_bounce(),
            Test::RejectUnverifiedRecipient => self.unverified_recipient(rule).await,
            Test::RejectUnverifiedSender => self.unverified_sender(rule).await,
            Test::RejectUnlistedSender => self.unlisted_sender().await,
            Test::RejectSenderLoginMismatch => self.sender_login(true, true).await,
            Test::RejectAuthenticatedSenderLoginMismatch => self.sender_login(true, false).await,
            Test::RejectUnauthenticatedSenderLoginMismatch => self.sender_login(false, true).await,
            Test::RejectRbl(list) => dnsbl::client_listed(self.policy, request, list).await,
            Test::RejectRhsbl(subject, list) => dnsbl::domain_listed(self.policy, request, *subject, list).await,
            Test::PermitDnswlClient(list) => permit(dnsbl::is_client_in(self.policy, request, list).await),
            Test::Access(subject, table) => self.access(*subject, table, rule, depth).await,
            Test::CheckPolicyService(endpoint) => self.service(&endpoint.to_string(), rule, depth).await,
            Test::RejectInvalidHeloHostname => names::invalid_helo(request),
            Test::RejectNonFqdnHeloHostname => names::non_fqdn(request, Subject::Helo),
            Test::RejectNonFqdnSender => names::non_fqdn(request, Subject::Sender),
            Test::RejectNonFqdnRecipient => names::non_fqdn(request, Subject::Recipient),
            Test::RejectUnknownHeloHostname => names::unknown_helo(resolver, request).await,
            Test::RejectUnknownSenderDomain => names::unknown_sender(resolver, request, self.sender_class()).await,
            Test::RejectUnknownRecipientDomain => names::unknown_recipient(resolver, request).await,
            Test::RejectUnknownClientHostname => names::unknown_client(resolver, request, false).await,
            Test::RejectUnknownReverseClientHostname => names::unknown_client(resolver, request, true).await,
        }
    }

    /// Parses and evaluates restrictions named by an access table.
    pub(super) async fn nested(&mut self, text: &str, depth: usize) -> Option<Ruling> {
        if depth >= DEPTH_MAX {
            return None;
        }
        let rules: Result<Vec<Rule>, _> = text.split(',').map(str::parse).collect();
        let rules = rules.ok()?;
        Some(self.rules(&rules, depth + 1).await)
    }

    fn sender_class(&self) -> AddressClass {
        let address = self.case.sender.and_then(ReversePath::address);
        address.map_or(AddressClass::Local, |address| self.intake.parts.directory.class_of(address))
    }

    fn multi_recipient_bounce(&self) -> Ruling {
        let is_bounce = self.case.sender == Some(&ReversePath::Null);
        let is_complete = matches!(self.case.stage, Stage::Data | Stage::EndOfData);
        match is_bounce && is_complete && self.case.context.recipients.len() > 1 {
            true => Ruling::Refuse(Reply::fixed(550, (5, 5, 3), "<>: Sender address rejected: Multi-recipient bounce")),
            false => Ruling::Dunno,
        }
    }

    async fn unlisted_sender(&mut self) -> Ruling {
        let Some(ReversePath::Of(address)) = self.case.sender else { return Ruling::Dunno };
        let directory = &self.intake.parts.directory;
        match directory.class_of(address) {
            AddressClass::Relay | AddressClass::Default => Ruling::Dunno,
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {
                match directory.exists(address).await {
                    Ok(true) => Ruling::Dunno,
                    Ok(false) => Ruling::Refuse(refuse(self.case, Subject::Sender, (550, (5, 1, 0)), "User unknown")),
                    Err(error) => {
                        tracing::error!(target: "intake", "{error}");
                        Ruling::Refuse(replies::LOOKUP_FAILED)
                    }
                }
            }
        }
    }
}

fn permit(holds: bool) -> Ruling {
    if holds { Ruling::Permit } else { Ruling::Dunno }
}
