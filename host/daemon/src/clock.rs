//! The system clock, the only reader of real time; all other code gets time from [`Clock`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use waxwing_types::{Clock, Monotonic, Timestamp};

/// Clock of the operating system: wall time and monotonic time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Creates the clock; monotonic time counts from the moment of the call.
    #[allow(clippy::disallowed_methods, reason = "this is the clock that the others are told to use")]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that the others are told to use")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        let clock = SystemClock::start();
        let (wall, mono) = (clock.now(), clock.monotonic());
        assert!(wall > Timestamp::from_millis(1_700_000_000_000), "a date after 2023");
        while clock.monotonic() == mono {}
        assert!(clock.monotonic() > mono);
    }
}
