//! Standard plugin `aliases`: expands recipients by Postfix's tables `alias_maps` and `virtual_alias_maps`.
//!
//! Owns: right-hand sides of aliases, nested aliases, list owners, the order of lookup keys.
//! Uses: sdk.
//! Used by: no crate; bundle embeds the compiled component.
//! Never: reads a file (the host indexes `/etc/aliases`), delivers.
//! Start reading at: [`resolve`], then [`parse_alias`].

mod parse;
mod resolve;
mod settings;

use std::cell::OnceCell;

use waxwing_sdk::hooks::on_load;
use waxwing_sdk::hooks::on_resolve::{self, Expansion, Resolution};
use waxwing_sdk::{Address, lookup};

pub use parse::{AliasEntry, AliasParseError, parse_alias};
pub use resolve::{AliasResolver, AliasTable, TableSource, TableUnavailable};
pub use settings::AliasesSettings;

/// Plugin type that implements the hooks.
pub struct Aliases;

thread_local! {
    static SETTINGS: OnceCell<AliasesSettings> = const { OnceCell::new() };
}

/// Lookup tables of the server, through the host function `lookup`.
struct HostTables;

impl TableSource for HostTables {
    fn get(&self, table: AliasTable, key: &str) -> Result<Option<String>, TableUnavailable> {
        match lookup::get(table.name(), key) {
            Ok(found) => Ok(found),
            // A table without a grant counts as not configured.
            Err(lookup::LookupError::NotGranted) => Ok(None),
            Err(lookup::LookupError::Unavailable(reason)) => Err(TableUnavailable(format!("{}: {reason}", table.name()))),
        }
    }
}

impl on_load::Guest for Aliases {
    fn load() -> Result<(), String> {
        AliasesSettings::read().map(drop)
    }
}

impl on_resolve::Guest for Aliases {
    fn resolve(recipient: Address, verify: bool) -> Resolution {
        SETTINGS.with(|settings| {
            // Cannot fail: `load` has validated the same settings in an earlier instance.
            let settings = settings.get_or_init(|| AliasesSettings::read().unwrap_or_default());
            let resolver = AliasResolver { settings, tables: &HostTables };
            let answer = if verify { resolver.verify(&recipient) } else { resolver.resolve(&recipient) };
            answer.unwrap_or_else(|TableUnavailable(reason)| Resolution::Unavailable(reason))
        })
    }
}

/// Resolution for a verify request: the recipient exists, targets not expanded.
fn exists_resolution() -> Resolution {
    Resolution::Targets(Expansion { targets: Vec::new(), sender: None })
}

waxwing_sdk::export!(Aliases: on_load, on_resolve);

#[cfg(test)]
mod tests {
    use waxwing_sdk::hooks::on_resolve::{Guest, Target};
    use waxwing_sdk::testing::Host;

    use super::*;

    #[test]
    fn the_hook_asks_the_host() {
        let host = Host::new().config("mydestination", "[\"example.com\"]").table("alias_maps", "root", "ann");
        let root = Address::new("root", "example.com");
        let targets = |resolution| match resolution {
            Resolution::Targets(expansion) => expansion.targets,
            other @ (Resolution::NotMine | Resolution::Unknown | Resolution::Unavailable(_)) => panic!("{other:?}"),
        };
        host.run(|| {
            <Aliases as on_load::Guest>::load().unwrap();
            let found = targets(Aliases::resolve(root.clone(), false));
            assert!(matches!(&*found, [Target::Address(a)] if *a == Address::new("ann", "")), "{found:?}");
            assert!(targets(Aliases::resolve(root.clone(), true)).is_empty());
            assert!(matches!(Aliases::resolve(Address::new("x", "example.org"), false), Resolution::NotMine));
        });
        host.broken_table("alias_maps").run(|| {
            let answer = Aliases::resolve(root, false);
            assert!(matches!(&answer, Resolution::Unavailable(why) if why == "alias_maps: cannot be read"), "{answer:?}");
        });
    }
}
