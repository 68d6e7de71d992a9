//! Resolution of a recipient to its targets.

use std::collections::HashSet;

use waxwing_sdk::Address;
use waxwing_sdk::hooks::on_resolve::{Expansion, Resolution, Target};

use crate::{AliasEntry, AliasesSettings, exists_resolution, parse_alias};

/// A lookup table of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasTable {
    /// `alias_maps`: names of local users and lists, `root: ann`.
    Alias,
    /// `virtual_alias_maps`: addresses, `info@example.com: ann@example.org`, and `@example.com` as the domain's catch-all.
    Virtual,
}

impl AliasTable {
    /// Returns the name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alias => "alias_maps",
            Self::Virtual => "virtual_alias_maps",
        }
    }
}

/// A table is temporarily unavailable; the text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUnavailable(pub String);

/// Source of table values.
pub trait TableSource {
    /// Returns the value of a lower-case key, or `None`.
    fn get(&self, table: AliasTable, key: &str) -> Result<Option<String>, TableUnavailable>;
}

/// Resolver for recipients, with settings and tables.
pub struct AliasResolver<'a> {
    /// Settings of the plugin.
    pub settings: &'a AliasesSettings,
    /// Lookup tables to query.
    pub tables: &'a dyn TableSource,
}

/// An entry found in the virtual table.
struct VirtualEntry {
    value: String,
    /// Address extension to append to the targets.
    extension: Option<String>,
}

/// State of the expansion of an alias.
struct ExpansionState {
    seen: HashSet<String>,
    targets: Vec<Target>,
}

impl AliasResolver<'_> {
    /// Tells whether a recipient exists as an alias.
    pub fn verify(&self, recipient: &Address) -> Result<Resolution, TableUnavailable> {
        if self.find_virtual(recipient)?.is_some() {
            return Ok(exists_resolution());
        }
        if self.settings.is_local(&recipient.domain) && self.find_alias(&recipient.local)?.is_some() {
            return Ok(exists_resolution());
        }
        Ok(self.not_found(recipient))
    }

    /// Expands a recipient to its targets.
    pub fn resolve(&self, recipient: &Address) -> Result<Resolution, TableUnavailable> {
        if let Some(found) = self.find_virtual(recipient)? {
            return Ok(self.virtual_targets(recipient, &found));
        }
        if !self.settings.is_local(&recipient.domain) {
            return Ok(self.not_found(recipient));
        }
        let Some((name, value)) = self.find_alias(&recipient.local)? else { return Ok(self.not_found(recipient)) };
        let mut expanding = ExpansionState { seen: HashSet::from([name.clone()]), targets: Vec::new() };
        if let Err(problem) = self.expand(recipient, &name, &value, 0, &mut expanding)? {
            return Ok(Resolution::Unavailable(problem));
        }
        if expanding.targets.is_empty() {
            return Ok(Resolution::Unavailable(format!("alias {name} has no targets")));
        }
        let sender = self.find_owner(&name)?.map(|owner| Address { local: owner, domain: self.domain_of(recipient) });
        Ok(Resolution::Targets(Expansion { targets: expanding.targets, sender }))
    }

    /// Domains in `virtual_alias_domains` have no other recipients; in other domains there may be a mailbox.
    fn not_found(&self, recipient: &Address) -> Resolution {
        let only_aliases = self.settings.virtual_alias_domains.contains(&recipient.domain);
        if only_aliases { Resolution::Unknown } else { Resolution::NotMine }
    }

    /// Looks up the keys of virtual(5) in order: address with extension, without extension, local part alone for local domains, `@domain`.
    fn find_virtual(&self, recipient: &Address) -> Result<Option<VirtualEntry>, TableUnavailable> {
        let (local, domain) = (recipient.local.to_lowercase(), &recipient.domain);
        let (user, extension) = self.split_extension(&local);
        let own = domain.is_empty() || *domain == self.settings.myorigin || self.settings.is_local(domain);
        let full = |local: &str| if domain.is_empty() { None } else { Some(format!("{local}@{domain}")) };
        let extended = extension.is_some();
        let keys = [
            (full(&local), None),
            (full(user).filter(|_| extended), extension),
            (own.then(|| local.clone()), None),
            ((own && extended).then(|| user.to_owned()), extension),
            (full("").filter(|_| !domain.is_empty()), None),
        ];
        for (key, extension) in keys {
            let Some(key) = key else { continue };
            if let Some(value) = self.tables.get(AliasTable::Virtual, &key)? {
                return Ok(Some(VirtualEntry { value, extension: extension.map(str::to_owned) }));
            }
        }
        Ok(None)
    }

    fn virtual_targets(&self, recipient: &Address, found: &VirtualEntry) -> Resolution {
        let problem = |text: String| Resolution::Unavailable(format!("virtual alias {recipient}: {text}"));
        let entries = match parse_alias(&found.value) {
            Ok(entries) if entries.is_empty() => return problem("has no targets".to_owned()),
            Ok(entries) => entries,
            Err(error) => return problem(error.to_string()),
        };
        let mut targets = Vec::with_capacity(entries.len());
        for entry in entries {
            let target = match entry {
                AliasEntry::Address(address) => self.with_extension(address, found.extension.as_deref()),
                AliasEntry::Domain(domain) => Address { local: recipient.local.clone(), domain },
                AliasEntry::User(name) => Address { local: name, domain: String::new() },
                AliasEntry::Command(_) | AliasEntry::File(_) | AliasEntry::Include(_) => {
                    return problem("a virtual alias may contain addresses only".to_owned());
                }
            };
            targets.push(Target::Address(target));
        }
        Resolution::Targets(Expansion { targets, sender: None })
    }

    /// Returns the matching alias name and its right-hand side.
    fn find_alias(&self, local: &str) -> Result<Option<(String, String)>, TableUnavailable> {
        let local = local.to_lowercase();
        let (user, extension) = self.split_extension(&local);
        for name in [Some(&*local), extension.map(|_| user)].into_iter().flatten() {
            if let Some(value) = self.tables.get(AliasTable::Alias, name)? {
                return Ok(Some((name.to_owned(), value)));
            }
        }
        Ok(None)
    }

    /// Adds the targets of an alias; nested aliases are expanded, each once. The inner error is a text for the operator.
    fn expand(
        &self,
        recipient: &Address,
        name: &str,
        value: &str,
        depth: usize,
        expanding: &mut ExpansionState,
    ) -> Result<Result<(), String>, TableUnavailable> {
        let problem = |text: &str| Ok(Err(format!("alias {name}: {text}")));
        let entries = match parse_alias(value) {
            Ok(entries) => entries,
            Err(error) => return problem(&error.to_string()),
        };
        for entry in entries {
            if expanding.targets.len() >= self.settings.expansion_limit {
                return problem(&format!("expands to more than {} targets", self.settings.expansion_limit));
            }
            match entry {
                AliasEntry::Address(address) => match self.expand_address(recipient, address, name, depth, expanding)? {
                    Ok(()) => {}
                    Err(inner) => return Ok(Err(inner)),
                },
                AliasEntry::User(user) => {
                    push_unique(expanding, Target::Address(Address { local: user, domain: self.domain_of(recipient) }))
                }
                AliasEntry::Command(command) if self.settings.allow_mail_to_commands => {
                    push_unique(expanding, Target::Command(command))
                }
                AliasEntry::File(path) if self.settings.allow_mail_to_files => push_unique(expanding, Target::File(path)),
                AliasEntry::Command(_) => return problem("a command, and allow_mail_to_commands does not have \"alias\""),
                AliasEntry::File(_) => return problem("a file, and allow_mail_to_files does not have \"alias\""),
                AliasEntry::Include(_) => {
                    return problem(":include: cannot be read in this version; put its addresses in the alias");
                }
                AliasEntry::Domain(_) => return problem("a domain without a local part"),
            }
        }
        Ok(Ok(()))
    }

    /// Handles an address within an alias: other local aliases are expanded here, everything else is a target. A list with an owner is
    /// left to the host, to be resolved again with a different sender.
    fn expand_address(
        &self,
        recipient: &Address,
        address: Address,
        from: &str,
        depth: usize,
        expanding: &mut ExpansionState,
    ) -> Result<Result<(), String>, TableUnavailable> {
        let domain = if address.domain.is_empty() { &self.settings.myorigin } else { &address.domain };
        let found = if self.settings.is_local(domain) { self.find_alias(&address.local)? } else { None };
        let Some((name, value)) = found else {
            push_unique(expanding, Target::Address(address));
            return Ok(Ok(()));
        };
        if self.find_owner(&name)?.is_some() {
            push_unique(expanding, Target::Address(address));
            return Ok(Ok(()));
        }
        // `ann: ann, ann@example.org` keeps a copy: a name within its own alias is the user.
        if name == from {
            push_unique(expanding, Target::Address(address));
            return Ok(Ok(()));
        }
        if !expanding.seen.insert(name.clone()) {
            return Ok(Ok(()));
        }
        if depth >= self.settings.recursion_limit {
            return Ok(Err(format!("alias {name}: more than {} names within names", self.settings.recursion_limit)));
        }
        self.expand(recipient, &name, &value, depth + 1, expanding)
    }

    /// Returns `owner-NAME`, if such an alias exists; the owner of an owner is `owner-owner`.
    fn find_owner(&self, name: &str) -> Result<Option<String>, TableUnavailable> {
        let owner = if name.starts_with("owner-") { "owner-owner".to_owned() } else { format!("owner-{name}") };
        Ok(self.tables.get(AliasTable::Alias, &owner)?.map(|_| owner).filter(|owner| owner != name))
    }

    /// Splits user and extension; `owner-x` and `x-request` are names, not extensions.
    fn split_extension<'l>(&self, local: &'l str) -> (&'l str, Option<&'l str>) {
        let delimiters = &self.settings.recipient_delimiter;
        let protected = local.starts_with("owner-") || local.ends_with("-request");
        match local.find(|c| delimiters.contains(c)) {
            Some(at) if at > 0 && !protected => (local.get(..at).unwrap_or(local), local.get(at..)),
            Some(_) | None => (local, None),
        }
    }

    fn with_extension(&self, address: Address, extension: Option<&str>) -> Address {
        match extension {
            Some(extension) => Address { local: format!("{}{extension}", address.local), ..address },
            None => address,
        }
    }

    fn domain_of(&self, recipient: &Address) -> String {
        if recipient.domain.is_empty() { self.settings.myorigin.clone() } else { recipient.domain.clone() }
    }
}

/// Adds a target unless already present.
fn push_unique(expanding: &mut ExpansionState, target: Target) {
    if !expanding.targets.iter().any(|t| is_same_target(t, &target)) {
        expanding.targets.push(target);
    }
}

fn is_same_target(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Address(a), Target::Address(b)) => a.local.eq_ignore_ascii_case(&b.local) && a.domain == b.domain,
        (Target::Command(a), Target::Command(b)) | (Target::File(a), Target::File(b)) => a == b,
        (Target::Address(_) | Target::Command(_) | Target::File(_), _) => false,
    }
}

#[cfg(test)]
mod tests;
