//! Compiles the standard plugins and writes the components to `OUT_DIR`, for `include_bytes!` in `lib.rs`.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Names of the standard plugins: package `waxwing-plugin-NAME` in directory NAME.
const PLUGINS: [&str; 2] = ["cleanup", "aliases"];

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let root = here.join("../..");
    // Only the sources of the components trigger a rebuild: not the rest of the workspace, not this crate.
    let sources = PLUGINS.iter().copied().chain(["sdk", "builder"]);
    for path in sources.flat_map(|p| [format!("plugins/{p}/src"), format!("plugins/{p}/Cargo.toml")]) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for path in ["plugins/sdk/wit", "wit/mail/0.1.0", "plugins/bundle/build.rs"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-env-changed={}", waxwing_builder::TOOLCHAIN_VARIABLE);
    if let Err(error) = embed(&root, &out) {
        // Cargo prints error lines unchanged, without the noise of a panic.
        for line in error.lines() {
            println!("cargo::error={line}");
        }
    }
}

fn embed(root: &Path, out: &Path) -> Result<(), String> {
    let packages: Vec<String> = PLUGINS.iter().map(|name| format!("waxwing-plugin-{name}")).collect();
    let names: Vec<&str> = packages.iter().map(String::as_str).collect();
    let target = waxwing_builder::target_directory(out);
    let built = waxwing_builder::build(&root.join("Cargo.toml"), &names, &target).map_err(|e| e.to_string())?;
    for (name, plugin) in PLUGINS.iter().zip(built) {
        let file = out.join(name).with_extension("wasm");
        fs::write(&file, plugin.component).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}
