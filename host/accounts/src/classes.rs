//! Which domain is whose.

use std::collections::HashMap;

use waxwing_config::Config;
use waxwing_pipeline::ClassOf;
use waxwing_types::{Address, AddressClass};

/// Domains and their classes. A domain of `relay_domains` stands for its subdomains too, as in Postfix.
#[derive(Clone, Debug)]
pub struct Classes {
    exact: HashMap<String, AddressClass>,
    relayed: Vec<String>,
}

impl Classes {
    /// Takes the domains of a checked configuration, in which a domain has one class.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let lists = [
            (&config.mydestination, AddressClass::Local),
            (&config.virtual_alias_domains, AddressClass::VirtualAlias),
            (&config.virtual_mailbox_domains, AddressClass::VirtualMailbox),
            (&config.relay_domains, AddressClass::Relay),
        ];
        let entries = lists.iter().flat_map(|(list, class)| list.iter().map(|domain| (domain.to_lowercase(), *class)));
        let relayed = config.relay_domains.iter().map(|domain| format!(".{}", domain.to_lowercase())).collect();
        Self { exact: entries.collect(), relayed }
    }
}

impl ClassOf for Classes {
    /// A bare address is local: it will be completed with a name of this server.
    fn class_of(&self, address: &Address) -> AddressClass {
        if address.is_bare() {
            return AddressClass::Local;
        }
        match self.exact.get(address.domain()) {
            Some(class) => *class,
            None if self.relayed.iter().any(|parent| address.domain().ends_with(parent.as_str())) => AddressClass::Relay,
            None => AddressClass::Default,
        }
    }
}
