//! `waxwing plugin new`: the folder that a plugin begins with.
//!
//! It is the worked example of `plugins/examples`, which the tests build and run, under another name: so what a person begins with is
//! what is known to work. The contract, and for Rust the SDK, come along: a plugin is built without this repository.

mod files;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::ToolError;

/// Octets of a plugin's name.
const NAME_BYTES_MAX: usize = 40;
/// The name of the example, in its files and in their names.
const EXAMPLE: &str = "checker";
/// The file with the lines of configuration that bind it.
const BINDING: &str = "binding.toml";
/// What cargo takes no package for, or the compiler no crate.
const RUST_WORDS: &[&str] = &[
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
pub struct Args {
    /// The plugin's name: lower case letters, digits and dashes. A folder of that name is made here
    name: String,
    /// The language
    #[arg(long, value_name = "LANGUAGE")]
    lang: Language,
    /// Make the folder here
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
}

/// A language with an example.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
    C,
}

/// Why a plugin cannot be begun, or its component not be made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// Not a name.
    #[error("{name:?} is no name for a plugin: {reason}")]
    Name {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing is overwritten.
    #[error("{} is there already; nothing was changed", .0.display())]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Not a module of the contract.
    #[error("{}: {reason}", module.display())]
    Component {
        /// The module.
        module: PathBuf,
        /// Why no component can be made of it.
        reason: String,
    },
}

/// Makes the folder and says what comes next.
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<(), ToolError> {
    let name = name(&args.name, args.lang)?;
    let folder = args.dir.join(name);
    fs::create_dir_all(&args.dir).map_err(|error| NewError::File { path: args.dir.clone(), error })?;
    match fs::create_dir(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(NewError::Exists(folder).into()),
        Err(error) => return Err(NewError::File { path: folder, error }.into()),
    }
    for file in files::of(args.lang) {
        let path = folder.join(file.path.replace(EXAMPLE, name));
        write(&path, &file.content(name), file.runs()).map_err(|error| NewError::File { path, error })?;
    }
    let wasm = folder.join(name).with_extension("wasm");
    let wasm = std::path::absolute(&wasm).unwrap_or(wasm);
    let path = folder.join(BINDING);
    write(&path, binding(name, &wasm, args.lang).as_bytes(), false).map_err(|error| NewError::File { path, error })?;
    let folder = folder.display();
    writeln!(out, "{folder} is a plugin in {lang}; {folder}/README.md says more. Next:", lang = args.lang.title())?;
    writeln!(out, "\n  {folder}/build\n\nand the lines of {folder}/{BINDING} in the server's configuration.")?;
    Ok(())
}

/// Makes a component of a core module.
pub(crate) fn component(module: &Path, component: &Path) -> Result<(), ToolError> {
    let octets = fs::read(module).map_err(|error| NewError::File { path: module.to_owned(), error })?;
    let made =
        waxwing_builder::componentize(&octets).map_err(|reason| NewError::Component { module: module.to_owned(), reason })?;
    fs::write(component, made).map_err(|error| NewError::File { path: component.to_owned(), error })?;
    Ok(())
}

impl Language {
    fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// The lines that an interpreter needs beside the usual limits.
    fn limits(self, name: &str) -> String {
        match self {
            Self::Rust | Self::C => String::new(),
            // The first call of a fresh instance warms an interpreter up, and on a busy machine that takes its time.
            Self::Js | Self::Python => {
                format!("\n[plugins.{name}.limits]\ntime = \"2s\"\ncpu = \"500ms\"\nmemory = \"64MiB\"\n")
            }
        }
    }
}

/// What binds the plugin: all that its world imports is granted.
fn binding(name: &str, file: &Path, language: Language) -> String {
    format!(
        "\n[plugins.{name}]\nfile = {file:?}\n\n[plugins.{name}.grants]\nmessage = \"full\"\nedit = true\n{limits}",
        file = file.display().to_string(),
        limits = language.limits(name)
    )
}

/// A name that is one in a path, in TOML, in all package managers and in a header field alike.
fn name(name: &str, language: Language) -> Result<&str, NewError> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let reason = if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
        "it has lower case letters, digits and dashes, and begins with a letter".to_owned()
    } else if name.ends_with('-') || name.contains("--") {
        "a dash stands between two others".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("it has at most {NAME_BYTES_MAX} letters")
    } else if name.starts_with("waxwing-") || matches!(name, "cleanup" | "aliases") {
        "the server's own have it".to_owned()
    } else if language == Language::Rust && RUST_WORDS.contains(&name) {
        "in Rust the word means something else".to_owned()
    } else {
        return Ok(name);
    };
    Err(NewError::Name { name: name.to_owned(), reason })
}

fn write(path: &Path, content: &[u8], runs: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if runs { 0o777 } else { 0o666 };
    // Never an existing file: the folder was made by us, but it is not ours alone.
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}

#[cfg(test)]
mod tests;
