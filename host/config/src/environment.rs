//! Properties of the machine that the checks depend on.

use std::path::Path;

/// Properties of the machine, passed in so that tests can choose values.
#[derive(Clone, Debug)]
pub struct HostEnvironment {
    /// Host name of the system, as reported by the kernel.
    pub hostname: String,
    /// Whether the process runs as root.
    pub is_root: bool,
    /// Returns whether a file or directory exists.
    pub path_exists: fn(&Path) -> bool,
}

impl HostEnvironment {
    /// Reads the properties of this machine.
    #[must_use]
    pub fn from_system() -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Self { hostname, is_root: runs_as_root(), path_exists: Path::exists }
    }

    /// Returns the fully qualified host name: a name without a dot gets `.localdomain`, as in Postfix.
    #[must_use]
    pub fn fully_qualified_hostname(&self) -> String {
        let name = self.hostname.to_ascii_lowercase();
        match name.as_str() {
            "" => "localhost.localdomain".to_owned(),
            _ if name.contains('.') => name,
            _ => format!("{name}.localdomain"),
        }
    }
}

/// Tests the owner of `/proc/self`, the effective user.
#[cfg(unix)]
fn runs_as_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[cfg(not(unix))]
fn runs_as_root() -> bool {
    false
}
