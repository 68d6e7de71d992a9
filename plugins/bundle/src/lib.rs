//! The standard plugins, compiled to components and embedded.
//!
//! Owns: the octets of the standard plugins. The build script compiles them; see CONTRIBUTING for the toolchain that it needs.
//! Uses: builder, at build time alone.
//! Used by: daemon, tests.
//! Never: what a plugin is configured with.
//! Start reading at: [`STANDARD`], then `build.rs`.
#![forbid(unsafe_code)]

/// A plugin that is part of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The component.
    pub component: &'static [u8],
}

/// All of them.
pub const STANDARD: &[Standard] = &[
    Standard { name: "cleanup", component: include_bytes!(concat!(env!("OUT_DIR"), "/cleanup.wasm")) },
    Standard { name: "aliases", component: include_bytes!(concat!(env!("OUT_DIR"), "/aliases.wasm")) },
];

/// The component of that name.
#[must_use]
pub fn standard(name: &str) -> Option<&'static [u8]> {
    STANDARD.iter().find(|s| s.name == name).map(|s| s.component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_import_the_contract_alone() {
        for plugin in STANDARD {
            assert_eq!(waxwing_builder::foreign_imports(plugin.component), Ok(vec![]), "{}", plugin.name);
        }
        assert_eq!(standard("nobody"), None);
    }
}
