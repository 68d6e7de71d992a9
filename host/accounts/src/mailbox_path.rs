//! The path of a mailbox, which nobody's address leads out of its directory.

use std::path::{Component, Path, PathBuf};

/// Octets of a user's name as a directory.
const NAME_BYTES_MAX: usize = 255;

/// Why a text is no path of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// Empty, or only slashes and dots.
    Empty,
    /// It has a part `..`.
    Upwards,
    /// It has a control character.
    Control,
    /// A part is longer than 255 octets.
    TooLong,
}

/// Joins a table's value to `base`. A slash at its start does not lead out, `..` is refused.
pub fn mailbox_path(base: &Path, value: &str) -> Result<PathBuf, PathError> {
    if value.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    let mut path = base.to_owned();
    for component in Path::new(value).components() {
        match component {
            Component::Normal(part) if part.len() > NAME_BYTES_MAX => return Err(PathError::TooLong),
            Component::Normal(part) => path.push(part),
            Component::ParentDir => return Err(PathError::Upwards),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path == base { Err(PathError::Empty) } else { Ok(path) }
}

/// A local user's name as a directory below `mail_spool_directory`; `None` if it can't be one. A name with a leading dot
/// would be hidden, one with a slash would be a path.
pub(crate) fn user_path(base: &Path, user: &str) -> Option<PathBuf> {
    let plain = !user.is_empty()
        && user.len() <= NAME_BYTES_MAX
        && !user.starts_with('.')
        && !user.contains(['/', '\\'])
        && !user.chars().any(char::is_control);
    plain.then(|| base.join(user))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stays_below_its_base() {
        let base = Path::new("/mail");
        assert_eq!(mailbox_path(base, "example/demo/"), Ok(PathBuf::from("/mail/example/demo")));
        assert_eq!(mailbox_path(base, "/etc/./x"), Ok(PathBuf::from("/mail/etc/x")));
        assert_eq!(mailbox_path(base, "a/../../b"), Err(PathError::Upwards));
        for empty in ["", "/", ".", "./"] {
            assert_eq!(mailbox_path(base, empty), Err(PathError::Empty), "{empty}");
        }
        assert_eq!(mailbox_path(base, "a\0b"), Err(PathError::Control));
        for user in ["", "..", ".", "../x", "a/b", "/etc", ".hidden", "a\0", "a\\b"] {
            assert_eq!(user_path(base, user), None, "{user}");
        }
        assert_eq!(user_path(base, "a..b"), Some(PathBuf::from("/mail/a..b")));
    }

    proptest! {
        #[test]
        fn no_text_leads_out(text in r"([./\\ab~]|\.\.|\PC){0,12}") {
            let base = Path::new("/mail/base");
            for path in [mailbox_path(base, &text).ok(), user_path(base, &text)].into_iter().flatten() {
                prop_assert!(path.starts_with(base) && path != base);
                prop_assert!(path.components().all(|c| !matches!(c, Component::ParentDir | Component::CurDir)));
            }
        }
    }
}
