//! The configuration of `waxwing dev`: no root, no DNS of its own, a demo user.

use std::io;
use std::path::{Path, PathBuf};

use crate::load::LoadError;
use crate::{Config, Facts};

/// The demo user's domain.
pub const DEV_DOMAIN: &str = "waxwing.test";
/// The demo user's local part; mail to `demo@localhost` reaches the same mailbox by an alias.
pub const DEV_USER: &str = "demo";

/// The file with the key and the certificate that `waxwing dev` makes for itself.
pub const DEV_CERTIFICATE: &str = "certificate.pem";

const ALIASES: &str = "\
# Aliases of local users: a name, a colon, a list of addresses. Read again when this file changes.
postmaster: root
abuse: root
root: demo@waxwing.test
demo: demo@waxwing.test
team: demo, postmaster
";

/// Plugins of the person who tries things out: what is in this file of the directory is added to the configuration.
const PLUGINS: &str = "plugins.toml";

/// Ports on 127.0.0.1; 0 takes any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevPorts {
    /// Mail from other servers.
    pub smtp: u16,
    /// Mail from users.
    pub submission: u16,
}

impl Default for DevPorts {
    fn default() -> Self {
        Self { smtp: 2525, submission: 2587 }
    }
}

/// Why there is no configuration for `waxwing dev`.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// A file or directory can't be made or read.
    #[error("{}: {error}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file that was written is not a configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Config {
    /// Writes `waxwing.toml`, with what `plugins.toml` says at its end, and `aliases` if there is none, into `dir`, and loads them. All data
    /// stays below `dir`. `more`: tables behind those.
    pub fn dev(dir: &Path, ports: DevPorts, more: &str, facts: &Facts) -> Result<Self, DevError> {
        let file = dir.join("waxwing.toml");
        let aliases = dir.join("aliases");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| DevError::Write { path, error }
        };
        for made in ["queue", "mail", "spool"].map(|name| dir.join(name)) {
            std::fs::create_dir_all(&made).map_err(failed(&made))?;
        }
        if !aliases.exists() {
            std::fs::write(&aliases, ALIASES).map_err(failed(&aliases))?;
        }
        let plugins = dir.join(PLUGINS);
        let plugins = match std::fs::read_to_string(&plugins) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(failed(&plugins))?,
        };
        std::fs::write(&file, dev_text(ports) + &plugins + more).map_err(failed(&file))?;
        Ok(Self::load(&file, facts)?)
    }

    /// The mailbox of the demo user.
    #[must_use]
    pub fn dev_maildir(&self) -> PathBuf {
        self.virtual_mailbox_base.join(DEV_DOMAIN).join(DEV_USER)
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
