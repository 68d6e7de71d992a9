//! Settings of the queue manager, named like Postfix parameters.

use std::time::Duration;

pub use waxwing_config::ScanRejectAction;
use waxwing_types::{Envelope, Notify, ReversePath, Timestamp};

/// Settings of the queue manager and its transports.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// `myhostname`: reporting MTA of DSNs and the name in EHLO.
    pub myhostname: String,
    /// `qmgr_message_active_limit`: maximum number of units in memory.
    pub qmgr_message_active_limit: usize,
    /// `minimal_backoff_time`: shortest pause between two attempts.
    pub minimal_backoff_time: Duration,
    /// `maximal_backoff_time`: longest pause between two attempts.
    pub maximal_backoff_time: Duration,
    /// `maximal_queue_lifetime`: age of a message at its return to the sender.
    pub maximal_queue_lifetime: Duration,
    /// `bounce_queue_lifetime`: age at expiry of messages with the null sender, dropped without a DSN.
    pub bounce_queue_lifetime: Duration,
    /// `bounce_size_limit`: octets of the message returned in a DSN.
    pub bounce_size_limit: usize,
    /// `delay_warning_time`: age of a message at the delay DSN; zero: on request only (NOTIFY=DELAY).
    pub delay_warning_time: Duration,
    /// `scan_refusal`: fate of messages refused by on-scan.
    pub scan_refusal: ScanRejectAction,
    /// Maximum duration of one attempt, regardless of the sum of the transport's timeouts.
    pub attempt_time_max: Duration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            myhostname: "localhost".to_owned(),
            qmgr_message_active_limit: 20_000,
            minimal_backoff_time: Duration::from_secs(300),
            maximal_backoff_time: Duration::from_secs(4_000),
            maximal_queue_lifetime: Duration::from_secs(5 * 86_400),
            bounce_queue_lifetime: Duration::from_secs(5 * 86_400),
            bounce_size_limit: 50_000,
            delay_warning_time: Duration::ZERO,
            scan_refusal: ScanRejectAction::Hold,
            attempt_time_max: Duration::from_secs(3_600),
        }
    }
}

/// Age of a message at a requested delay DSN (NOTIFY=DELAY) if `delay_warning_time` is zero.
const REQUESTED_DELAY_WARNING: Duration = Duration::from_secs(4 * 3_600);

impl DeliverySettings {
    /// Time of the delay DSN for a message; none if no recipient wants one.
    #[must_use]
    pub fn delay_warning_at(&self, envelope: &Envelope) -> Option<Timestamp> {
        let by_default = !self.delay_warning_time.is_zero();
        let wanted = envelope.sender != ReversePath::Null && envelope.recipients.iter().any(|r| self.wants_delay_dsn(r.notify));
        let time = if by_default { self.delay_warning_time } else { REQUESTED_DELAY_WARNING };
        wanted.then(|| envelope.origin.received_at + time)
    }

    /// Returns true if a recipient with the given NOTIFY gets a delay DSN.
    pub(crate) fn wants_delay_dsn(&self, notify: Notify) -> bool {
        match notify {
            Notify::Default => !self.delay_warning_time.is_zero(),
            Notify::Never => false,
            Notify::On { delay, .. } => delay,
        }
    }

    /// Pause after a failed attempt: the age of the message, within the backoff limits. Pauses double while a destination is
    /// down.
    #[must_use]
    pub fn backoff(&self, age: Duration) -> Duration {
        age.clamp(self.minimal_backoff_time, self.maximal_backoff_time.max(self.minimal_backoff_time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_between_the_limits() {
        let s = DeliverySettings::default();
        for (age, pause) in [(0, 300), (300, 300), (600, 600), (1_200, 1_200), (90_000, 4_000)] {
            assert_eq!(s.backoff(Duration::from_secs(age)), Duration::from_secs(pause));
        }
    }
}
