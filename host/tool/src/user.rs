//! Commands `waxwing user add`, `passwd`, `list` and `delete`.

use std::io::{self, BufRead, IsTerminal as _, Read as _, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nix::unistd::{User, geteuid};
use serde_json::json;
use waxwing_accounts::{Keeping, PasswordCost, Record, SECRET_BYTES_MAX, UserEntry, UserError, UserName, UserNameError};
use waxwing_config::{Config, UserPlace};

use crate::ToolError;
mod place;

use crate::command::Options;
use crate::locate::{config_file, load};
use crate::queue::print_json;
use crate::text::clean;
use place::Place;

/// Reason for the failure of a user command.
#[derive(Debug, thiserror::Error)]
pub enum UserCommandError {
    /// Configuration without user sources.
    #[error("{} has no user sources: add users = [\"file:/path\"] or [\"store:\"], or give --in", .0.display())]
    NoPlace(PathBuf),
    /// Invalid value of `--in`.
    #[error("\"{0}\" is not a user source: write file:/path or store:")]
    NotAPlace(String),
    /// Empty or too long password, or a password with control characters.
    #[error("a password has 1 to {SECRET_BYTES_MAX} octets and no control characters")]
    BadPassword,
    /// Different text at the second prompt.
    #[error("the two passwords differ; nothing was changed")]
    Differ,
    /// Read error of the password.
    #[error("the password can't be read: {0}")]
    Input(io::Error),
    /// Failure to compute a password record.
    #[error("the password cannot be hashed: no system randomness, or an invalid cost in password_argon2_*")]
    NoRecord,
    /// Invalid name of a user.
    #[error(transparent)]
    Name(#[from] UserNameError),
    /// Failed change or listing of users.
    #[error(transparent)]
    Users(#[from] UserError),
}

/// Subcommands of `waxwing user`.
#[derive(Subcommand, Clone, Debug)]
pub enum UserCommand {
    /// Add a user, with a prompt for the password
    #[command(after_help = PASSWORD_HELP)]
    Add(ChangeArgs),
    /// Change the password of a user; the old password is refused from then on
    #[command(after_help = PASSWORD_HELP)]
    Passwd(ChangeArgs),
    /// List the users and the schemes of their password records, never the records
    List {
        /// User source to list.
        #[command(flatten)]
        source: PlaceArgs,
    },
    /// Remove a user
    Delete {
        /// Name of the user
        name: String,
        /// User source to change.
        #[command(flatten)]
        source: PlaceArgs,
    },
}

const PASSWORD_HELP: &str = "The password is asked for twice on the terminal, without an echo. Where standard input is no terminal, it is one line of it.";

/// Arguments of the commands `add` and `passwd`.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// Name of the user
    name: String,
    /// Create no record for SCRAM-SHA-256, even with password_scram = true
    #[arg(long)]
    no_scram: bool,
    #[command(flatten)]
    source: PlaceArgs,
}

/// Argument for a user source.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// User source: file:/path, or store: for the store of the running server [default: `users` of the configuration]
    #[arg(long = "in", value_name = "PLACE")]
    source: Option<String>,
}

/// Runs a user command.
pub(crate) fn run(command: &UserCommand, options: &Options, out: &mut dyn Write) -> Result<(), ToolError> {
    match command {
        UserCommand::List { source } => list(&mut Places::of(source, options)?, options.json, out),
        UserCommand::Add(args) => {
            let (name, mut backends) = (name(&args.name)?, Places::of(&args.source, options)?);
            // Checked before the prompt for a password.
            if let Some(backend) = backends.that_knows(&name)? {
                return Err(exists(&name, &backend.shown).into());
            }
            let records = backends.records(&ask(&name)?, args.no_scram)?;
            let backend = &mut backends.first;
            backend.add(&name, &records)?;
            told("added", &name, backend, options.json, out)
        }
        UserCommand::Passwd(args) => {
            let (name, mut backends) = (name(&args.name)?, Places::of(&args.source, options)?);
            backends.with(&name)?;
            let records = backends.records(&ask(&name)?, args.no_scram)?;
            let backend = backends.with(&name)?;
            backend.replace(&name, &records)?;
            told("changed", &name, backend, options.json, out)
        }
        UserCommand::Delete { name: text, source } => {
            let (name, mut backends) = (name(text)?, Places::of(source, options)?);
            let backend = backends.with(&name)?;
            backend.delete(&name)?;
            told("deleted", &name, backend, options.json, out)
        }
    }
}

fn name(text: &str) -> Result<UserName, UserCommandError> {
    Ok(UserName::parse(text)?)
}

/// User sources in lookup order, and the password policy.
struct Places {
    first: Place,
    others: Vec<Place>,
    keeping: Keeping,
}

impl Places {
    fn of(args: &PlaceArgs, options: &Options) -> Result<Self, ToolError> {
        let config = match (&args.source, config_file(options)) {
            (_, Ok(file)) => Some((load(&file)?, file)),
            // A user file can be created before the configuration.
            (Some(_), Err(_)) => None,
            (None, Err(error)) => return Err(error),
        };
        let named = match (&args.source, &config) {
            (Some(source), _) => vec![parse_place(source)?],
            (None, Some((config, _))) => config.users.clone(),
            (None, None) => Vec::new(),
        };
        let owner = config.as_ref().and_then(|(config, _)| owner_of(config));
        let no_place = || UserCommandError::NoPlace(config.as_ref().map(|(_, file)| file.clone()).unwrap_or_default());
        let (first, others) = named.split_first().ok_or_else(no_place)?;
        let open = |source: &UserPlace| Place::open(source, owner, options);
        let others = others.iter().map(open).collect::<Result<_, _>>()?;
        let default = Keeping { cost: PasswordCost::default(), scram: true };
        let keeping = config.as_ref().map_or(default, |(config, _)| Keeping::of(config));
        Ok(Self { first: open(first)?, others, keeping })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Place> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Returns the first user source with the user.
    fn that_knows(&mut self, name: &UserName) -> Result<Option<&mut Place>, ToolError> {
        for backend in self.all() {
            if backend.has(name)? {
                return Ok(Some(backend));
            }
        }
        Ok(None)
    }

    fn with(&mut self, name: &UserName) -> Result<&mut Place, ToolError> {
        let shown: Vec<String> = self.all().map(|backend| backend.shown.clone()).collect();
        let unknown = || UserCommandError::from(UserError::Unknown { name: name.to_string(), location: shown.join(" or ") });
        Ok(self.that_knows(name)?.ok_or_else(unknown)?)
    }

    fn records(&self, password: &str, no_scram: bool) -> Result<Vec<Record>, UserCommandError> {
        let keeping = Keeping { scram: self.keeping.scram && !no_scram, ..self.keeping };
        keeping.records(password).ok_or(UserCommandError::NoRecord)
    }
}

fn exists(name: &UserName, location: &str) -> UserCommandError {
    UserError::Exists { name: name.to_string(), location: location.to_owned() }.into()
}

/// Parses a user source; relative paths start at the working directory.
fn parse_place(text: &str) -> Result<UserPlace, ToolError> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(UserPlace::File(std::path::absolute(Path::new(path))?)),
        Some(("store", "")) => Ok(UserPlace::Store),
        Some(_) | None => Err(UserCommandError::NotAPlace(text.to_owned()).into()),
    }
}

/// Returns the owner of a new file created by root: the run-as user of the server must be able to read the file.
fn owner_of(config: &Config) -> Option<(u32, u32)> {
    let name = config.mail_owner.as_deref().filter(|_| geteuid().is_root())?;
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn list(backends: &mut Places, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    for backend in backends.all() {
        for UserEntry { name, schemes } in backend.list()? {
            match json {
                true => print_json(&json!({ "user": name, "schemes": schemes, "place": backend.shown }), out)?,
                false => writeln!(out, "{}  {}", clean(&name), schemes.join(", "))?,
            }
        }
    }
    Ok(())
}

fn told(what: &str, name: &UserName, backend: &Place, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    match json {
        true => print_json(&json!({ "user": name.as_str(), "done": what, "place": backend.shown }), out),
        false => Ok(writeln!(out, "{what} {} in {}", clean(name.as_str()), backend.shown)?),
    }
}

/// Reads the password: twice from the terminal, or one line of standard input.
fn ask(name: &UserName) -> Result<String, UserCommandError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return piped(&mut stdin.lock());
    }
    let prompt = |label: &str| rpassword::prompt_password(format!("{label} for {name}: ")).map_err(UserCommandError::Input);
    let password = checked(prompt("Password")?)?;
    if password != prompt("Once more, the password")? {
        return Err(UserCommandError::Differ);
    }
    Ok(password)
}

fn piped(input: &mut impl BufRead) -> Result<String, UserCommandError> {
    let mut line = String::new();
    input.take(SECRET_BYTES_MAX as u64 + 2).read_line(&mut line).map_err(UserCommandError::Input)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    checked(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn checked(password: String) -> Result<String, UserCommandError> {
    let bad = password.is_empty() || password.len() > SECRET_BYTES_MAX || password.chars().any(char::is_control);
    if bad { Err(UserCommandError::BadPassword) } else { Ok(password) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str) -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("waxwing.toml");
        std::fs::write(&config, text).unwrap();
        (dir, Options { config: Some(config), socket: None, json: false })
    }

    fn places(options: &Options, place: Option<&str>) -> Result<Places, ToolError> {
        Places::of(&PlaceArgs { source: place.map(str::to_owned) }, options)
    }

    #[test]
    fn a_password_is_one_line_that_a_client_could_say() {
        let read = |text: &str| piped(&mut io::Cursor::new(text.to_owned()));
        for text in ["a pencil", "a pencil\n", "a pencil\r\n", "a pencil\nnext\n"] {
            assert_eq!(read(text).unwrap(), "a pencil");
        }
        for bad in ["", "\n", "a\tb", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert!(matches!(read(bad), Err(UserCommandError::BadPassword)), "{bad:?}");
        }
        assert!(read(&"x".repeat(SECRET_BYTES_MAX)).is_ok());
    }

    #[test]
    fn the_place_is_the_configurations_or_the_one_that_is_named() {
        let (dir, options) = site("users = [\"file:one\", \"file:two\"]\n");
        let mut found = places(&options, None).unwrap();
        let shown: Vec<_> = found.all().map(|place| place.shown.clone()).collect();
        let path = |name: &str| format!("file:{}", dir.path().join(name).display());
        assert_eq!(shown, [path("one"), path("two")]);
        assert_eq!(places(&options, Some("file:/x/y")).unwrap().first.shown, "file:/x/y");
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
        assert!(found.with(&anna).unwrap().shown.ends_with("/two"));
        assert!(found.with(&UserName::parse("bob").unwrap()).err().unwrap().to_string().contains("/one or file:"));
        let mut out = Vec::new();
        list(&mut found, false, &mut out).unwrap();
        run(&UserCommand::Delete { name: "Anna".into(), source: PlaceArgs { source: None } }, &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("anna  PLAIN\ndeleted Anna in file:"), "{text}");
        assert_eq!(std::fs::read_to_string(dir.path().join("two")).unwrap(), "");
    }

    #[test]
    fn records_for_scram_are_made_unless_they_are_not_wanted() {
        let (_dir, options) = site("users = [\"file:one\"]\n");
        let schemes = |no_scram| {
            let records = places(&options, None).unwrap().records("x", no_scram).unwrap();
            records.iter().map(Record::scheme).collect::<Vec<_>>()
        };
        assert_eq!(schemes(false), ["ARGON2ID", "SCRAM-SHA-256"]);
        assert_eq!(schemes(true), ["ARGON2ID"]);
    }
}
