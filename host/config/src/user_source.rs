//! Sources of users.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use crate::Config;
use crate::reader::{ConfigReader, ValueNode, last_key};
use crate::value::{TextValue, ValueType};

/// Maximum memory of a password hash in bytes.
const ARGON2_MEMORY_MAX: u64 = 4 << 30;
/// Longest delay of a reply to a failed login.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(60);

/// A source of users and password records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserSourceConfig {
    /// `file:/path`: lines in the format of Dovecot's passwd-file.
    File(PathBuf),
    /// `store:`: the store of the running server.
    Store,
}

impl fmt::Display for UserSourceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Store => f.write_str("store:"),
        }
    }
}

/// A source of users written as a string. A missing file is no error here: `waxwing user add` creates the file.
pub(crate) struct UserSourceValue;

impl ValueType for UserSourceValue {
    type Value = UserSourceConfig;
    const FORM: &'static str = "\"file:/path\" or \"store:\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<UserSourceConfig> {
        let text = TextValue::read(node, reader)?;
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Some(UserSourceConfig::File(reader.resolve_path(path))),
            Some(("store", "")) => Some(UserSourceConfig::Store),
            Some(_) | None => {
                let message = format!("\"{text}\" in {} is not a source of users", last_key(&node.path));
                reader.error(
                    node.span.clone(),
                    message,
                    "write \"file:/path\", or \"store:\" for the store of the server".to_owned(),
                );
                None
            }
        }
    }

    fn show(value: &UserSourceConfig) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// Checks the upper bounds of keys on passwords and logins.
pub(crate) fn check_authentication(config: &Config, reader: &mut ConfigReader<'_>) {
    if config.auth.password_argon2_memory > ARGON2_MEMORY_MAX {
        reader.error_at("password_argon2_memory", "password_argon2_memory is too large", "it must be at most 4GiB".to_owned());
    }
    if config.auth.smtpd_sasl_failure_delay > FAILURE_DELAY_MAX {
        reader.error_at(
            "smtpd_sasl_failure_delay",
            "smtpd_sasl_failure_delay is too long",
            "it must be at most \"60s\"".to_owned(),
        );
    }
}
