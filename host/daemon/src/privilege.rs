//! Privileges: root binds ports and creates directories; then the process switches to `mail_owner` for good, before reading any byte from
//! the network.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Group, Uid, User, chown, geteuid, getuid, setgroups, setresgid, setresuid};

/// Error when the process cannot switch to `mail_owner`, or a file cannot be owned by that user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    /// Started as root without `mail_owner`.
    #[error("the server never serves as root: set mail_owner to a user of its own")]
    NoOwner,
    /// The user of `mail_owner` does not exist.
    #[error("mail_owner \"{0}\" is not a user of this system")]
    NoSuchUser(String),
    /// The user of `mail_owner` has user id 0.
    #[error("mail_owner \"{0}\" has user id 0: the server never serves as root")]
    OwnerIsRoot(String),
    /// Root privileges remained after setresuid(2).
    #[error("root privileges could not be dropped")]
    NotDropped,
    /// A directory has the wrong owner, or is writable by others.
    #[error("{}: {what}", path.display())]
    Directory {
        /// Path of the directory.
        path: PathBuf,
        /// Reason, for the error text.
        what: &'static str,
    },
    /// A file or directory can't be created or given to a user.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// A system call failed.
    #[error("{step}: {error}")]
    System {
        /// Name of the step.
        step: &'static str,
        /// Error of the operating system.
        error: nix::Error,
    },
}

/// User and group to run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// No root privileges: the process keeps its current user.
    CurrentUser,
    /// Root switches to this user (`mail_owner`).
    User {
        /// User name, for messages.
        name: String,
        /// Numeric user id.
        uid: Uid,
        /// Primary group id.
        gid: Gid,
    },
}

impl RunAs {
    /// Determines the user to run as, from `mail_owner` and the current user.
    pub(crate) fn resolve(mail_owner: Option<&str>) -> Result<Self, PrivilegeError> {
        if geteuid().is_root() || getuid().is_root() { Self::from_mail_owner(mail_owner) } else { Ok(Self::CurrentUser) }
    }

    fn from_mail_owner(mail_owner: Option<&str>) -> Result<Self, PrivilegeError> {
        let name = mail_owner.ok_or(PrivilegeError::NoOwner)?;
        let entry = User::from_name(name).map_err(|error| PrivilegeError::System { step: "looking up mail_owner", error })?;
        let user = entry.ok_or_else(|| PrivilegeError::NoSuchUser(name.to_owned()))?;
        if user.uid.is_root() {
            return Err(PrivilegeError::OwnerIsRoot(name.to_owned()));
        }
        Ok(Self::User { name: user.name, uid: user.uid, gid: user.gid })
    }

    /// Creates a directory with its parents, mode 0700, owned by the run-as user. An existing directory must belong to the same user, or
    /// to root and is then given to the user: any other owner could read the mail inside.
    pub(crate) fn create_directory(&self, path: &Path) -> Result<(), PrivilegeError> {
        let failed = |error| PrivilegeError::File { path: path.to_owned(), error };
        let wrong = |what| PrivilegeError::Directory { path: path.to_owned(), what };
        if let Some(parent) = path.parent() {
            create_parents(parent).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
        let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(wrong("it is not a directory"));
        }
        if metadata.permissions().mode() & 0o002 != 0 {
            return Err(wrong("everyone may write to it: chmod o-w"));
        }
        match self {
            Self::CurrentUser if metadata.uid() == geteuid().as_raw() => Ok(()),
            Self::User { uid, .. } if metadata.uid() == uid.as_raw() => Ok(()),
            Self::User { .. } if metadata.uid() == 0 => self.set_owner(path),
            Self::CurrentUser | Self::User { .. } => Err(wrong("it belongs to another user")),
        }
    }

    /// Changes the owner of a file to the run-as user.
    pub(crate) fn set_owner(&self, path: &Path) -> Result<(), PrivilegeError> {
        match self {
            Self::CurrentUser => Ok(()),
            Self::User { uid, gid, .. } => chown(path, Some(*uid), Some(*gid))
                .map_err(|error| PrivilegeError::File { path: path.to_owned(), error: error.into() }),
        }
    }

    /// Changes user and group of a file; defaults to the run-as user and group.
    pub(crate) fn set_user_and_group(&self, path: &Path, user: Option<&str>, group: Option<&str>) -> Result<(), PrivilegeError> {
        let failed = |error| PrivilegeError::File { path: path.to_owned(), error };
        let unknown =
            |kind: &str, name: &str| failed(io::Error::new(io::ErrorKind::NotFound, format!("there is no {kind} {name}")));
        let (default_user, default_group) = match self {
            Self::CurrentUser => (None, None),
            Self::User { uid, gid, .. } => (Some(*uid), Some(*gid)),
        };
        let uid = match user {
            None => default_user,
            Some(name) => match User::from_name(name).map_err(|error| failed(error.into()))? {
                Some(user) => Some(user.uid),
                None => return Err(unknown("user", name)),
            },
        };
        let gid = match group {
            None => default_group,
            Some(name) => match Group::from_name(name).map_err(|error| failed(error.into()))? {
                Some(group) => Some(group.gid),
                None => return Err(unknown("group", name)),
            },
        };
        match (uid, gid) {
            // Nothing to change: a supervisor's sandbox may forbid even the system call.
            (None, None) => Ok(()),
            (uid, gid) => chown(path, uid, gid).map_err(|error| failed(error.into())),
        }
    }

    /// Switches to the run-as user irrevocably, for the process and all programs started later. No other thread may exist yet:
    /// `no_new_privs` holds for the calling thread and its children only.
    pub(crate) fn drop_privileges(&self) -> Result<(), PrivilegeError> {
        let failed = |step| move |error| PrivilegeError::System { step, error };
        if let Self::User { uid, gid, .. } = self {
            setgroups(&[*gid]).map_err(failed("setgroups"))?;
            setresgid(*gid, *gid, *gid).map_err(failed("setresgid"))?;
            setresuid(*uid, *uid, *uid).map_err(failed("setresuid"))?;
            if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() || geteuid() != *uid {
                return Err(PrivilegeError::NotDropped);
            }
        }
        set_no_new_privs().map_err(failed("no_new_privs"))
    }
}

/// Creates missing parents with mode 0755: the run-as user must be able to pass, whatever the umask.
fn create_parents(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_parents(parent)?;
    }
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755))
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentUser => write!(f, "uid {}", geteuid()),
            Self::User { name, .. } => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_a_user_who_is_not_root() {
        assert!(matches!(RunAs::from_mail_owner(None), Err(PrivilegeError::NoOwner)));
        assert!(matches!(RunAs::from_mail_owner(Some("no-such-user-here")), Err(PrivilegeError::NoSuchUser(_))));
        assert!(matches!(RunAs::from_mail_owner(Some("root")), Err(PrivilegeError::OwnerIsRoot(_))));
        let Ok(RunAs::User { uid, .. }) = RunAs::from_mail_owner(Some("nobody")) else { panic!("every system has nobody") };
        assert!(!uid.is_root());
    }

    #[test]
    fn directories_are_private() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        RunAs::CurrentUser.create_directory(&dir).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&base.path().join("a")), mode(&dir)), (0o755, 0o700));
        RunAs::CurrentUser.create_directory(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o707)).unwrap();
        assert!(matches!(RunAs::CurrentUser.create_directory(&dir), Err(PrivilegeError::Directory { .. })));
    }

    #[test]
    fn a_link_or_a_file_is_no_directory() {
        let base = tempfile::tempdir().unwrap();
        let link = base.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(matches!(RunAs::CurrentUser.create_directory(&link), Err(PrivilegeError::Directory { .. })));
        let file = base.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(RunAs::CurrentUser.create_directory(&file), Err(PrivilegeError::Directory { .. })));
        assert!(matches!(RunAs::CurrentUser.create_directory(&file.join("x")), Err(PrivilegeError::File { .. })));
    }
}
