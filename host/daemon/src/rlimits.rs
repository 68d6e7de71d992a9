//! Resource limits of the process (getrlimit(2)).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files wanted: two for each session and each delivery, plus those of the store.
const OPEN_FILES_WANTED: u64 = 65_536;

/// Raises the soft limit of open files as far as the hard limit allows; returns the limit in effect.
pub(crate) fn raise_open_files() -> Result<u64, nix::Error> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let wanted = OPEN_FILES_WANTED.min(hard);
    if wanted > soft {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(soft.max(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_never_falls() {
        let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let after = raise_open_files().unwrap();
        assert!(after >= before && after >= OPEN_FILES_WANTED.min(hard));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (after, hard));
    }
}
