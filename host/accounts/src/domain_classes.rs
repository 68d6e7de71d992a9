//! Address classes of domains.

use std::collections::HashMap;

use waxwing_config::Config;
use waxwing_pipeline::AddressClassifier;
use waxwing_types::{Address, AddressClass};

/// Domains and their address classes. As in Postfix, a domain of `relay_domains` includes all subdomains.
#[derive(Clone, Debug)]
pub struct DomainClasses {
    exact: HashMap<String, AddressClass>,
    relay_suffixes: Vec<String>,
}

impl DomainClasses {
    /// Builds the map from a checked configuration, in which each domain has one class.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let lists = [
            (&config.domains.mydestination, AddressClass::Local),
            (&config.domains.virtual_alias_domains, AddressClass::VirtualAlias),
            (&config.domains.virtual_mailbox_domains, AddressClass::VirtualMailbox),
            (&config.domains.relay_domains, AddressClass::Relay),
        ];
        let entries = lists.iter().flat_map(|(list, class)| list.iter().map(|domain| (domain.to_lowercase(), *class)));
        let relayed = config.domains.relay_domains.iter().map(|domain| format!(".{}", domain.to_lowercase())).collect();
        Self { exact: entries.collect(), relay_suffixes: relayed }
    }
}

impl AddressClassifier for DomainClasses {
    /// Returns the class of an address. An address without a domain is local: a name of this server completes the address later.
    fn class_of(&self, address: &Address) -> AddressClass {
        if address.has_no_domain() {
            return AddressClass::Local;
        }
        match self.exact.get(address.domain()) {
            Some(class) => *class,
            None if self.relay_suffixes.iter().any(|parent| address.domain().ends_with(parent.as_str())) => AddressClass::Relay,
            None => AddressClass::Remote,
        }
    }
}
