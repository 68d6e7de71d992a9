//! Data sources of restrictions: lists, tables, policy services, DNS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waxwing_config::{Config, DnsList, Restriction, RestrictionKind};
use waxwing_net::{PolicyClient, PolicyClientSettings};
use waxwing_pipeline::{Resolver, Table};

use super::RestrictionStage;
use crate::verify::Verifier;

type RestrictionLists = Vec<(&'static str, Vec<Restriction>)>;

/// Access policy of the configuration.
pub struct Policy {
    lists: RestrictionLists,
    delay_reject: bool,
    pub(crate) tables: HashMap<String, Arc<dyn Table>>,
    pub(crate) policy_services: HashMap<String, PolicyClient>,
    pub(crate) policy_default_action: String,
    pub(crate) login_maps: Option<Arc<dyn Table>>,
    pub(crate) dnsbl_sites: Vec<DnsList>,
    pub(crate) dnsbl_threshold: i32,
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Time limit for the client name lookup; `None` disables the lookup.
    pub(crate) peername_timeout: Option<Duration>,
    /// Prober for `reject_unverified_*`; `None` disables both restrictions.
    pub(crate) verifier: Option<Arc<Verifier>>,
}

impl Policy {
    /// Reads the restriction lists of a configuration; `table` returns a table by name.
    pub fn from_config(config: &Config, resolver: Arc<dyn Resolver>, table: impl Fn(&str) -> Option<Arc<dyn Table>>) -> Self {
        let lists: RestrictionLists =
            config.restriction_lists().into_iter().map(|(name, rules)| (name, rules.to_vec())).collect();
        let mut services = HashMap::new();
        // Values of access tables may name any configured table.
        let tables = config.tables.keys().filter_map(|name| Some((name.clone(), table(name)?))).collect();
        for rule in lists.iter().flat_map(|(_, rules)| rules) {
            if let RestrictionKind::CheckPolicyService(endpoint) = &rule.kind {
                let client = || PolicyClient::new(endpoint.clone(), policy_client_settings(config));
                services.entry(endpoint.to_string()).or_insert_with(client);
            }
        }
        Self {
            lists,
            delay_reject: config.policy.smtpd_delay_reject,
            tables,
            policy_services: services,
            policy_default_action: config.policy.smtpd_policy_service_default_action.clone(),
            login_maps: (!config.policy.smtpd_sender_login_maps.is_empty()).then(|| table("smtpd_sender_login_maps")).flatten(),
            dnsbl_sites: config.policy.postscreen_dnsbl_sites.clone(),
            dnsbl_threshold: config.policy.postscreen_dnsbl_threshold,
            resolver,
            peername_timeout: config.policy.smtpd_peername_lookup.then_some(config.policy.smtpd_peername_timeout),
            verifier: None,
        }
    }

    /// Adds address verification for remote addresses.
    #[must_use]
    pub fn with_verifier(self, verifier: Arc<Verifier>) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// Restriction lists evaluated at a stage, in order.
    pub(crate) fn lists_at(&self, stage: RestrictionStage) -> impl Iterator<Item = (&'static str, &[Restriction])> {
        self.lists.iter().filter(move |(name, _)| self.stage_of(name) == stage).map(|(name, rules)| (*name, rules.as_slice()))
    }

    /// Returns whether `postscreen_dnsbl_sites` is evaluated at a stage: together with `smtpd_client_restrictions`.
    pub(crate) fn scores_dnsbl_at(&self, stage: RestrictionStage) -> bool {
        !self.dnsbl_sites.is_empty() && self.stage_of("smtpd_client_restrictions") == stage
    }

    /// Returns whether no restriction needs evaluation at a stage.
    pub(crate) fn is_empty_at(&self, stage: RestrictionStage) -> bool {
        !self.scores_dnsbl_at(stage)
            && self.lists_at(stage).all(|(_, rules)| rules.iter().all(|rule| super::is_checked_by_relay_control(&rule.kind)))
    }

    fn stage_of(&self, list: &str) -> RestrictionStage {
        let early = |stage| if self.delay_reject { RestrictionStage::Rcpt } else { stage };
        match list {
            "smtpd_client_restrictions" => early(RestrictionStage::Connect),
            "smtpd_helo_restrictions" => early(RestrictionStage::Helo),
            "smtpd_sender_restrictions" => early(RestrictionStage::Mail),
            "smtpd_data_restrictions" => RestrictionStage::Data,
            "smtpd_end_of_data_restrictions" => RestrictionStage::EndOfData,
            _ => RestrictionStage::Rcpt,
        }
    }
}

fn policy_client_settings(config: &Config) -> PolicyClientSettings {
    PolicyClientSettings {
        timeout: config.policy.smtpd_policy_service_timeout,
        try_limit: config.policy.smtpd_policy_service_try_limit,
        retry_delay: config.policy.smtpd_policy_service_retry_delay,
        max_idle: config.policy.smtpd_policy_service_max_idle,
        max_ttl: config.policy.smtpd_policy_service_max_ttl,
    }
}
