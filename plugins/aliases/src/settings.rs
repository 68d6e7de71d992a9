//! Settings of the plugin, read from the configuration.

use waxwing_sdk::settings::{number, string, strings};

/// Settings, named after Postfix parameters. Those marked *server* default to the server's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasesSettings {
    /// Domains with local parts in `alias_maps`, lower case. Server.
    pub mydestination: Vec<String>,
    /// Domains with aliases only, without mailboxes, lower case. Server.
    pub virtual_alias_domains: Vec<String>,
    /// Domain appended to names without domain. Server.
    pub myorigin: String,
    /// Separators of user name and extension; empty for none. Server.
    pub recipient_delimiter: String,
    /// Allows `|command` in `alias_maps` (value `"alias"`).
    pub allow_mail_to_commands: bool,
    /// Allows `/file` in `alias_maps` (value `"alias"`).
    pub allow_mail_to_files: bool,
    /// Targets of a recipient at most.
    pub expansion_limit: usize,
    /// Depth of nested aliases at most.
    pub recursion_limit: usize,
}

impl Default for AliasesSettings {
    fn default() -> Self {
        Self {
            mydestination: Vec::new(),
            virtual_alias_domains: Vec::new(),
            myorigin: String::new(),
            recipient_delimiter: String::new(),
            allow_mail_to_commands: false,
            allow_mail_to_files: false,
            expansion_limit: 1000,
            recursion_limit: 50,
        }
    }
}

impl AliasesSettings {
    /// Reads all keys; the error text names the key.
    pub fn read() -> Result<Self, String> {
        let default = Self::default();
        let lower = |key: &str| Ok::<_, String>(strings(key)?.iter().map(|t| t.to_lowercase()).collect::<Vec<_>>());
        let limit = |key: &str, default: usize| {
            Ok::<_, String>(number(key)?.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        Ok(Self {
            mydestination: lower("mydestination")?,
            virtual_alias_domains: lower("virtual_alias_domains")?,
            myorigin: string("myorigin")?.unwrap_or_default().to_lowercase(),
            recipient_delimiter: string("recipient_delimiter")?.unwrap_or_default(),
            allow_mail_to_commands: is_allowed_in_aliases("allow_mail_to_commands")?,
            allow_mail_to_files: is_allowed_in_aliases("allow_mail_to_files")?,
            expansion_limit: limit("alias_expansion_limit", default.expansion_limit)?,
            recursion_limit: limit("alias_recursion_limit", default.recursion_limit)?,
        })
    }

    pub(crate) fn is_local(&self, domain: &str) -> bool {
        domain.is_empty() || self.mydestination.iter().any(|d| d.eq_ignore_ascii_case(domain))
    }
}

fn is_allowed_in_aliases(key: &str) -> Result<bool, String> {
    let places = strings(key)?;
    match places.iter().find(|p| *p != "alias") {
        Some(other) => Err(format!("`{key}` can have \"alias\", not \"{other}\"")),
        None => Ok(!places.is_empty()),
    }
}
