//! Mailbox paths, confined to their base directory for every possible address.

use std::path::{Component, Path, PathBuf};

/// Maximum length of a path component, in bytes.
const COMPONENT_BYTES_MAX: usize = 255;

/// Reason for the refusal of a mailbox path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxPathError {
    /// Path without components, such as an empty text, slashes or dots.
    Empty,
    /// Path with a `..` component.
    ParentComponent,
    /// Path with a control character.
    ControlCharacter,
    /// Path component of more than 255 bytes.
    TooLong,
}

/// Joins the value of a table to `base`. A leading slash does not leave `base`; `..` is refused.
pub fn mailbox_path(base: &Path, value: &str) -> Result<PathBuf, MailboxPathError> {
    if value.chars().any(char::is_control) {
        return Err(MailboxPathError::ControlCharacter);
    }
    let mut path = base.to_owned();
    for component in Path::new(value).components() {
        match component {
            Component::Normal(part) if part.len() > COMPONENT_BYTES_MAX => return Err(MailboxPathError::TooLong),
            Component::Normal(part) => path.push(part),
            Component::ParentDir => return Err(MailboxPathError::ParentComponent),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if path == base { Err(MailboxPathError::Empty) } else { Ok(path) }
}

/// Joins the name of a local user to `mail_spool_directory`; `None` for an unsuitable name. A leading dot would hide the directory, a slash
/// would form a path.
pub(crate) fn spool_mailbox_path(base: &Path, user: &str) -> Option<PathBuf> {
    let plain = !user.is_empty()
        && user.len() <= COMPONENT_BYTES_MAX
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
        assert_eq!(mailbox_path(base, "a/../../b"), Err(MailboxPathError::ParentComponent));
        for empty in ["", "/", ".", "./"] {
            assert_eq!(mailbox_path(base, empty), Err(MailboxPathError::Empty), "{empty}");
        }
        assert_eq!(mailbox_path(base, "a\0b"), Err(MailboxPathError::ControlCharacter));
        for user in ["", "..", ".", "../x", "a/b", "/etc", ".hidden", "a\0", "a\\b"] {
            assert_eq!(spool_mailbox_path(base, user), None, "{user}");
        }
        assert_eq!(spool_mailbox_path(base, "a..b"), Some(PathBuf::from("/mail/a..b")));
    }

    proptest! {
        #[test]
        fn no_text_leads_out(text in r"([./\\ab~]|\.\.|\PC){0,12}") {
            let base = Path::new("/mail/base");
            for path in [mailbox_path(base, &text).ok(), spool_mailbox_path(base, &text)].into_iter().flatten() {
                prop_assert!(path.starts_with(base) && path != base);
                prop_assert!(path.components().all(|c| !matches!(c, Component::ParentDir | Component::CurDir)));
            }
        }
    }
}
