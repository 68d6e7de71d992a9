//! What follows from an attempt's dispositions: who is done, who waits and until when, whose failure the sender hears of.

use waxwing_queue::{After, Unit, UnitRecipient};
use waxwing_types::{Disposition, EnhancedCode, Status, Timestamp};

use crate::DeliverySettings;

/// The consequence of one attempt for its unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// Who still waits.
    pub(crate) remaining: Vec<UnitRecipient>,
    /// When the unit is due again, if anybody waits.
    pub(crate) after: After,
    /// Given up now: recipient index and why.
    pub(crate) failed: Vec<(u32, Status)>,
}

/// What is known when an attempt ends.
pub(crate) struct Ended<'a> {
    /// The unit as it is now.
    pub(crate) unit: &'a Unit,
    /// One for each recipient of the attempt.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// Attempts for other next hops of the unit are still under way: they will set its time.
    pub(crate) others_open: bool,
    /// When the message came.
    pub(crate) received_at: Timestamp,
    /// It is a report.
    pub(crate) from_null: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

pub(crate) fn consequence(ended: &Ended<'_>, settings: &DeliverySettings) -> Consequence {
    let age = ended.now.since(ended.received_at);
    let lifetime = if ended.from_null { settings.bounce_queue_lifetime } else { settings.maximal_queue_lifetime };
    let mut failed = Vec::new();
    let mut not_before = ended.now;
    let mut remaining = Vec::with_capacity(ended.unit.recipients.len());
    for recipient in &ended.unit.recipients {
        match ended.dispositions.iter().find(|(index, _)| *index == recipient.index) {
            None => remaining.push(recipient.clone()),
            Some((_, Disposition::Delivered(_))) => {}
            Some((index, Disposition::Failed(status))) => failed.push((*index, status.clone())),
            Some((index, Disposition::Deferred { status, .. })) if age >= lifetime => failed.push((*index, expired(status))),
            Some((index, Disposition::Deferred { status, not_before: earliest })) => {
                not_before = not_before.max(earliest.unwrap_or(ended.now));
                remaining.push(UnitRecipient { index: *index, last: Some(status.clone()) });
            }
        }
    }
    let after = if remaining.is_empty() {
        After::Gone
    } else if ended.others_open {
        After::At(ended.unit.next_at)
    } else {
        After::At((ended.now + settings.backoff(age)).max(not_before))
    };
    Consequence { remaining, after, failed }
}

/// A deferral that lasted too long: the class becomes permanent, the words of the last attempt stay (RFC 3463, X.4.7).
fn expired(status: &Status) -> Status {
    Status {
        enhanced: EnhancedCode::new(5, 4, 7),
        text: format!("message expired; last attempt: {} {}", status.enhanced, status.text),
        ..status.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use waxwing_types::QueueId;

    use super::*;

    fn unit() -> Unit {
        let recipients = (0..3).map(|index| UnitRecipient { index, last: None }).collect();
        Unit {
            id: QueueId::from_u64(1),
            number: 0,
            recipients,
            attempts: 0,
            next_at: Timestamp::from_millis(500),
            version: 1,
            siblings: 1,
            body_file: false,
        }
    }

    fn status(class: u8) -> Status {
        Status::local(EnhancedCode::new(class, 0, 0), "words")
    }

    fn deferred(not_before: Option<Timestamp>) -> Disposition {
        Disposition::Deferred { status: status(4), not_before }
    }

    fn decide(dispositions: &[(u32, Disposition)], others_open: bool, age_s: u64) -> Consequence {
        let received_at = Timestamp::from_millis(1_000);
        let now = received_at + Duration::from_secs(age_s);
        let unit = unit();
        let ended = Ended { unit: &unit, dispositions, others_open, received_at, from_null: false, now };
        consequence(&ended, &DeliverySettings::default())
    }

    #[test]
    fn each_disposition_has_its_consequence() {
        let all = [(0, Disposition::Delivered(status(2))), (1, Disposition::Failed(status(5))), (2, deferred(None))];
        let c = decide(&all, false, 10);
        assert_eq!(c.failed, [(1, status(5))]);
        assert_eq!(c.remaining, [UnitRecipient { index: 2, last: Some(status(4)) }]);
        assert_eq!(c.after, After::At(Timestamp::from_millis(1_000 + 310_000)));
        assert_eq!(decide(&all, true, 10).after, After::At(Timestamp::from_millis(500)));
        let done: Vec<_> = (0..3).map(|i| (i, Disposition::Delivered(status(2)))).collect();
        assert_eq!(decide(&done, false, 10).after, After::Gone);
    }

    #[test]
    fn a_transport_may_ask_for_a_later_time() {
        let later = Timestamp::from_millis(9_000_000);
        assert_eq!(decide(&[(0, deferred(Some(later)))], false, 10).after, After::At(later));
    }

    #[test]
    fn what_lasts_too_long_is_given_up() {
        let c = decide(&[(0, deferred(None)), (1, deferred(None)), (2, deferred(None))], false, 6 * 86_400);
        assert_eq!((c.failed.len(), c.after), (3, After::Gone));
        assert_eq!(c.failed[0].1.enhanced, EnhancedCode::new(5, 4, 7));
    }
}
