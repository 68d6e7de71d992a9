//! Component named by a command: a file, or a plugin built into the program.

use std::path::{Path, PathBuf};

use crate::ToolError;

/// Lookup of built-in components by name.
pub type BuiltinPlugins = fn(&str) -> Option<&'static [u8]>;

/// Prefix of the name of a built-in plugin.
const BUILTIN_PREFIX: &str = "builtin:";
/// Maximum size of a component in bytes, as in the server.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// Source of a component. Other kinds of hook targets have a prefix of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ComponentSource {
    /// Built-in plugin, given as `builtin:NAME`.
    Builtin(String),
    /// Path of a component file.
    File(PathBuf),
}

impl ComponentSource {
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix(BUILTIN_PREFIX) {
            Some(name) => Self::Builtin(name.to_owned()),
            None => Self::File(PathBuf::from(text)),
        }
    }

    /// Returns a plugin name suitable for the configuration.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Builtin(name) => name.clone(),
            Self::File(file) => plugin_name_from_file(file),
        }
    }

    pub(crate) fn read(&self, builtin: BuiltinPlugins) -> Result<Vec<u8>, ToolError> {
        match self {
            Self::Builtin(name) => builtin(name).map(<[u8]>::to_vec).ok_or_else(|| ToolError::UnknownBuiltin(name.clone())),
            Self::File(file) => read_bounded_file(file, COMPONENT_BYTES_MAX),
        }
    }
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_bounded_file(file: &Path, bytes_max: u64) -> Result<Vec<u8>, ToolError> {
    let failed = |error| ToolError::File { file: file.to_owned(), error };
    if std::fs::metadata(file).map_err(failed)?.len() > bytes_max {
        return Err(failed(std::io::Error::other(format!("larger than {} MiB, the limit of the server", bytes_max >> 20))));
    }
    std::fs::read(file).map_err(failed)
}

fn plugin_name_from_file(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "plugin".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_says_what_it_is_and_names_fit_the_configuration() {
        assert_eq!(ComponentSource::parse("builtin:cleanup"), ComponentSource::Builtin("cleanup".into()));
        assert_eq!(ComponentSource::parse("a/b.wasm"), ComponentSource::File("a/b.wasm".into()));
        assert_eq!(plugin_name_from_file(Path::new("/.wasm")), "wasm");
        assert_eq!(plugin_name_from_file(Path::new("x/My_Plugin.wasm")), "my-plugin");
        assert_eq!(plugin_name_from_file(Path::new("__")), "plugin");
        assert_eq!(ComponentSource::parse("builtin:no").read(|_| None).unwrap_err().to_string(), "no plugin \"no\" is built in");
    }
}
