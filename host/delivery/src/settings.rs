//! The numbers of the queue manager, named as Postfix names them.

use std::time::Duration;

pub use waxwing_config::ScanRefusal;
use waxwing_types::{Envelope, Notify, ReversePath, Timestamp};

/// What the queue manager and its transports need of the configuration.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// `myhostname`: the reporting MTA of our reports and the name after EHLO.
    pub myhostname: String,
    /// `qmgr_message_active_limit`: units in memory.
    pub active_limit: usize,
    /// `minimal_backoff_time`.
    pub minimal_backoff_time: Duration,
    /// `maximal_backoff_time`.
    pub maximal_backoff_time: Duration,
    /// `maximal_queue_lifetime`: then the sender is told.
    pub maximal_queue_lifetime: Duration,
    /// `bounce_queue_lifetime`: the same for reports, which are dropped then.
    pub bounce_queue_lifetime: Duration,
    /// `bounce_size_limit`: octets of the message that a report returns.
    pub bounce_size_limit: usize,
    /// `delay_warning_time`: then the sender is told that the message waits; zero: only who asked for it.
    pub delay_warning_time: Duration,
    /// `scan_refusal`.
    pub scan_refusal: ScanRefusal,
    /// The longest that one attempt may take, whatever the time-outs of its transport add up to.
    pub attempt_seconds_max: Duration,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        Self {
            myhostname: "localhost".to_owned(),
            active_limit: 20_000,
            minimal_backoff_time: Duration::from_secs(300),
            maximal_backoff_time: Duration::from_secs(4_000),
            maximal_queue_lifetime: Duration::from_secs(5 * 86_400),
            bounce_queue_lifetime: Duration::from_secs(5 * 86_400),
            bounce_size_limit: 50_000,
            delay_warning_time: Duration::ZERO,
            scan_refusal: ScanRefusal::Hold,
            attempt_seconds_max: Duration::from_secs(3_600),
        }
    }
}

/// When those are told of a delay who asked for it, where the operator sets no time.
const DELAY_WARNING_ASKED: Duration = Duration::from_secs(4 * 3_600);

impl DeliverySettings {
    /// When it is time to tell the sender that this message waits; none if he wants to hear nothing of that.
    #[must_use]
    pub fn warning_at(&self, envelope: &Envelope) -> Option<Timestamp> {
        let by_default = !self.delay_warning_time.is_zero();
        let wanted = envelope.sender != ReversePath::Null && envelope.recipients.iter().any(|r| self.wants_delay(r.notify));
        let time = if by_default { self.delay_warning_time } else { DELAY_WARNING_ASKED };
        wanted.then(|| envelope.origin.received_at + time)
    }

    /// A recipient with this NOTIFY is to be reported when late.
    pub(crate) fn wants_delay(&self, notify: Notify) -> bool {
        match notify {
            Notify::Default => !self.delay_warning_time.is_zero(),
            Notify::Never => false,
            Notify::On { delay, .. } => delay,
        }
    }

    /// How long to wait after a failed attempt: as long as the message has waited already, within the limits. So the pauses
    /// double while a destination is down.
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
