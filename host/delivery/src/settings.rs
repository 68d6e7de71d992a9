//! Settings of the queue manager, named like Postfix parameters.

use std::time::Duration;

use waxwing_config::{Config, QueueConfig};
use waxwing_types::{Envelope, Notify, ReversePath, Timestamp};

/// Settings of the queue manager and its transports.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// `myhostname`: reporting MTA of DSNs and the name in EHLO.
    pub myhostname: String,
    /// Retry schedule and limits of the configuration.
    pub queue: QueueConfig,
    /// Maximum duration of one attempt, regardless of the sum of the transport's timeouts.
    pub attempt_time_max: Duration,
}

impl DeliverySettings {
    /// Takes the settings of a configuration; an attempt ends after an hour.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self::new(config.general.myhostname.clone(), config.queue.clone())
    }

    /// Creates the settings of a host with this name; an attempt ends after an hour.
    #[must_use]
    pub fn new(myhostname: impl Into<String>, queue: QueueConfig) -> Self {
        Self { myhostname: myhostname.into(), queue, attempt_time_max: Duration::from_secs(3_600) }
    }
}

/// Age of a message at a requested delay DSN (NOTIFY=DELAY) if `delay_warning_time` is zero.
const REQUESTED_DELAY_WARNING: Duration = Duration::from_secs(4 * 3_600);

impl DeliverySettings {
    /// Time of the delay DSN for a message; none if no recipient wants one.
    #[must_use]
    pub fn delay_warning_at(&self, envelope: &Envelope) -> Option<Timestamp> {
        let by_default = !self.queue.delay_warning_time.is_zero();
        let wanted = envelope.sender != ReversePath::Null && envelope.recipients.iter().any(|r| self.wants_delay_dsn(r.notify));
        let time = if by_default { self.queue.delay_warning_time } else { REQUESTED_DELAY_WARNING };
        wanted.then(|| envelope.origin.received_at + time)
    }

    /// Returns true if a recipient with the given NOTIFY gets a delay DSN.
    pub(crate) fn wants_delay_dsn(&self, notify: Notify) -> bool {
        match notify {
            Notify::Default => !self.queue.delay_warning_time.is_zero(),
            Notify::Never => false,
            Notify::On { delay, .. } => delay,
        }
    }

    /// Pause after a failed attempt: the age of the message, within the backoff limits. Pauses double while a destination is
    /// down.
    #[must_use]
    pub fn backoff(&self, age: Duration) -> Duration {
        age.clamp(self.queue.minimal_backoff_time, self.queue.maximal_backoff_time.max(self.queue.minimal_backoff_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_between_the_limits() {
        let s = DeliverySettings::new("us.test", QueueConfig::default());
        for (age, pause) in [(0, 300), (300, 300), (600, 600), (1_200, 1_200), (90_000, 4_000)] {
            assert_eq!(s.backoff(Duration::from_secs(age)), Duration::from_secs(pause));
        }
    }
}
