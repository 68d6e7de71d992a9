//! Commands `waxwing user add`, `passwd`, `list` and `delete`.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};
use std::path::Path;

use clap::{Args, Subcommand};
use nix::unistd::{User, geteuid};
use serde_json::json;
use waxwing_accounts::{PasswordCost, PasswordPolicy, SECRET_BYTES_MAX, StoredPassword, UserEntry, UserError, UserName};
use waxwing_config::{Config, UserSourceConfig};

use crate::{ToolError, UserCommandError};
mod backend;

use crate::formatting::sanitize;
use crate::options::GlobalOptions;
use crate::paths::{config_file, load_config};
use crate::queue::print_json;
use backend::UserBackend;

/// Subcommands of `waxwing user`.
#[derive(Subcommand, Clone, Debug)]
pub enum UserCommand {
    /// Add a user, with a prompt for the password
    #[command(after_help = PASSWORD_HELP)]
    Add(UserChangeArgs),
    /// Change the password of a user; the old password is refused from then on
    #[command(after_help = PASSWORD_HELP)]
    Passwd(UserChangeArgs),
    /// List the users and the schemes of their password records, never the records
    List {
        /// User source to list.
        #[command(flatten)]
        source: UserSourceArgs,
    },
    /// Remove a user
    Delete {
        /// Name of the user
        name: String,
        /// User source to change.
        #[command(flatten)]
        source: UserSourceArgs,
    },
}

const PASSWORD_HELP: &str = "The password is asked for twice on the terminal, without an echo. Where standard input is no terminal, it is one line of it.";

/// Arguments of the commands `add` and `passwd`.
#[derive(Args, Clone, Debug)]
pub struct UserChangeArgs {
    /// Name of the user
    name: String,
    /// Create no record for SCRAM-SHA-256, even with password_scram = true
    #[arg(long)]
    no_scram: bool,
    #[command(flatten)]
    source: UserSourceArgs,
}

/// Argument for a user source.
#[derive(Args, Clone, Debug)]
pub struct UserSourceArgs {
    /// User source: file:/path, or store: for the store of the running server [default: `users` of the configuration]
    #[arg(long = "in", value_name = "PLACE")]
    source: Option<String>,
}

/// Runs a user command.
pub(crate) fn run(command: &UserCommand, options: &GlobalOptions, out: &mut dyn Write) -> Result<(), ToolError> {
    match command {
        UserCommand::List { source } => list(&mut UserBackends::open(source, options)?, options.json, out),
        UserCommand::Add(args) => {
            let (name, mut backends) = (parse_name(&args.name)?, UserBackends::open(&args.source, options)?);
            // Checked before the prompt for a password.
            if let Some(backend) = backends.find(&name)? {
                return Err(already_exists(&name, &backend.label).into());
            }
            let records = backends.hash_password(&read_password(&name)?, args.no_scram)?;
            let backend = &mut backends.first;
            backend.add(&name, &records)?;
            print_done("added", &name, backend, options.json, out)
        }
        UserCommand::Passwd(args) => {
            let (name, mut backends) = (parse_name(&args.name)?, UserBackends::open(&args.source, options)?);
            backends.find_existing(&name)?;
            let records = backends.hash_password(&read_password(&name)?, args.no_scram)?;
            let backend = backends.find_existing(&name)?;
            backend.replace(&name, &records)?;
            print_done("changed", &name, backend, options.json, out)
        }
        UserCommand::Delete { name: text, source } => {
            let (name, mut backends) = (parse_name(text)?, UserBackends::open(source, options)?);
            let backend = backends.find_existing(&name)?;
            backend.delete(&name)?;
            print_done("deleted", &name, backend, options.json, out)
        }
    }
}

fn parse_name(text: &str) -> Result<UserName, UserCommandError> {
    Ok(UserName::parse(text)?)
}

/// User sources in lookup order, and the password policy.
struct UserBackends {
    first: UserBackend,
    others: Vec<UserBackend>,
    password_policy: PasswordPolicy,
}

impl UserBackends {
    fn open(args: &UserSourceArgs, options: &GlobalOptions) -> Result<Self, ToolError> {
        let config = match (&args.source, config_file(options)) {
            (_, Ok(file)) => Some((load_config(&file)?, file)),
            // A user file can be created before the configuration.
            (Some(_), Err(_)) => None,
            (None, Err(error)) => return Err(error),
        };
        let named = match (&args.source, &config) {
            (Some(source), _) => vec![parse_source(source)?],
            (None, Some((config, _))) => config.auth.users.clone(),
            (None, None) => Vec::new(),
        };
        let owner = config.as_ref().and_then(|(config, _)| file_owner(config));
        let no_place = || UserCommandError::NoUserSource(config.as_ref().map(|(_, file)| file.clone()).unwrap_or_default());
        let (first, others) = named.split_first().ok_or_else(no_place)?;
        let open = |source: &UserSourceConfig| UserBackend::open(source, owner, options);
        let others = others.iter().map(open).collect::<Result<_, _>>()?;
        let default = PasswordPolicy { cost: PasswordCost::default(), scram: true };
        let keeping = config.as_ref().map_or(default, |(config, _)| PasswordPolicy::from_config(&config.auth));
        Ok(Self { first: open(first)?, others, password_policy: keeping })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut UserBackend> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Returns the first user source with the user.
    fn find(&mut self, name: &UserName) -> Result<Option<&mut UserBackend>, ToolError> {
        for backend in self.all() {
            if backend.contains(name)? {
                return Ok(Some(backend));
            }
        }
        Ok(None)
    }

    fn find_existing(&mut self, name: &UserName) -> Result<&mut UserBackend, ToolError> {
        let shown: Vec<String> = self.all().map(|backend| backend.label.clone()).collect();
        let unknown = || UserCommandError::from(UserError::Unknown { name: name.to_string(), location: shown.join(" or ") });
        Ok(self.find(name)?.ok_or_else(unknown)?)
    }

    fn hash_password(&self, password: &str, no_scram: bool) -> Result<Vec<StoredPassword>, UserCommandError> {
        let keeping = PasswordPolicy { scram: self.password_policy.scram && !no_scram, ..self.password_policy };
        keeping.hash_password(password).ok_or(UserCommandError::HashFailed)
    }
}

fn already_exists(name: &UserName, location: &str) -> UserCommandError {
    UserError::Exists { name: name.to_string(), location: location.to_owned() }.into()
}

/// Parses a user source; relative paths start at the working directory.
fn parse_source(text: &str) -> Result<UserSourceConfig, ToolError> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(UserSourceConfig::File(std::path::absolute(Path::new(path))?)),
        Some(("store", "")) => Ok(UserSourceConfig::Store),
        Some(_) | None => Err(UserCommandError::InvalidUserSource(text.to_owned()).into()),
    }
}

/// Returns the owner of a new file created by root: the run-as user of the server must be able to read the file.
fn file_owner(config: &Config) -> Option<(u32, u32)> {
    let name = config.general.mail_owner.as_deref().filter(|_| geteuid().is_root())?;
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn list(backends: &mut UserBackends, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    for backend in backends.all() {
        for UserEntry { name, schemes } in backend.list()? {
            match json {
                true => print_json(&json!({ "user": name, "schemes": schemes, "place": backend.label }), out)?,
                false => writeln!(out, "{}  {}", sanitize(&name), schemes.join(", "))?,
            }
        }
    }
    Ok(())
}

fn print_done(what: &str, name: &UserName, backend: &UserBackend, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    match json {
        true => print_json(&json!({ "user": name.as_str(), "done": what, "place": backend.label }), out),
        false => Ok(writeln!(out, "{what} {} in {}", sanitize(name.as_str()), backend.label)?),
    }
}

/// Reads the password: twice from the terminal, or one line of standard input.
fn read_password(name: &UserName) -> Result<String, UserCommandError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_piped_password(&mut stdin.lock());
    }
    let prompt = |label: &str| rpassword::prompt_password(format!("{label} for {name}: ")).map_err(UserCommandError::Input);
    let password = check_password(prompt("Password")?)?;
    if password != prompt("Once more, the password")? {
        return Err(UserCommandError::PasswordsDiffer);
    }
    Ok(password)
}

fn read_piped_password(input: &mut impl BufRead) -> Result<String, UserCommandError> {
    let mut line = String::new();
    input.take(SECRET_BYTES_MAX as u64 + 2).read_line(&mut line).map_err(UserCommandError::Input)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    check_password(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn check_password(password: String) -> Result<String, UserCommandError> {
    let bad = password.is_empty() || password.len() > SECRET_BYTES_MAX || password.chars().any(char::is_control);
    if bad { Err(UserCommandError::InvalidPassword) } else { Ok(password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> (tempfile::TempDir, GlobalOptions) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("waxwing.toml");
        std::fs::write(&config, text).unwrap();
        (dir, GlobalOptions { config: Some(config), socket: None, json: false })
    }

    fn places(options: &GlobalOptions, place: Option<&str>) -> Result<UserBackends, ToolError> {
        UserBackends::open(&UserSourceArgs { source: place.map(str::to_owned) }, options)
    }

    #[test]
    fn a_password_is_one_line_that_a_client_could_say() {
        let read = |text: &str| read_piped_password(&mut io::Cursor::new(text.to_owned()));
        for text in ["a pencil", "a pencil\n", "a pencil\r\n", "a pencil\nnext\n"] {
            assert_eq!(read(text).unwrap(), "a pencil");
        }
        for bad in ["", "\n", "a\tb", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert!(matches!(read(bad), Err(UserCommandError::InvalidPassword)), "{bad:?}");
        }
        assert!(read(&"x".repeat(SECRET_BYTES_MAX)).is_ok());
    }

    #[test]
    fn the_place_is_the_configurations_or_the_one_that_is_named() {
        let (dir, options) = site("users = [\"file:one\", \"file:two\"]\n");
        let mut found = places(&options, None).unwrap();
        let shown: Vec<_> = found.all().map(|place| place.label.clone()).collect();
        let path = |name: &str| format!("file:{}", dir.path().join(name).display());
        assert_eq!(shown, [path("one"), path("two")]);
        assert_eq!(places(&options, Some("file:/x/y")).unwrap().first.label, "file:/x/y");
        for bad in ["file:", "store:x", "ldap:x", "users"] {
            assert!(places(&options, Some(bad)).is_err(), "{bad}");
        }
        let (_dir, options) = site("");
        let error = places(&options, None).err().unwrap().to_string();
        assert!(error.contains("has no user sources") && error.contains("--in"), "{error}");
    }

    #[test]
    fn a_user_is_changed_where_it_is_looked_up() {
        let (dir, options) = site("users = [\"file:one\", \"file:two\"]\n");
        std::fs::write(dir.path().join("one"), "").unwrap();
        std::fs::write(dir.path().join("two"), "anna:{PLAIN}secret\n").unwrap();
        let mut found = places(&options, None).unwrap();
        let anna = UserName::parse("ANNA").unwrap();
        assert!(found.find_existing(&anna).unwrap().label.ends_with("/two"));
        assert!(found.find_existing(&UserName::parse("bob").unwrap()).err().unwrap().to_string().contains("/one or file:"));
        let mut out = Vec::new();
        list(&mut found, false, &mut out).unwrap();
        run(&UserCommand::Delete { name: "Anna".into(), source: UserSourceArgs { source: None } }, &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("anna  PLAIN\ndeleted Anna in file:"), "{text}");
        assert_eq!(std::fs::read_to_string(dir.path().join("two")).unwrap(), "");
    }

    #[test]
    fn records_for_scram_are_made_unless_they_are_not_wanted() {
        let (_dir, options) = site("users = [\"file:one\"]\n");
        let schemes = |no_scram| {
            let records = places(&options, None).unwrap().hash_password("x", no_scram).unwrap();
            records.iter().map(StoredPassword::scheme).collect::<Vec<_>>()
        };
        assert_eq!(schemes(false), ["ARGON2ID", "SCRAM-SHA-256"]);
        assert_eq!(schemes(true), ["ARGON2ID"]);
    }
}
