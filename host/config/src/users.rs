//! Where users are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use crate::Config;
use crate::kind::{Kind, Text};
use crate::reader::{Node, Reader, last_key};

/// Octets that a hash may take.
const ARGON2_MEMORY_MAX: u64 = 4 << 30;
/// A failed login keeps a session so long at most.
const FAILURE_DELAY_MAX: Duration = Duration::from_secs(60);

/// A place where users and their password records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserPlace {
    /// `file:/path`: lines as in Dovecot's passwd-file.
    File(PathBuf),
    /// `store:`: the store of the running server.
    Store,
}

impl fmt::Display for UserPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Store => f.write_str("store:"),
        }
    }
}

/// The place in the configuration. Whether there is such a file is not asked here: `waxwing user add` makes it.
pub(crate) struct UserPlaceText;

impl Kind for UserPlaceText {
    type Value = UserPlace;
    const FORM: &'static str = "\"file:/path\" or \"store:\"";

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<UserPlace> {
        let text = Text::read(node, reader)?;
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Some(UserPlace::File(reader.absolute(path))),
            Some(("store", "")) => Some(UserPlace::Store),
            Some(_) | None => {
                let message = format!("\"{text}\" in {} is no place for users", last_key(&node.path));
                reader.wrong(node.span.clone(), message, "write \"file:/path\", or \"store:\" for the server's own".to_owned());
                None
            }
        }
    }

    fn show(value: &UserPlace) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// What has an upper end too.
pub(crate) fn check_users(config: &Config, reader: &mut Reader<'_>) {
    if config.password_argon2_memory > ARGON2_MEMORY_MAX {
        reader.wrong_at("password_argon2_memory", "password_argon2_memory is too large", "it must be at most 4GiB".to_owned());
    }
    if config.smtpd_sasl_failure_delay > FAILURE_DELAY_MAX {
        reader.wrong_at(
            "smtpd_sasl_failure_delay",
            "smtpd_sasl_failure_delay is too long",
            "it must be at most \"60s\"".to_owned(),
        );
    }
}
