//! Compiles plugins to WebAssembly components, for build scripts and tests.
//!
//! Owns: choice of the toolchain for WebAssembly, the nested cargo, conversion of a core module to a component, and the guarantee that a
//! component imports only interfaces of the contract.
//! Uses: no crate of the workspace; wit-component.
//! Used by: tool (`waxwing plugin component`); in the build script bundle; in tests daemon, sandbox.
//! Never: installs anything.
//! Start reading at: [`build`].
#![forbid(unsafe_code)]

mod toolchain;

use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

pub use toolchain::{TOOLCHAIN_VARIABLE, Toolchain};

/// Target of all plugins: without WASI, so that no system function can be imported by accident.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Prefix required of every import of a component.
const CONTRACT_PREFIX: &str = "waxwing:mail/";

/// A compiled plugin.
#[derive(Debug)]
pub struct BuiltPlugin {
    /// Name of the cargo package.
    pub package: String,
    /// Binary of the component.
    pub component: Vec<u8>,
}

/// Error of a plugin build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No toolchain for WebAssembly is installed.
    #[error(
        "plugins are compiled to WebAssembly, and no toolchain for that is installed. Run one of\n    \
         rustup target add wasm32-unknown-unknown\n    \
         apt-get install rustc-web cargo-web rust-web-src lld   (as root, Debian)\n\
         and build again{0}"
    )]
    NoToolchain(String),
    /// `cargo` could not be started or ended with an error; the text includes the output of cargo.
    #[error("{0}")]
    Cargo(String),
    /// The module could not be read or does not fit the contract.
    #[error("{package}: {reason}")]
    Component {
        /// Name of the cargo package.
        package: String,
        /// Reason, for the error text.
        reason: String,
    },
}

/// Compiles `packages` of the workspace of `manifest` with the profile `guest` and converts them to components. The nested cargo uses a
/// separate directory below `target` for each toolchain: sharing the directory of the outer, waiting cargo would deadlock.
pub fn build(manifest: &Path, packages: &[&str], target: &Path) -> Result<Vec<BuiltPlugin>, BuildError> {
    let toolchain = Toolchain::find()?;
    let directory = target.join(toolchain.target_subdirectory());
    let mut command = toolchain.cargo();
    command.arg("build").arg("--manifest-path").arg(manifest).args(["--profile", "guest", "--target", TARGET]);
    command.arg("--target-dir").arg(&directory);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.output().map_err(|e| BuildError::Cargo(format!("cargo cannot be started: {e}")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(BuildError::Cargo(format!("compiling plugins with {toolchain} failed ({}):\n{stderr}", output.status)));
    }
    packages.iter().map(|package| read_component(package, &directory)).collect()
}

fn read_component(package: &str, directory: &Path) -> Result<BuiltPlugin, BuildError> {
    let failed = |reason: String| BuildError::Component { package: package.to_owned(), reason };
    let file: PathBuf = directory.join(TARGET).join("guest").join(package.replace('-', "_")).with_extension("wasm");
    let module = std::fs::read(&file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
    let component = componentize(&module).map_err(failed)?;
    Ok(BuiltPlugin { package: package.to_owned(), component })
}

/// Converts a core module with an embedded world (custom section of wit-bindgen, in Rust and C) to a component. The error is a text for
/// the plugin author.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let mut encoder = ComponentEncoder::default().validate(true).module(module).map_err(|e| format!("{e:#}"))?;
    let component = encoder.encode().map_err(|e| format!("{e:#}"))?;
    match foreign_imports(&component)?.as_slice() {
        [] => Ok(component),
        foreign => Err(format!("imports {}, and a plugin imports nothing but {CONTRACT_PREFIX}…", foreign.join(", "))),
    }
}

/// Returns the imports of a component outside the contract, for instance of WASI; fails if the component is not readable.
pub fn foreign_imports(component: &[u8]) -> Result<Vec<String>, String> {
    use wit_component::DecodedWasm;
    let decoded = wit_component::decode(component).map_err(|e| format!("{e:#}"))?;
    let DecodedWasm::Component(resolve, world) = decoded else { return Err("is not a component".to_owned()) };
    let names = resolve.worlds.get(world).into_iter().flat_map(|w| w.imports.keys()).map(|key| resolve.name_world_key(key));
    Ok(names.filter(|name| !name.starts_with(CONTRACT_PREFIX)).collect())
}

/// Returns the target directory that contains a build script's `OUT_DIR`.
#[must_use]
pub fn target_directory(out_dir: &Path) -> PathBuf {
    let profile = out_dir.ancestors().find(|d| d.ends_with("build")).and_then(Path::parent);
    profile.and_then(Path::parent).unwrap_or(out_dir).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_target_directory() {
        assert_eq!(target_directory(Path::new("/x/target/debug/build/bundle-1f/out")), Path::new("/x/target"));
    }

    #[test]
    fn names_what_is_not_of_the_contract() {
        // A component that imports two instances without functions, octet by octet (the binary format of the component model).
        let import = |name: &[u8]| [&[0x00, u8::try_from(name.len()).unwrap()], name, &[0x05, 0x00]].concat();
        let imports = [vec![2], import(b"waxwing:mail/log@0.1.0"), import(b"wasi:io/poll@0.2.6")].concat();
        let mut component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\x00\x0a".to_vec();
        component.push(u8::try_from(imports.len()).unwrap());
        component.extend(imports);
        assert_eq!(foreign_imports(&component), Ok(vec!["wasi:io/poll@0.2.6".to_owned()]));
        assert!(foreign_imports(b"nothing").is_err());
    }
}
