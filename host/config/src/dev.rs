//! The configuration of `waxwing dev`: without root privileges, without DNS records, with a demo user.

use std::io;
use std::path::{Path, PathBuf};

use crate::load::ConfigError;
use crate::{Config, HostEnvironment};

/// Domain of the demo user.
pub const DEV_DOMAIN: &str = "waxwing.test";
/// Local part of the demo user; mail to `demo@localhost` reaches the same mailbox through an alias.
pub const DEV_USER: &str = "demo";

/// Name of the file with the self-signed certificate and key of `waxwing dev`.
pub const DEV_CERTIFICATE: &str = "certificate.pem";

const ALIASES_TEXT: &str = "\
# Aliases of local users: a name, a colon, a list of addresses. Read again when this file changes.
postmaster: root
abuse: root
root: demo@waxwing.test
demo: demo@waxwing.test
team: demo, postmaster
";

/// Name of the file in the directory whose content is appended to the configuration; for plugins under test.
const PLUGINS_FILE: &str = "plugins.toml";

/// TCP ports on 127.0.0.1; 0 selects any free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevPorts {
    /// Port for mail from other servers.
    pub smtp: u16,
    /// Port for mail from users.
    pub submission: u16,
}

impl Default for DevPorts {
    fn default() -> Self {
        Self { smtp: 2525, submission: 2587 }
    }
}

/// Failure to create the configuration of `waxwing dev`.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// Creating or reading a file or directory failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// The written file is not a valid configuration.
    #[error(transparent)]
    Load(#[from] ConfigError),
}

impl Config {
    /// Writes `waxwing.toml`, followed by the content of `plugins.toml`, and `aliases` unless present, into `dir`,
    /// and loads the result. All data stays below `dir`. `more` holds further TOML tables, appended last.
    pub fn load_dev(dir: &Path, ports: DevPorts, more: &str, facts: &HostEnvironment) -> Result<Self, DevError> {
        let file = dir.join("waxwing.toml");
        let aliases = dir.join("aliases");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| DevError::Io { path, error }
        };
        for made in ["queue", "mail", "spool"].map(|name| dir.join(name)) {
            std::fs::create_dir_all(&made).map_err(failed(&made))?;
        }
        if !aliases.exists() {
            std::fs::write(&aliases, ALIASES_TEXT).map_err(failed(&aliases))?;
        }
        let plugins = dir.join(PLUGINS_FILE);
        let plugins = match std::fs::read_to_string(&plugins) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(failed(&plugins))?,
        };
        std::fs::write(&file, dev_text(ports) + &plugins + more).map_err(failed(&file))?;
        Ok(Self::load(&file, facts)?)
    }

    /// Returns the path of the demo user's mailbox.
    #[must_use]
    pub fn dev_maildir(&self) -> PathBuf {
        self.domains.virtual_mailbox_base.join(DEV_DOMAIN).join(DEV_USER)
    }
}

fn dev_text(ports: DevPorts) -> String {
    let DevPorts { smtp, submission } = ports;
    format!(
        r#"# Written by `waxwing dev` at each start. Copy it and run `waxwing serve --config COPY` to keep changes.
# Plugins are kept in `plugins.toml` beside it, which is added at the end.
myhostname = "mail.{DEV_DOMAIN}"
mydestination = ["$myhostname", "localhost"]
mynetworks = ["127.0.0.0/8", "[::1]/128"]
virtual_mailbox_domains = ["{DEV_DOMAIN}"]
virtual_mailbox_maps = {{ "{DEV_USER}@{DEV_DOMAIN}" = "{DEV_DOMAIN}/{DEV_USER}/" }}
virtual_mailbox_base = "mail"
mail_spool_directory = "spool"
alias_maps = "aliases:aliases"
queue_directory = "queue"
smtpd_tls_chain_files = ["{DEV_CERTIFICATE}"]

[[listen]]
name = "smtp"
address = "127.0.0.1:{smtp}"

[[listen]]
name = "submission"
address = "127.0.0.1:{submission}"
kind = "submission"

[control]
socket = "control"
"#
    )
}
