//! `waxwing dev`: a server for trying Waxwing out, with a demo user and without root.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use waxwing_config::{Config, DEV_CERTIFICATE, DEV_DOMAIN, DEV_USER, HostEnvironment, ListenAddress, ListenerKind};
use waxwing_tool::{CONFIG_FILE, DevArgs, SYSTEM_CONFIG};

use crate::bound_listener::BoundListener;
use crate::clock::SystemClock;
use crate::listener_settings::mail_source;
use crate::privilege::RunAs;
use crate::run;
use crate::tls;

/// User to run as when started by root.
const MAIL_OWNER_UNDER_ROOT: &str = "nobody";

/// Creates the directory, the configuration (with `more` appended) and the demo user's mailbox, and runs the server.
pub(crate) fn run(args: &DevArgs, more: &str, clock: SystemClock) -> anyhow::Result<ExitCode> {
    let facts = HostEnvironment::from_system();
    let owner = RunAs::resolve(Some(MAIL_OWNER_UNDER_ROOT))?;
    let dir = std::path::absolute(args.dir.clone().unwrap_or_else(waxwing_tool::dev_dir))?;
    nix::sys::stat::umask(run::UMASK);
    owner.create_directory(&dir)?;
    let mut config = Config::load_dev(&dir, args.ports(), more, &HostEnvironment { is_root: false, ..facts.clone() })?;
    if facts.is_root {
        config.general.mail_owner.get_or_insert_with(|| MAIL_OWNER_UNDER_ROOT.to_owned());
    }
    tls::create_self_signed(&dir.join(DEV_CERTIFICATE), &[config.general.myhostname.clone(), "localhost".to_owned()])?;
    for name in [CONFIG_FILE, "aliases", DEV_CERTIFICATE] {
        owner.set_owner(&dir.join(name))?;
    }
    for name in ["mail", "spool"] {
        owner.create_directory(&dir.join(name))?;
    }
    create_maildir(&config.dev_maildir(), &owner).context("the demo user's mailbox")?;
    let file = dir.join(CONFIG_FILE);
    let is_default = args.dir.is_none() && !Path::new(SYSTEM_CONFIG).exists();
    let maildir = config.dev_maildir();
    let on_ready = move |ports: &[BoundListener]| {
        let addresses: Vec<(ListenerKind, ListenAddress)> =
            ports.iter().map(|port| (port.listen.kind, port.address.clone())).collect();
        let text = banner(&addresses, &maildir, &dir, &program_name(), is_default);
        // A closed standard output is no reason to stop.
        let _ = std::io::stdout().write_all(text.as_bytes());
    };
    run::run(run::RunOptions { config: Arc::new(config), file, clock, on_ready: Box::new(on_ready) })
}

/// Creates the directories of a Maildir with the owner `mail_owner`.
fn create_maildir(maildir: &Path, owner: &RunAs) -> anyhow::Result<()> {
    if let Some(domain) = maildir.parent() {
        owner.create_directory(domain)?;
    }
    owner.create_directory(maildir)?;
    for part in ["tmp", "new", "cur"] {
        owner.create_directory(&maildir.join(part))?;
    }
    Ok(())
}

/// Name to call the program by: the bare name if found through `PATH`, the path otherwise.
fn program_name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    match called.components().count() {
        0 | 1 => "waxwing".to_owned(),
        _ => called.display().to_string(),
    }
}

fn banner(ports: &[(ListenerKind, ListenAddress)], maildir: &Path, dir: &Path, program: &str, is_default: bool) -> String {
    let listening: Vec<String> =
        ports.iter().map(|(kind, address)| format!("{address} ({})", mail_source(*kind).as_str())).collect();
    let smtp =
        ports.iter().find(|(kind, _)| *kind == ListenerKind::Smtp).map_or(String::new(), |(_, address)| address.to_string());
    let config = if is_default { String::new() } else { format!(" --config {}", shell_quoted(&dir.join(CONFIG_FILE))) };
    let program = shell_quoted(Path::new(program));
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "Waxwing {version} is running. Press Ctrl-C to stop.\n\
         \n  \
           listens on   {listening}\n  \
           mail to      {DEV_USER}@{DEV_DOMAIN}\n  \
           mailbox      {maildir}/new\n  \
           config       {settings}\n\
         \n\
         Send a message, see what every hook did to it, look at the queue:\n\
         \n  \
           printf 'Subject: hello\\n\\nIt works.\\n' | curl -sS --crlf --url smtp://{smtp} --mail-from you@example.org --mail-rcpt {DEV_USER}@{DEV_DOMAIN} -T -\n  \
           {program} trace --last 1{config}\n  \
           {program} queue list{config}\n\n",
        version = env!("CARGO_PKG_VERSION"),
        listening = listening.join(", "),
        maildir = maildir.display(),
        settings = dir.join(CONFIG_FILE).display(),
    );
    text
}

/// Quotes a path for the shell.
fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_says_where_and_how() {
        let at = |port| ListenAddress::Inet(([127, 0, 0, 1], port).into());
        let ports = [(ListenerKind::Smtp, at(2525)), (ListenerKind::Submission, at(2587))];
        let text = banner(&ports, Path::new("/d/mail/waxwing.test/demo"), Path::new("/d/with space"), "waxwing", false);
        for part in [
            "listens on   127.0.0.1:2525 (smtp), 127.0.0.1:2587 (submission)\n",
            "mailbox      /d/mail/waxwing.test/demo/new\n",
            "--url smtp://127.0.0.1:2525 --mail-from you@example.org --mail-rcpt demo@waxwing.test -T -\n",
            "waxwing trace --last 1 --config '/d/with space/waxwing.toml'\n",
            "waxwing queue list --config '/d/with space/waxwing.toml'\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        let short = banner(&ports, Path::new("/d/m"), Path::new("/d"), "/opt/x/waxwing", true);
        assert!(short.contains("  /opt/x/waxwing queue list\n"), "{short}");
    }

    #[test]
    fn the_mailbox_is_made_once_and_kept() {
        let base = tempfile::tempdir().unwrap();
        let maildir = base.path().join("mail/waxwing.test/demo");
        create_maildir(&maildir, &RunAs::CurrentUser).unwrap();
        std::fs::write(maildir.join("new/1"), "mail").unwrap();
        create_maildir(&maildir, &RunAs::CurrentUser).unwrap();
        assert_eq!(std::fs::read_to_string(maildir.join("new/1")).unwrap(), "mail");
    }
}
