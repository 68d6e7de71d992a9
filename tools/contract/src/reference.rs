//! Hook reference: a Markdown page of the hooks and the host functions.

use anyhow::Context;
use wit_bindgen_core::wit_parser::{Docs, InterfaceId, PackageId, Resolve, WorldItem};
use wit_component::{OutputToString, WitPrinter};

const PAGE_INTRO: &str = "\
# The plugin contract

Made from `wit/mail/0.1.0` by `WAXWING_UPDATE=1 cargo test -p waxwing-contract`. Which verdict and which function is possible at which hook
is the table [HOOKS.md](../host/sandbox/HOOKS.md); how to write a plugin is in [plugins.md](plugins.md).
";

const HOOKS_INTRO: &str = "\
A component is called for the hooks that it exports. \"By `on_fault`\" is what the operator wrote for the plugin: `defer` (the reply 451 at
this hook), `skip` (as if it had answered `next`), `reject` (554), `hold` (on with the message, into the hold queue). Whatever it says,
a call that ended in a fault has changed nothing and its instance is gone, and no free instance is always 451. A component that exports
a hook which this version of Waxwing does not call is refused when it is loaded.
";

const HOST_FUNCTIONS_INTRO: &str = "\
A component gets what it imports, if it is granted; one that imports more is refused when it is loaded, with the line of configuration
that is missing. What a function cannot do is an error that it returns; a function ends the call as a fault only where it says so.
";

const WORLDS_INTRO: &str = "\
A world is what a plugin imports and exports. Guests in JavaScript and Python import all of theirs, used or not: take the narrowest one, or
write one of your own.
";

/// Renders the page as Markdown.
pub(crate) fn hooks_page(resolve: &Resolve, package: PackageId) -> anyhow::Result<String> {
    let package = resolve.packages.get(package).context("the package that was just read")?;
    let interfaces: Vec<InterfaceId> = package.interfaces.values().copied().collect();
    let named = |id: &InterfaceId| resolve.interfaces.get(*id).and_then(|interface| interface.name.clone()).unwrap_or_default();
    let (hooks, offers): (Vec<_>, Vec<_>) = interfaces.into_iter().partition(|id| named(id).starts_with("on-"));
    let mut text = format!("{PAGE_INTRO}\n{}", doc_text(&package.docs));
    for (title, intro, ids) in [("Hooks", HOOKS_INTRO, hooks), ("What the host offers", HOST_FUNCTIONS_INTRO, offers)] {
        text += &format!("\n## {title}\n\n{intro}");
        for id in ids {
            text += &interface_section(resolve, id)?;
        }
    }
    text += &format!("\n## Worlds\n\n{WORLDS_INTRO}\n| world | imports | exports |\n|---|---|---|\n");
    for (name, world) in &package.worlds {
        let Some(world) = resolve.worlds.get(*world) else { continue };
        let list = |items: Vec<&WorldItem>| {
            let ids = items.into_iter().filter_map(|item| match item {
                WorldItem::Interface { id, .. } => Some(format!("`{}`", named(id))),
                WorldItem::Function(_) | WorldItem::Type { .. } => None,
            });
            ids.filter(|name| name != "`types`").collect::<Vec<_>>().join(", ")
        };
        text +=
            &format!("| `{name}` | {} | {} |\n", list(world.imports.values().collect()), list(world.exports.values().collect()));
    }
    Ok(text)
}

/// Renders an interface: its documentation, then the functions and types as WIT.
fn interface_section(resolve: &Resolve, id: InterfaceId) -> anyhow::Result<String> {
    let interface = resolve.interfaces.get(id).context("an interface of the package")?;
    let name = interface.name.as_deref().unwrap_or_default();
    let mut printer = WitPrinter::<OutputToString>::default();
    printer.print_interface(resolve, id)?;
    let body = printer.output.to_string();
    let documentation = doc_text(&interface.docs);
    anyhow::ensure!(!documentation.is_empty(), "no documentation of {name}");
    Ok(format!("\n### {name}\n\n{documentation}\n```wit\n{}\n```\n", body.trim()))
}

fn doc_text(docs: &Docs) -> String {
    docs.contents.as_deref().map(|text| format!("{}\n", text.trim())).unwrap_or_default()
}
