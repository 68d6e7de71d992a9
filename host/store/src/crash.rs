//! Crash points: named code positions at which a test ends the process.

/// Aborts the process, as a kill would, if `WAXWING_CRASH_POINT` equals `name` and the crash point is reached for the
/// `WAXWING_CRASH_AFTER`th time (default 1). No effect without the feature `crash-points`.
#[inline]
pub fn crash_point(name: &str) {
    #[cfg(feature = "crash-points")]
    armed::pass(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        passes_left: AtomicU64,
    }

    pub(super) fn pass(name: &str) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let armed = ARMED.get_or_init(|| {
            let passes = std::env::var("WAXWING_CRASH_AFTER").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
            let name = std::env::var("WAXWING_CRASH_POINT").ok()?;
            Some(Armed { name, passes_left: AtomicU64::new(passes) })
        });
        if let Some(armed) = armed
            && armed.name == name
            && armed.passes_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            std::process::abort();
        }
    }
}
