//! Clock in real time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waxwing_types::{Clock, Monotonic, Timestamp};

/// Clock of the machine, for tests of limits in real time and for benches.
#[derive(Clone, Copy, Debug)]
pub struct RealClock(Instant);

impl RealClock {
    /// Starts the monotonic time at 0.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the clock of tests; the server's clock is in the daemon")]
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RealClock {
    #[allow(clippy::disallowed_methods, reason = "the clock of tests; the server's clock is in the daemon")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}
