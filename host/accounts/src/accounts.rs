//! Existence of recipients and locations of mailboxes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use waxwing_config::Config;
use waxwing_pipeline::{AddressClassifier, RecipientDirectory, Table, TableError};
use waxwing_types::{Address, AddressClass, Clock, MailboxLocation};

use crate::domain_classes::DomainClasses;
use crate::mailbox_path::{mailbox_path, spool_mailbox_path};
use crate::table_list::TableList;

/// Configuration keys whose values are lookup tables.
const TABLE_KEYS: [&str; 5] =
    ["alias_maps", "virtual_alias_maps", "virtual_mailbox_maps", "local_recipient_maps", "smtpd_sender_login_maps"];
/// Local part accepted in every domain of this server (RFC 5321 §4.5.1).
const POSTMASTER: &str = "postmaster";

/// Recipient directory over the lookup tables of the configuration.
pub struct Accounts {
    classes: DomainClasses,
    aliases: TableList,
    virtual_aliases: TableList,
    mailbox_tables: TableList,
    local_user_tables: TableList,
    mailbox_base: PathBuf,
    spool_directory: PathBuf,
    /// First character of `recipient_delimiter`; separates a user name from an address extension.
    delimiter: Option<char>,
    tables_by_name: HashMap<String, TableList>,
}

impl Accounts {
    /// Opens all lookup tables of the configuration. Error: the first table without a readable file.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let mut named = HashMap::new();
        for name in TABLE_KEYS.into_iter().chain(config.tables.keys().map(String::as_str)) {
            named.insert(name.to_owned(), TableList::open(config.lookup_tables(name).unwrap_or_default(), clock)?);
        }
        let list = |name: &str| named.get(name).cloned().unwrap_or_default();
        Ok(Self {
            classes: DomainClasses::new(config),
            aliases: list("alias_maps"),
            virtual_aliases: list("virtual_alias_maps"),
            mailbox_tables: list("virtual_mailbox_maps"),
            local_user_tables: list("local_recipient_maps"),
            mailbox_base: config.domains.virtual_mailbox_base.clone(),
            spool_directory: config.domains.mail_spool_directory.clone(),
            delimiter: config.general.recipient_delimiter.chars().next(),
            tables_by_name: named,
        })
    }

    /// Returns a table by the name used in plugin grants: a `..._maps` key, or a table of `[tables]`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<Arc<dyn Table>> {
        self.tables_by_name.get(name).map(|list| Arc::new(list.clone()) as Arc<dyn Table>)
    }

    /// Checks whether an address is acceptable as a recipient. Unknown recipients of local domains are refused, so that no bounce becomes
    /// necessary later; recipients in relayed and remote domains always pass. `postmaster` exists in every local domain.
    pub async fn recipient_exists(&self, address: &Address) -> Result<bool, TableError> {
        let class = self.class_of(address);
        match class {
            AddressClass::Relay | AddressClass::Remote => return Ok(true),
            AddressClass::Local | AddressClass::VirtualAlias | AddressClass::VirtualMailbox => {}
        }
        if is_postmaster(address) || self.is_virtual_alias(address, class).await? {
            return Ok(true);
        }
        match class {
            AddressClass::Local => {
                let names = self.local_lookup_keys(address);
                Ok(self.aliases.get_first(&names).await?.is_some() || self.local_user_tables.get_first(&names).await?.is_some())
            }
            AddressClass::VirtualMailbox => {
                Ok(self.mailbox_tables.get_first(&self.address_lookup_keys(address)).await?.is_some())
            }
            AddressClass::VirtualAlias | AddressClass::Relay | AddressClass::Remote => Ok(false),
        }
    }

    /// Returns the Maildir of an address after alias expansion; `None` without a mailbox on this server. The `postmaster` of a local domain
    /// has the mailbox of the local user `postmaster` even if no table lists the address.
    pub async fn mailbox(&self, address: &Address) -> Result<Option<PathBuf>, TableError> {
        match self.class_of(address) {
            AddressClass::VirtualMailbox => {
                if let Some(value) = self.mailbox_tables.get_first(&self.address_lookup_keys(address)).await? {
                    let bad = |error| TableError {
                        table: "virtual_mailbox_maps".to_owned(),
                        reason: format!("the value \"{value}\" of {address} is not a mailbox path: {error:?}"),
                    };
                    return mailbox_path(&self.mailbox_base, &value).map(Some).map_err(bad);
                }
            }
            AddressClass::Local => {
                let names = self.local_lookup_keys(address);
                if let Some(user) = names.last()
                    && self.local_user_tables.get_first(&names).await?.is_some()
                {
                    return Ok(spool_mailbox_path(&self.spool_directory, user));
                }
            }
            AddressClass::VirtualAlias => {}
            AddressClass::Relay | AddressClass::Remote => return Ok(None),
        }
        Ok(is_postmaster(address).then(|| spool_mailbox_path(&self.spool_directory, POSTMASTER)).flatten())
    }

    async fn is_virtual_alias(&self, address: &Address, class: AddressClass) -> Result<bool, TableError> {
        let mut keys = self.address_lookup_keys(address);
        if class == AddressClass::Local {
            keys.extend(self.local_lookup_keys(address));
        }
        Ok(self.virtual_aliases.get_first(&keys).await?.is_some())
    }

    /// Lookup keys `user+ext@domain`, `user@domain`, `@domain` (virtual(5)).
    fn address_lookup_keys(&self, address: &Address) -> Vec<String> {
        let mut keys = vec![address.lookup_key()];
        if let Some(user) = self.without_extension(address) {
            keys.push(format!("{user}@{}", address.domain()));
        }
        if !address.has_no_domain() {
            keys.push(format!("@{}", address.domain()));
        }
        keys
    }

    /// Lookup keys `user+ext`, `user`; the last key is the user name.
    fn local_lookup_keys(&self, address: &Address) -> Vec<String> {
        let mut names = vec![address.local().to_lowercase()];
        names.extend(self.without_extension(address));
        names
    }

    fn without_extension(&self, address: &Address) -> Option<String> {
        let (user, _) = address.local().split_once(self.delimiter?)?;
        (!user.is_empty()).then(|| user.to_lowercase())
    }
}

#[async_trait]
impl RecipientDirectory for Accounts {
    async fn exists(&self, recipient: &Address) -> Result<bool, TableError> {
        Self::recipient_exists(self, recipient).await
    }

    async fn mailbox_location(&self, recipient: &Address) -> Result<Option<MailboxLocation>, TableError> {
        Ok(self.mailbox(recipient).await?.map(MailboxLocation::maildir))
    }
}

impl AddressClassifier for Accounts {
    fn class_of(&self, address: &Address) -> AddressClass {
        self.classes.class_of(address)
    }
}

fn is_postmaster(address: &Address) -> bool {
    address.local().eq_ignore_ascii_case(POSTMASTER)
}

#[cfg(test)]
mod tests;
