//! Loading of a configuration file.

use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::check::check_config;
use crate::reader::ConfigReader;
use crate::{Config, Diagnostics, HostEnvironment};

/// Maximum size of a configuration file in bytes.
pub const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// Failure to load a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Reading the file failed.
    #[error("{}: {error}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The file has errors.
    #[error("{0}")]
    Invalid(#[from] Diagnostics),
}

impl Config {
    /// Reads and checks a configuration file of at most [`CONFIG_BYTES_MAX`] bytes.
    pub fn load(path: &Path, facts: &HostEnvironment) -> Result<Self, ConfigError> {
        let read = || {
            if std::fs::metadata(path)?.len() > CONFIG_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 16 MiB"));
            }
            std::fs::read_to_string(path)
        };
        let text = read().map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Ok(Self::parse(path, &text, facts)?)
    }

    /// Checks the text of a configuration. Diagnostics name `file`; relative paths start at the directory of `file`.
    pub fn parse(file: &Path, text: &str, facts: &HostEnvironment) -> Result<Self, Diagnostics> {
        let mut reader = ConfigReader::new(file, text, facts);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            reader.error(span, error.message().trim_end().replace('\n', ", "), None);
        }
        let open = reader.open_table("", table.get_ref(), &Self::key_names());
        let mut config = Self::read(&open, &mut reader);
        check_config(&mut config, &mut reader);
        let (places, mistakes) = reader.finish();
        if mistakes.is_empty() {
            config.key_spans = places;
            Ok(config)
        } else {
            Err(Diagnostics::new(places.text, mistakes))
        }
    }
}
