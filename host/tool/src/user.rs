//! `waxwing user`.

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

/// Why a command about users failed.
#[derive(Debug, thiserror::Error)]
pub enum UserCommandError {
    /// Nothing says where users are.
    #[error("{} names no place for users: add users = [\"file:/path\"], or give --in", .0.display())]
    NoPlace(PathBuf),
    /// `--in` with something else than a place.
    #[error("\"{0}\" is no place for users: write file:/path or store:")]
    NotAPlace(String),
    /// The password is none, or one that no client could say.
    #[error("a password has 1 to {SECRET_BYTES_MAX} octets and no control characters")]
    BadPassword,
    /// The second time it was another one.
    #[error("the two passwords differ; nothing was changed")]
    Differ,
    /// It can't be read.
    #[error("the password can't be read: {0}")]
    Input(io::Error),
    /// No record can be made.
    #[error("no record can be made of the password: the system has no random octets, or argon2 can't cost what is configured")]
    NoRecord,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] UserNameError),
    /// The users stay as they were.
    #[error(transparent)]
    Users(#[from] UserError),
}

/// `waxwing user …`
#[derive(Subcommand, Clone, Debug)]
pub enum UserCommand {
    /// Add a user, and ask for the password
    #[command(after_help = PASSWORD_HELP)]
    Add(ChangeArgs),
    /// Give a user another password; the old one is refused from then on
    #[command(after_help = PASSWORD_HELP)]
    Passwd(ChangeArgs),
    /// List the users and the schemes of their records, never the records
    List {
        /// Where.
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Remove a user
    Delete {
        /// The user's name
        name: String,
        /// Where.
        #[command(flatten)]
        place: PlaceArgs,
    },
}

const PASSWORD_HELP: &str = "The password is asked for twice on the terminal, without an echo. Where standard input is no terminal, it is one line of it.";

/// Who gets a password, and what is kept of it.
#[derive(Args, Clone, Debug)]
pub struct ChangeArgs {
    /// The user's name
    name: String,
    /// Make no record for SCRAM-SHA-256, even if password_scram says so
    #[arg(long)]
    no_scram: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where the users are.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// Where the users are: file:/path, or store: for the store of the running server [default: what `users` says in the configuration]
    #[arg(long = "in", value_name = "PLACE")]
    place: Option<String>,
}

/// Does it.
pub(crate) fn run(command: &UserCommand, options: &Options, out: &mut dyn Write) -> Result<(), ToolError> {
    match command {
        UserCommand::List { place } => list(&mut Places::of(place, options)?, options.json, out),
        UserCommand::Add(args) => {
            let (name, mut places) = (name(&args.name)?, Places::of(&args.place, options)?);
            // Said before somebody types a password.
            if let Some(place) = places.that_knows(&name)? {
                return Err(exists(&name, &place.shown).into());
            }
            let records = places.records(&ask(&name)?, args.no_scram)?;
            let place = &mut places.first;
            place.add(&name, &records)?;
            told("added", &name, place, options.json, out)
        }
        UserCommand::Passwd(args) => {
            let (name, mut places) = (name(&args.name)?, Places::of(&args.place, options)?);
            places.with(&name)?;
            let records = places.records(&ask(&name)?, args.no_scram)?;
            let place = places.with(&name)?;
            place.replace(&name, &records)?;
            told("changed", &name, place, options.json, out)
        }
        UserCommand::Delete { name: text, place } => {
            let (name, mut places) = (name(text)?, Places::of(place, options)?);
            let place = places.with(&name)?;
            place.delete(&name)?;
            told("deleted", &name, place, options.json, out)
        }
    }
}

fn name(text: &str) -> Result<UserName, UserCommandError> {
    Ok(UserName::parse(text)?)
}

/// Where the users are, and how their passwords are kept.
struct Places {
    first: Place,
    others: Vec<Place>,
    keeping: Keeping,
}

impl Places {
    fn of(args: &PlaceArgs, options: &Options) -> Result<Self, ToolError> {
        let config = match (&args.place, config_file(options)) {
            (_, Ok(file)) => Some((load(&file)?, file)),
            // A file can be made before there is a configuration.
            (Some(_), Err(_)) => None,
            (None, Err(error)) => return Err(error),
        };
        let named = match (&args.place, &config) {
            (Some(place), _) => vec![parse_place(place)?],
            (None, Some((config, _))) => config.users.clone(),
            (None, None) => Vec::new(),
        };
        let owner = config.as_ref().and_then(|(config, _)| owner_of(config));
        let no_place = || UserCommandError::NoPlace(config.as_ref().map(|(_, file)| file.clone()).unwrap_or_default());
        let (first, others) = named.split_first().ok_or_else(no_place)?;
        let open = |place: &UserPlace| Place::open(place, owner, options);
        let others = others.iter().map(open).collect::<Result<_, _>>()?;
        let default = Keeping { cost: PasswordCost::default(), scram: true };
        let keeping = config.as_ref().map_or(default, |(config, _)| Keeping::of(config));
        Ok(Self { first: open(first)?, others, keeping })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Place> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// The place where such a user is looked up.
    fn that_knows(&mut self, name: &UserName) -> Result<Option<&mut Place>, ToolError> {
        for place in self.all() {
            if place.has(name)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn with(&mut self, name: &UserName) -> Result<&mut Place, ToolError> {
        let shown: Vec<String> = self.all().map(|place| place.shown.clone()).collect();
        let unknown = || UserCommandError::from(UserError::Unknown { name: name.to_string(), place: shown.join(" or ") });
        Ok(self.that_knows(name)?.ok_or_else(unknown)?)
    }

    fn records(&self, password: &str, no_scram: bool) -> Result<Vec<Record>, UserCommandError> {
        let keeping = Keeping { scram: self.keeping.scram && !no_scram, ..self.keeping };
        keeping.records(password).ok_or(UserCommandError::NoRecord)
    }
}

fn exists(name: &UserName, place: &str) -> UserCommandError {
    UserError::Exists { name: name.to_string(), place: place.to_owned() }.into()
}

/// On the command line a relative path is taken from where its reader stands.
fn parse_place(text: &str) -> Result<UserPlace, ToolError> {
    match text.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(UserPlace::File(std::path::absolute(Path::new(path))?)),
        Some(("store", "")) => Ok(UserPlace::Store),
        Some(_) | None => Err(UserCommandError::NotAPlace(text.to_owned()).into()),
    }
}

/// What root makes must be readable by whom the server becomes.
fn owner_of(config: &Config) -> Option<(u32, u32)> {
    let name = config.mail_owner.as_deref().filter(|_| geteuid().is_root())?;
    let user = User::from_name(name).ok().flatten()?;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn list(places: &mut Places, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    for place in places.all() {
        for UserEntry { name, schemes } in place.list()? {
            match json {
                true => print_json(&json!({ "user": name, "schemes": schemes, "place": place.shown }), out)?,
                false => writeln!(out, "{}  {}", clean(&name), schemes.join(", "))?,
            }
        }
    }
    Ok(())
}

fn told(what: &str, name: &UserName, place: &Place, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    match json {
        true => print_json(&json!({ "user": name.as_str(), "done": what, "place": place.shown }), out),
        false => Ok(writeln!(out, "{what} {} in {}", clean(name.as_str()), place.shown)?),
    }
}

/// The password: from the terminal, twice, or a line of standard input.
fn ask(name: &UserName) -> Result<String, UserCommandError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return piped(&mut stdin.lock());
    }
    let prompt = |words: &str| rpassword::prompt_password(format!("{words} for {name}: ")).map_err(UserCommandError::Input);
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
        Places::of(&PlaceArgs { place: place.map(str::to_owned) }, options)
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
        assert!(error.contains("names no place") && error.contains("--in"), "{error}");
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
        run(&UserCommand::Delete { name: "Anna".into(), place: PlaceArgs { place: None } }, &options, &mut out).unwrap();
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
