//! What the checks need to know of the machine.

use std::path::Path;

/// Facts about the machine, given from outside so that tests choose them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The system's host name, as the kernel has it.
    pub hostname: String,
    /// The process runs as root.
    pub root: bool,
    /// Tells whether a file or directory is there.
    pub exists: fn(&Path) -> bool,
}

impl Facts {
    /// Asks the system.
    #[must_use]
    pub fn from_system() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Self { hostname, root: runs_as_root(), exists: Path::exists }
    }

    /// The host name in Internet form: a name without a dot gets `.localdomain`, as Postfix does it.
    #[must_use]
    pub fn full_hostname(&self) -> String {
        let name = self.hostname.to_ascii_lowercase();
        match name.as_str() {
            "" => "localhost.localdomain".to_owned(),
            _ if name.contains('.') => name,
            _ => format!("{name}.localdomain"),
        }
    }
}

/// `/proc/self` belongs to the effective user.
#[cfg(unix)]
fn runs_as_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[cfg(not(unix))]
fn runs_as_root() -> bool {
    false
}
