//! Retry decision after an attempt: delivered, deferred and failed recipients, the next due time, the DSNs due. Pure, without
//! I/O.

use std::time::Duration;

use waxwing_pipeline::NextTry;
use waxwing_queue::{After, Unit, UnitRecipient};
use waxwing_types::{Disposition, EnhancedCode, Status, Timestamp};

use crate::DeliverySettings;

/// Shortest retry pause a plugin may set.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Decision about a unit after one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// Recipients still to be delivered.
    pub(crate) remaining: Vec<UnitRecipient>,
    /// Next state of the unit: removed, due again, on hold or corrupt.
    pub(crate) after: After,
    /// Failed recipients: index and status.
    pub(crate) failed: Vec<(u32, Status)>,
    /// Retry time of all recipients deferred by the unit's attempts so far.
    pub(crate) due: Option<Timestamp>,
    /// True if a delay DSN about the remaining recipients is due.
    pub(crate) late: bool,
}

/// Input of the decision: unit, dispositions and times at the end of an attempt.
pub(crate) struct Ended<'a> {
    /// Unit as stored in the spool.
    pub(crate) unit: &'a Unit,
    /// Dispositions, one for each recipient of the attempt.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// True while attempts for other next hops of the unit are open: the last to end sets the unit's due time.
    pub(crate) others_open: bool,
    /// Retry time of recipients deferred by attempts for other next hops.
    pub(crate) due: Option<Timestamp>,
    /// Answer of on-retry about the next attempt.
    pub(crate) retry: &'a NextTry,
    /// Reason for putting the remaining recipients on hold.
    pub(crate) hold: Option<&'a str>,
    /// Time of reception of the message.
    pub(crate) received_at: Timestamp,
    /// True for the null reverse-path, as in a DSN.
    pub(crate) from_null: bool,
    /// Time of the delay DSN, if wanted.
    pub(crate) warning_at: Option<Timestamp>,
    /// Current wall-clock time.
    pub(crate) now: Timestamp,
}

impl Ended<'_> {
    /// Returns true for messages older than their queue lifetime.
    pub(crate) fn is_expired(&self, settings: &DeliverySettings) -> bool {
        let lifetime = if self.from_null { settings.bounce_queue_lifetime } else { settings.maximal_queue_lifetime };
        self.now.since(self.received_at) >= lifetime
    }

    /// Retry time of recipients deferred by the attempt.
    fn next_try(&self, settings: &DeliverySettings) -> Timestamp {
        let pause = match self.retry {
            NextTry::After(time) => (*time).clamp(RETRY_PAUSE_MIN, settings.maximal_queue_lifetime.max(RETRY_PAUSE_MIN)),
            NextTry::AsPlanned | NextTry::GiveUp => settings.backoff(self.now.since(self.received_at)),
        };
        self.now + pause
    }

    /// Moves a retry to the time of the delay DSN, so that the DSN is on time and its content recent.
    fn warned_in_time(&self, due: Timestamp) -> Timestamp {
        match self.warning_at {
            Some(at) if self.now < at && at < due => at,
            Some(_) | None => due,
        }
    }

    /// Intervals between the due times of successive attempts cover the unit's life exactly once: each unit gets a single delay
    /// DSN without a stored flag.
    fn is_time_to_warn(&self, next: Timestamp) -> bool {
        self.warning_at.is_some_and(|at| self.unit.next_at <= at && at < next)
    }

    /// Next state of a unit with remaining recipients: due time or hold.
    fn after(&self, due: Option<Timestamp>, settings: &DeliverySettings) -> After {
        match (self.others_open, self.hold) {
            (true, _) => After::At(self.unit.next_at),
            (false, Some(reason)) => After::Hold(reason.to_owned()),
            (false, None) => After::At(due.unwrap_or_else(|| self.next_try(settings))),
        }
    }
}

pub(crate) fn consequence(ended: &Ended<'_>, settings: &DeliverySettings) -> Consequence {
    let is_expired = ended.is_expired(settings);
    let mut failed = Vec::new();
    let mut due = ended.due;
    let mut time_requested = matches!(ended.retry, NextTry::After(_));
    let mut remaining = Vec::with_capacity(ended.unit.recipients.len());
    for recipient in &ended.unit.recipients {
        match ended.dispositions.iter().find(|(index, _)| *index == recipient.index) {
            None => remaining.push(recipient.clone()),
            Some((_, Disposition::Delivered(_))) => {}
            Some((index, Disposition::Failed(status))) => failed.push((*index, status.clone())),
            Some((index, Disposition::Deferred { status, .. })) if is_expired => failed.push((*index, expired(status))),
            Some((index, Disposition::Deferred { status, .. })) if *ended.retry == NextTry::GiveUp => {
                failed.push((*index, given_up(status)));
            }
            Some((index, Disposition::Deferred { status, not_before })) => {
                time_requested |= not_before.is_some();
                due = due.max(Some(ended.next_try(settings))).max(*not_before);
                remaining.push(UnitRecipient { index: *index, last: Some(status.clone()) });
            }
        }
    }
    if !time_requested {
        due = due.map(|due| ended.warned_in_time(due));
    }
    let after = if remaining.is_empty() { After::Gone } else { ended.after(due, settings) };
    let late = !ended.others_open && matches!(after, After::At(next) if ended.is_time_to_warn(next));
    Consequence { remaining, after, failed, due, late }
}

impl Consequence {
    /// Adjusts the decision if the failure DSN cannot be sent now: failed recipients are retried with the others, never dropped
    /// silently.
    pub(crate) fn without_report(mut self, ended: &Ended<'_>, settings: &DeliverySettings) -> Self {
        let failed = self.failed.drain(..).map(|(index, status)| UnitRecipient { index, last: Some(status) });
        self.remaining.extend(failed);
        self.remaining.sort_by_key(|recipient| recipient.index);
        self.due = self.due.max(Some(ended.now + settings.backoff(ended.now.since(ended.received_at))));
        self.after = ended.after(self.due, settings);
        self.late = false;
        self
    }
}

/// Converts an expired deferral: permanent class, text of the last attempt (RFC 3463, X.4.7).
fn expired(status: &Status) -> Status {
    Status {
        enhanced: EnhancedCode::new(5, 4, 7),
        text: format!("message expired; last attempt: {} {}", status.enhanced, status.text),
        ..status.clone()
    }
}

/// Converts a deferral ended by a plugin: permanent class, text of the last attempt.
fn given_up(status: &Status) -> Status {
    Status {
        enhanced: EnhancedCode { class: 5, ..status.enhanced },
        text: format!("given up; last attempt: {} {}", status.enhanced, status.text),
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
        let ended = Ended { due: None, retry: &NextTry::AsPlanned, hold: None, ..ended(&unit, dispositions, others_open, now) };
        consequence(&ended, &DeliverySettings::default())
    }

    fn ended<'a>(unit: &'a Unit, dispositions: &'a [(u32, Disposition)], others_open: bool, now: Timestamp) -> Ended<'a> {
        let received_at = Timestamp::from_millis(1_000);
        let retry = &NextTry::AsPlanned;
        Ended {
            unit,
            dispositions,
            others_open,
            due: None,
            retry,
            hold: None,
            received_at,
            from_null: false,
            warning_at: None,
            now,
        }
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

    #[test]
    fn the_last_attempt_of_a_unit_keeps_what_the_others_asked_for() {
        let (unit, now) = (unit(), Timestamp::from_millis(11_000));
        let late = Timestamp::from_millis(9_000_000);
        let settings = DeliverySettings::default();
        let first = consequence(&ended(&unit, &[(0, deferred(Some(late)))], true, now), &settings);
        assert_eq!((first.after, first.due), (After::At(unit.next_at), Some(late)));
        let rest = [(1, Disposition::Delivered(status(2))), (2, deferred(None))];
        let last = consequence(&Ended { due: first.due, ..ended(&unit, &rest, false, now) }, &settings);
        assert_eq!(last.after, After::At(late));
        let held = consequence(&Ended { hold: Some("words"), ..ended(&unit, &rest, false, now) }, &settings);
        assert_eq!(held.after, After::Hold("words".to_owned()));
        let held = consequence(&Ended { hold: Some("words"), ..ended(&unit, &rest, true, now) }, &settings);
        assert_eq!(held.after, After::At(unit.next_at), "while an attempt is open the unit stays in its place");
    }

    #[test]
    fn a_late_message_is_warned_of_once_and_not_early() {
        let settings = DeliverySettings::default();
        let received = Timestamp::from_millis(1_000);
        let at = received + Duration::from_secs(4 * 3_600);
        let mut unit = Unit { next_at: received, ..unit() };
        let all: Vec<_> = (0..3).map(|index| (index, deferred(None))).collect();
        let mut warned = Vec::new();
        for _ in 0..30 {
            let now = unit.next_at + Duration::from_secs(1);
            let c = consequence(&Ended { warning_at: Some(at), ..ended(&unit, &all, false, now) }, &settings);
            let After::At(next) = c.after else { panic!("{c:?}") };
            if c.late {
                warned.push(now);
            }
            unit.next_at = next;
        }
        assert_eq!(warned, [at + Duration::from_secs(1)]);
        let later = [(0, deferred(Some(at + Duration::from_secs(1)))), (1, deferred(None)), (2, deferred(None))];
        let unit = Unit { next_at: received, ..unit };
        let c = consequence(&Ended { warning_at: Some(at), ..ended(&unit, &later, false, received) }, &settings);
        assert!(c.late, "what was asked for stands, and the warning comes before it");
    }

    #[test]
    fn a_plugin_may_set_the_pause_or_give_up() {
        let (unit, now) = (unit(), Timestamp::from_millis(11_000));
        let all: Vec<_> = (0..3).map(|index| (index, deferred(None))).collect();
        let settings = DeliverySettings::default();
        let with = |retry: NextTry| consequence(&Ended { retry: &retry, ..ended(&unit, &all, false, now) }, &settings);
        assert_eq!(with(NextTry::After(Duration::from_secs(7))).after, After::At(now + Duration::from_secs(7)));
        assert_eq!(with(NextTry::After(Duration::ZERO)).after, After::At(now + RETRY_PAUSE_MIN));
        let c = with(NextTry::GiveUp);
        assert_eq!((c.failed.len(), c.failed[0].1.enhanced, c.after), (3, EnhancedCode::new(5, 0, 0), After::Gone));
    }
}
