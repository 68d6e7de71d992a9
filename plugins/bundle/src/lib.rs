//! Standard plugins, compiled to components and embedded in the program.
//!
//! Owns: binaries of the standard plugins, compiled by the build script; CONTRIBUTING names the required toolchain.
//! Uses: no crate at run time; builder in the build script.
//! Used by: daemon; in tests sandbox.
//! Never: configuration of a plugin.
//! Start reading at: [`STANDARD_PLUGINS`], then `build.rs`.
#![forbid(unsafe_code)]

/// A plugin embedded in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandardPlugin {
    /// Plugin name in the configuration.
    pub name: &'static str,
    /// Binary of the component.
    pub component: &'static [u8],
}

/// All standard plugins, in configuration order.
pub const STANDARD_PLUGINS: &[StandardPlugin] = &[
    StandardPlugin { name: "cleanup", component: include_bytes!(concat!(env!("OUT_DIR"), "/cleanup.wasm")) },
    StandardPlugin { name: "aliases", component: include_bytes!(concat!(env!("OUT_DIR"), "/aliases.wasm")) },
];

/// Returns the component of a standard plugin by name.
#[must_use]
pub fn standard_component(name: &str) -> Option<&'static [u8]> {
    STANDARD_PLUGINS.iter().find(|s| s.name == name).map(|s| s.component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_import_the_contract_alone() {
        for plugin in STANDARD_PLUGINS {
            assert_eq!(waxwing_builder::foreign_imports(plugin.component), Ok(vec![]), "{}", plugin.name);
        }
        assert_eq!(standard_component("nobody"), None);
    }
}
