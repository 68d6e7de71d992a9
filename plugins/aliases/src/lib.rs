//! Standard plugin: what recipients stand for, by Postfix's tables `alias_maps` and `virtual_alias_maps`.
//!
//! Owns: the right-hand sides of aliases, nested names, the owners of lists, the order of keys in which a table is asked.
//! Uses: the SDK.
//! Used by: `bundle`, which embeds it.
//! Never: reads a file (the host indexes `/etc/aliases`), delivers.
//! Start reading at: [`resolve`], then [`parse`].

mod parse;
mod resolve;
mod settings;

use std::cell::OnceCell;

use waxwing_sdk::hooks::on_load;
use waxwing_sdk::hooks::on_resolve::{self, Expansion, Resolution};
use waxwing_sdk::{Address, lookup};

pub use parse::{Entry, ParseError, parse};
pub use resolve::{Resolver, Table, Tables, TablesFailed};
pub use settings::Settings;

/// What the host calls.
pub struct Aliases;

thread_local! {
    static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
}

/// The server's tables.
struct HostTables;

impl Tables for HostTables {
    fn get(&self, table: Table, key: &str) -> Result<Option<String>, TablesFailed> {
        match lookup::get(table.name(), key) {
            Ok(found) => Ok(found),
            // A table that is not granted is one that the server does not have.
            Err(lookup::LookupError::NotGranted) => Ok(None),
            Err(lookup::LookupError::Unavailable(reason)) => Err(TablesFailed(format!("{}: {reason}", table.name()))),
        }
    }
}

impl on_load::Guest for Aliases {
    fn load() -> Result<(), String> {
        Settings::read().map(drop)
    }
}

impl on_resolve::Guest for Aliases {
    fn resolve(recipient: Address, verify: bool) -> Resolution {
        SETTINGS.with(|settings| {
            // `load` has read them without error in an instance before this one.
            let settings = settings.get_or_init(|| Settings::read().unwrap_or_default());
            let resolver = Resolver { settings, tables: &HostTables };
            let answer = if verify { resolver.verify(&recipient) } else { resolver.resolve(&recipient) };
            answer.unwrap_or_else(|TablesFailed(reason)| Resolution::Unavailable(reason))
        })
    }
}

/// The recipient exists, and what it stands for was not asked.
fn exists() -> Resolution {
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
