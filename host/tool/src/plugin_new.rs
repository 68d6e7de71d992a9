//! Command `waxwing plugin new`: the source folder of a new plugin.
//!
//! The folder is a copy of the tested example in `plugins/examples` under another name. The copy includes the contract, and for Rust the
//! SDK: a plugin builds without the repository of Waxwing.

mod templates;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::ToolError;
use crate::error::NewPluginError;

/// Maximum length of a plugin name, in bytes.
const NAME_BYTES_MAX: usize = 40;
/// Name of the example, in file contents and file names.
const EXAMPLE_NAME: &str = "checker";
/// File with the configuration lines of the new plugin.
const BINDING: &str = "binding.toml";
/// Names refused by cargo for packages or by the compiler for crates.
const RUST_RESERVED_NAMES: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "yield",
];

/// Arguments of `waxwing plugin new`.
#[derive(clap::Args, Clone, Debug)]
pub struct NewPluginArgs {
    /// Name of the plugin and of the new folder: lower case letters, digits and dashes
    name: String,
    /// Programming language of the plugin
    #[arg(long, value_name = "LANGUAGE")]
    lang: PluginLanguage,
    /// Parent of the new folder
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

/// Programming language with an example plugin.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PluginLanguage {
    Rust,
    Js,
    Python,
    C,
}

/// Creates the folder and prints the next steps.
pub(crate) fn create(args: &NewPluginArgs, out: &mut dyn Write) -> Result<(), ToolError> {
    let name = check_name(&args.name, args.lang)?;
    let folder = args.dir.join(name);
    fs::create_dir_all(&args.dir).map_err(|error| NewPluginError::File { path: args.dir.clone(), error })?;
    match fs::create_dir(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewPluginError::Exists(folder).into()),
        Err(error) => return Err(NewPluginError::File { path: folder, error }.into()),
    }
    for file in templates::for_language(args.lang) {
        let path = folder.join(file.path.replace(EXAMPLE_NAME, name));
        create_file(&path, &file.content(name), file.is_executable()).map_err(|error| NewPluginError::File { path, error })?;
    }
    let wasm = folder.join(name).with_extension("wasm");
    let wasm = std::path::absolute(&wasm).unwrap_or(wasm);
    let path = folder.join(BINDING);
    create_file(&path, binding_toml(name, &wasm, args.lang).as_bytes(), false)
        .map_err(|error| NewPluginError::File { path, error })?;
    let folder = folder.display();
    writeln!(out, "{folder} is a plugin in {lang}; {folder}/README.md says more. Next:", lang = args.lang.title())?;
    writeln!(out, "\n  {folder}/build\n\nand the lines of {folder}/{BINDING} in the server's configuration.")?;
    Ok(())
}

/// Converts a core module to a component.
pub(crate) fn write_component(module: &Path, component: &Path) -> Result<(), ToolError> {
    let octets = fs::read(module).map_err(|error| NewPluginError::File { path: module.to_owned(), error })?;
    let bytes = waxwing_builder::componentize(&octets)
        .map_err(|reason| NewPluginError::Component { module: module.to_owned(), reason })?;
    fs::write(component, bytes).map_err(|error| NewPluginError::File { path: component.to_owned(), error })?;
    Ok(())
}

impl PluginLanguage {
    fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// Returns configuration lines with the higher limits of interpreted languages.
    fn limits_toml(self, name: &str) -> String {
        match self {
            Self::Rust | Self::C => String::new(),
            // The first call in a fresh instance starts the interpreter, slow on a busy machine.
            Self::Js | Self::Python => {
                format!("\n[plugins.{name}.limits]\ntime = \"2s\"\ncpu = \"500ms\"\nmemory = \"64MiB\"\n")
            }
        }
    }
}

/// Returns the configuration lines of the plugin, with grants for all imports of the example's world.
fn binding_toml(name: &str, file: &Path, language: PluginLanguage) -> String {
    format!(
        "\n[plugins.{name}]\nfile = {file:?}\n\n[plugins.{name}.grants]\nmessage = \"full\"\nedit = true\n{limits}",
        file = file.display().to_string(),
        limits = language.limits_toml(name)
    )
}

/// Checks a name for use in paths, TOML, all package managers and header fields.
fn check_name(name: &str, language: PluginLanguage) -> Result<&str, NewPluginError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let reason = if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        "it has lower case letters, digits and dashes, and begins with a letter".to_owned()
    } else if name.ends_with('-') || name.contains("--") {
        "a dash is allowed only between letters or digits".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it has at most {NAME_BYTES_MAX} letters")
    } else if name.starts_with("waxwing-") || matches!(name, "cleanup" | "aliases") {
        "reserved for plugins of the server".to_owned()
    } else if language == PluginLanguage::Rust && RUST_RESERVED_NAMES.contains(&name) {
        "reserved in Rust".to_owned()
    } else {
        return Ok(name);
    };
    Err(NewPluginError::Name { name: name.to_owned(), reason })
}

fn create_file(path: &Path, content: &[u8], runs: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if runs { 0o777 } else { 0o666 };
    // Never overwrites a file: other processes may write to the new folder, too.
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests;
