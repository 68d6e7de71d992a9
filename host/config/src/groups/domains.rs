//! Address classes: domains, their tables and mailboxes.

use std::path::PathBuf;

use crate::groups::GeneralConfig;
use crate::section::section;
use crate::table::{TableSpec, TableSpecList};
use crate::value::{DomainValue, ListOf, PathValue};

section! {
    /// Address classes: domains, their tables and mailboxes.
    pub struct DomainsConfig (table, reader, general: &GeneralConfig) {
        /// Domains delivered to local users and aliases.
        mydestination: Vec<String> [ListOf<DomainValue>] = default_mydestination(&general.myhostname, &general.mydomain),
            derived "[myhostname, \"localhost.\" + general.mydomain, \"localhost\"]";
        /// Domains relayed to other servers, including subdomains.
        relay_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Domains whose addresses are all aliases for addresses in other domains.
        virtual_alias_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Aliases of full addresses, in any domain.
        virtual_alias_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Domains delivered to the mailboxes in virtual_mailbox_maps.
        virtual_mailbox_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Maps an address to the path of a mailbox below virtual_mailbox_base; "@domain" matches every address of a
        /// domain.
        virtual_mailbox_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Parent directory of all virtual mailboxes.
        virtual_mailbox_base: PathBuf [PathValue] = PathBuf::from("/var/mail/virtual");
        /// Local users that accept mail without an alias; the value is ignored.
        local_recipient_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Aliases of local users.
        alias_maps: Vec<TableSpec> [TableSpecList] = default_alias_maps(reader.environment.path_exists),
            derived "\"aliases:/etc/aliases\" if that file is there";
        /// Directory with a Maildir for each local user, named after the user.
        mail_spool_directory: PathBuf [PathValue] = PathBuf::from("/var/mail");
    }
}

fn default_mydestination(hostname: &str, domain: &str) -> Vec<String> {
    let mut domains = vec![hostname.to_owned()];
    for more in [format!("localhost.{domain}"), "localhost".to_owned()] {
        if !domains.contains(&more) {
            domains.push(more);
        }
    }
    domains
}

fn default_alias_maps(exists: fn(&std::path::Path) -> bool) -> Vec<TableSpec> {
    let path = PathBuf::from("/etc/aliases");
    if exists(&path) { vec![TableSpec::Aliases(path)] } else { Vec::new() }
}
