//! Atomic changes of a user file; the lines of other users are preserved byte for byte.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use waxwing_auth::{NAME_BYTES_MAX, StoredPassword};

use crate::watched_file::TABLE_BYTES_MAX;

/// Maximum wait of a change for the lock on the file.
pub const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Interval between two attempts to take the lock.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Reason for the refusal of a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Empty name, leading "#", or a name with white space, a colon or a control character.
    #[error("a user's name has no ':', no white space and no control characters, and does not begin with '#'")]
    Character,
    /// Name longer than the SASL limit.
    #[error("a user's name has at most {NAME_BYTES_MAX} octets")]
    TooLong,
}

/// User name with the syntax of a user file. Names are compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Parses a user name. Error: an empty or too long name, or a forbidden character.
    pub fn parse(text: &str) -> Result<Self, UserNameError> {
        let wrong = |c: char| c == ':' || c.is_control() || c.is_whitespace();
        match text {
            _ if text.len() > NAME_BYTES_MAX => Err(UserNameError::TooLong),
            _ if text.is_empty() || text.starts_with('#') || text.contains(wrong) => Err(UserNameError::Character),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// Returns the name with its original case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the lookup key: the name in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// User with the schemes of the password records, without the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserEntry {
    /// Name in the case of the user's first line.
    pub name: String,
    /// Schemes of the user's records; for an invalid record, the problem in parentheses.
    pub schemes: Vec<String>,
}

/// Reason for the failure of a change or listing of users.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Addition of an existing user.
    #[error("there is a user \"{name}\" in {location} already")]
    Exists {
        /// Name of the user.
        name: String,
        /// User source with the existing user.
        location: String,
    },
    /// Change of an unknown user.
    #[error("there is no user \"{name}\" in {location}")]
    Unknown {
        /// Name of the user.
        name: String,
        /// Searched user sources.
        location: String,
    },
    /// Timeout of the lock on the file, held by another change.
    #[error("{} is locked by another change", .0.display())]
    Locked(PathBuf),
    /// I/O error of the file.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
}

/// User file open to changes.
#[derive(Clone, Debug)]
pub struct UserFile {
    path: PathBuf,
    /// User id and group id of a new file.
    owner: Option<(u32, u32)>,
}

impl UserFile {
    /// Creates a handle without opening the file. `owner`: user id and group id of a new file.
    #[must_use]
    pub fn new(path: &Path, owner: Option<(u32, u32)>) -> Self {
        Self { path: path.to_owned(), owner }
    }

    /// Lists the users in the order of their first lines. Error: a missing or unreadable file.
    pub fn list(&self) -> Result<Vec<UserEntry>, UserError> {
        let mut file = File::open(&self.path).map_err(|error| self.file_error(error))?;
        let text = read_bounded(&mut file).map_err(|error| self.file_error(error))?;
        let mut users: Vec<UserEntry> = Vec::new();
        for line in lines(&text).filter_map(UserLine::parse) {
            let scheme = match StoredPassword::parse(&String::from_utf8_lossy(line.stored), true) {
                Ok(record) => record.scheme().to_owned(),
                Err(error) => format!("({error})"),
            };
            let name = String::from_utf8_lossy(line.name);
            match users.iter_mut().find(|user| user.name.eq_ignore_ascii_case(&name)) {
                Some(user) => user.schemes.push(scheme),
                None => users.push(UserEntry { name: name.into_owned(), schemes: vec![scheme] }),
            }
        }
        Ok(users)
    }

    /// Checks for lines of a user. A missing file has no users.
    pub fn contains(&self, name: &UserName) -> Result<bool, UserError> {
        match File::open(&self.path).and_then(|mut file| read_bounded(&mut file)) {
            Ok(text) => Ok(contains_user(&text, name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.file_error(error)),
        }
    }

    /// Adds a user. Creates a missing file with mode 0600.
    pub fn add(&self, name: &UserName, records: &[StoredPassword]) -> Result<(), UserError> {
        self.create_if_missing().map_err(|error| self.file_error(error))?;
        self.change(|text| match contains_user(text, name) {
            true => Err(UserError::Exists { name: name.to_string(), location: self.display_path() }),
            false => Ok(Some(with_user_records(text, name, records))),
        })
    }

    /// Replaces the records of a user. Further fields after the record are kept.
    pub fn replace(&self, name: &UserName, records: &[StoredPassword]) -> Result<(), UserError> {
        self.change(|text| match contains_user(text, name) {
            true => Ok(Some(with_user_records(text, name, records))),
            false => Err(self.unknown_user(name)),
        })
    }

    /// Replaces the records of a user if all `expected` records are still present. Returns whether the file changed.
    pub fn replace_if_unchanged(
        &self,
        name: &UserName,
        expected: &[StoredPassword],
        records: &[StoredPassword],
    ) -> Result<bool, UserError> {
        let mut same = false;
        self.change(|text| {
            let of_user = lines(text).filter_map(UserLine::parse).filter(|line| line.is_for(name));
            let stored = of_user.map(|line| StoredPassword::parse(&String::from_utf8_lossy(line.stored), true));
            let stored: Vec<StoredPassword> = stored.filter_map(Result::ok).collect();
            same = expected.iter().all(|record| stored.contains(record));
            Ok(same.then(|| with_user_records(text, name, records)))
        })?;
        Ok(same)
    }

    /// Removes all lines of a user.
    pub fn delete(&self, name: &UserName) -> Result<(), UserError> {
        self.replace(name, &[])
    }

    fn display_path(&self) -> String {
        self.path.display().to_string()
    }

    fn unknown_user(&self, name: &UserName) -> UserError {
        UserError::Unknown { name: name.to_string(), location: self.display_path() }
    }

    fn file_error(&self, error: io::Error) -> UserError {
        UserError::File { path: self.path.clone(), error }
    }

    fn create_if_missing(&self) -> io::Result<()> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path) {
            Ok(file) => match self.owner {
                Some((user, group)) => std::os::unix::fs::fchown(&file, Some(user), Some(group)),
                None => Ok(()),
            },
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Changes the text under the lock of the file. `None` from `change` leaves the file as is.
    fn change(&self, change: impl FnOnce(&[u8]) -> Result<Option<Vec<u8>>, UserError>) -> Result<(), UserError> {
        let path = resolve_symlinks(&self.path).map_err(|error| self.file_error(error))?;
        let mut file = self.lock(&path)?;
        let text = read_bounded(&mut file).map_err(|error| self.file_error(error))?;
        match change(&text)? {
            Some(new) => replace_file(&path, &new, &file).map_err(|error| self.file_error(error)),
            None => Ok(()),
        }
    }

    /// Opens and locks the file, and checks the identity of the inode, since every change replaces the file.
    fn lock(&self, path: &Path) -> Result<File, UserError> {
        let mut waited = Duration::ZERO;
        loop {
            let file = File::open(path).map_err(|error| self.file_error(error))?;
            match file.try_lock() {
                Ok(()) if is_same_file(&file, path).map_err(|error| self.file_error(error))? => return Ok(file),
                Ok(()) | Err(TryLockError::WouldBlock) if waited >= LOCK_WAIT => return Err(UserError::Locked(path.to_owned())),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(self.file_error(error)),
            }
            std::thread::sleep(LOCK_RETRY_INTERVAL);
            waited += LOCK_RETRY_INTERVAL;
        }
    }
}

/// Resolves symbolic links. A link created by another user is refused, since the target could be a file of root.
fn resolve_symlinks(path: &Path) -> io::Result<PathBuf> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_symlink() && metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "symbolic link of another user; give the path of the target",
        ));
    }
    let path = std::fs::canonicalize(path)?;
    match std::fs::metadata(&path)?.is_file() {
        true => Ok(path),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

fn read_bounded(file: &mut File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(TABLE_BYTES_MAX + 1).read_to_end(&mut text)?;
    match text.len() as u64 > TABLE_BYTES_MAX {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 64 MiB")),
        false => Ok(text),
    }
}

/// Replaces an open file by a new file with this text, the same owner and the same mode.
fn replace_file(path: &Path, text: &[u8], before: &File) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let before = before.metadata()?;
    // Created with mode 0600, and removed automatically after an error.
    let mut file = tempfile::Builder::new().prefix(".users-").tempfile_in(folder)?;
    file.write_all(text)?;
    copy_owner(file.as_file(), &before)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(before.mode() & 0o777))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    File::open(folder)?.sync_all()
}

fn copy_owner(file: &File, before: &Metadata) -> io::Result<()> {
    let current = file.metadata()?;
    let differs = |current: u32, before: u32| (current != before).then_some(before);
    match (differs(current.uid(), before.uid()), differs(current.gid(), before.gid())) {
        (None, None) => Ok(()),
        (user, group) => std::os::unix::fs::fchown(file, user, group),
    }
}

/// Splits the text into lines, each with its line end.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|octet| *octet == b'\n')
}

/// Line `user:record`, optionally with further fields after another colon.
struct UserLine<'t> {
    name: &'t [u8],
    stored: &'t [u8],
    /// Further fields with the leading colon, or empty.
    further_fields: &'t [u8],
}

impl<'t> UserLine<'t> {
    fn parse(line: &'t [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = |text: &[u8]| text.iter().position(|octet| *octet == b':');
        let (name, stored) = line.split_at_checked(colon(line)?)?;
        let stored = stored.get(1..)?;
        let (stored, rest) = stored.split_at_checked(colon(stored).unwrap_or(stored.len()))?;
        (!name.is_empty() && !name.starts_with(b"#")).then_some(Self { name, stored, further_fields: rest })
    }

    fn is_for(&self, name: &UserName) -> bool {
        self.name.eq_ignore_ascii_case(name.0.as_bytes())
    }

    fn is_scram(&self) -> bool {
        self.stored.to_ascii_uppercase().starts_with(b"{SCRAM")
    }
}

fn contains_user(text: &[u8], name: &UserName) -> bool {
    lines(text).filter_map(UserLine::parse).any(|line| line.is_for(name))
}

/// Returns the text with new records for the user, at the position of the user's first line or at the end.
fn with_user_records(text: &[u8], name: &UserName, records: &[StoredPassword]) -> Vec<u8> {
    let user_lines: Vec<UserLine<'_>> = lines(text).filter_map(UserLine::parse).filter(|line| line.is_for(name)).collect();
    let written = user_lines.first().map_or(name.0.as_bytes(), |line| line.name);
    let mut new = Vec::new();
    for record in records {
        let scram = matches!(record, StoredPassword::Scram(_));
        let rest = user_lines.iter().find(|line| line.is_scram() == scram).map_or(&[][..], |line| line.further_fields);
        new.extend([written, b":", record.to_text().as_bytes(), rest, b"\n"].concat());
    }
    let mut out = Vec::with_capacity(text.len() + new.len());
    for line in lines(text) {
        match UserLine::parse(line).is_some_and(|line| line.is_for(name)) {
            true => out.append(&mut new),
            false => out.extend_from_slice(line),
        }
    }
    if !new.is_empty() && out.last().is_some_and(|last| *last != b'\n') {
        out.push(b'\n');
    }
    out.append(&mut new);
    out
}

#[cfg(test)]
mod tests;
