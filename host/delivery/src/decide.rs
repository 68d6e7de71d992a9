//! Retry decision after an attempt: delivered, deferred and failed recipients, the next due time, the DSNs due. Pure, without
//! I/O.

use std::time::Duration;

use waxwing_pipeline::NextTry;
use waxwing_spool::{NextState, Unit, UnitRecipient};
use waxwing_types::{Disposition, EnhancedCode, Status, Timestamp};

use crate::DeliverySettings;

/// Shortest retry pause a plugin may set.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Decision about a unit after one attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnitDecision {
    /// Recipients still to be delivered.
    pub(crate) remaining: Vec<UnitRecipient>,
    /// Next state of the unit: removed, due again, on hold or corrupt.
    pub(crate) next_state: NextState,
    /// Failed recipients: index and status.
    pub(crate) failed: Vec<(u32, Status)>,
    /// Retry time of all recipients deferred by the unit's attempts so far.
    pub(crate) retry_at: Option<Timestamp>,
    /// True if a delay DSN about the remaining recipients is due.
    pub(crate) delay_warning_due: bool,
}

/// Input of the decision: unit, dispositions and times at the end of an attempt.
pub(crate) struct AttemptResult<'a> {
    /// Unit as stored in the spool.
    pub(crate) unit: &'a Unit,
    /// Dispositions, one for each recipient of the attempt.
    pub(crate) dispositions: &'a [(u32, Disposition)],
    /// True while attempts for other next hops of the unit are open: the last to end sets the unit's due time.
    pub(crate) others_open: bool,
    /// Retry time of recipients deferred by attempts for other next hops.
    pub(crate) retry_at: Option<Timestamp>,
    /// Answer of on-retry about the next attempt.
    pub(crate) retry_decision: &'a NextTry,
    /// Reason for putting the remaining recipients on hold.
    pub(crate) hold: Option<&'a str>,
    /// Time of reception of the message.
    pub(crate) received_at: Timestamp,
    /// True for the null reverse-path, as in a DSN.
    pub(crate) null_sender: bool,
    /// Time of the delay DSN, if wanted.
    pub(crate) delay_warning_at: Option<Timestamp>,
    /// Current wall-clock time.
    pub(crate) now: Timestamp,
}

impl AttemptResult<'_> {
    /// Returns true for messages older than their queue lifetime.
    pub(crate) fn is_expired(&self, settings: &DeliverySettings) -> bool {
        let lifetime =
            if self.null_sender { settings.queue.bounce_queue_lifetime } else { settings.queue.maximal_queue_lifetime };
        self.now.since(self.received_at) >= lifetime
    }

    /// Retry time of recipients deferred by the attempt.
    fn next_retry_at(&self, settings: &DeliverySettings) -> Timestamp {
        let pause = match self.retry_decision {
            NextTry::After(time) => (*time).clamp(RETRY_PAUSE_MIN, settings.queue.maximal_queue_lifetime.max(RETRY_PAUSE_MIN)),
            NextTry::AsPlanned | NextTry::GiveUp => settings.backoff(self.now.since(self.received_at)),
        };
        self.now + pause
    }

    /// Moves a retry to the time of the delay DSN, so that the DSN is on time and its content recent.
    fn align_with_warning(&self, due: Timestamp) -> Timestamp {
        match self.delay_warning_at {
            Some(at) if self.now < at && at < due => at,
            Some(_) | None => due,
        }
    }

    /// Intervals between the due times of successive attempts cover the unit's life exactly once: each unit gets a single delay
    /// DSN without a stored flag.
    fn is_warning_due(&self, next: Timestamp) -> bool {
        self.delay_warning_at.is_some_and(|at| self.unit.next_at <= at && at < next)
    }

    /// Next state of a unit with remaining recipients: due time or hold.
    fn next_state(&self, due: Option<Timestamp>, settings: &DeliverySettings) -> NextState {
        match (self.others_open, self.hold) {
            (true, _) => NextState::RetryAt(self.unit.next_at),
            (false, Some(reason)) => NextState::Hold(reason.to_owned()),
            (false, None) => NextState::RetryAt(due.unwrap_or_else(|| self.next_retry_at(settings))),
        }
    }
}

pub(crate) fn decide_unit(ended: &AttemptResult<'_>, settings: &DeliverySettings) -> UnitDecision {
    let is_expired = ended.is_expired(settings);
    let mut failed = Vec::new();
    let mut due = ended.retry_at;
    let mut time_requested = matches!(ended.retry_decision, NextTry::After(_));
    let mut remaining = Vec::with_capacity(ended.unit.recipients.len());
    for recipient in &ended.unit.recipients {
        match ended.dispositions.iter().find(|(index, _)| *index == recipient.index) {
            None => remaining.push(recipient.clone()),
            Some((_, Disposition::Delivered(_))) => {}
            Some((index, Disposition::Failed(status))) => failed.push((*index, status.clone())),
            Some((index, Disposition::Deferred { status, .. })) if is_expired => failed.push((*index, expired_status(status))),
            Some((index, Disposition::Deferred { status, .. })) if *ended.retry_decision == NextTry::GiveUp => {
                failed.push((*index, given_up_status(status)));
            }
            Some((index, Disposition::Deferred { status, not_before })) => {
                time_requested |= not_before.is_some();
                due = due.max(Some(ended.next_retry_at(settings))).max(*not_before);
                remaining.push(UnitRecipient { index: *index, last_status: Some(status.clone()) });
            }
        }
    }
    if !time_requested {
        due = due.map(|due| ended.align_with_warning(due));
    }
    let after = if remaining.is_empty() { NextState::Removed } else { ended.next_state(due, settings) };
    let late = !ended.others_open && matches!(after, NextState::RetryAt(next) if ended.is_warning_due(next));
    UnitDecision { remaining, next_state: after, failed, retry_at: due, delay_warning_due: late }
}

impl UnitDecision {
    /// Adjusts the decision if the failure DSN cannot be sent now: failed recipients are retried with the others, never dropped
    /// silently.
    pub(crate) fn without_dsn(mut self, ended: &AttemptResult<'_>, settings: &DeliverySettings) -> Self {
        let failed = self.failed.drain(..).map(|(index, status)| UnitRecipient { index, last_status: Some(status) });
        self.remaining.extend(failed);
        self.remaining.sort_by_key(|recipient| recipient.index);
        self.retry_at = self.retry_at.max(Some(ended.now + settings.backoff(ended.now.since(ended.received_at))));
        self.next_state = ended.next_state(self.retry_at, settings);
        self.delay_warning_due = false;
        self
    }
}

/// Converts an expired deferral: permanent class, text of the last attempt (RFC 3463, X.4.7).
fn expired_status(status: &Status) -> Status {
    Status {
        enhanced: EnhancedCode::new(5, 4, 7),
        text: format!("message expired; last attempt: {} {}", status.enhanced, status.text),
        ..status.clone()
    }
}

/// Converts a deferral ended by a plugin: permanent class, text of the last attempt.
fn given_up_status(status: &Status) -> Status {
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
        let recipients = (0..3).map(|index| UnitRecipient { index, last_status: None }).collect();
        Unit {
            id: QueueId::from_u64(1),
            number: 0,
            recipients,
            attempts: 0,
            next_at: Timestamp::from_millis(500),
            version: 1,
            unit_count: 1,
            has_body_file: false,
        }
    }

    fn status(class: u8) -> Status {
        Status::local(EnhancedCode::new(class, 0, 0), "words")
    }

    fn deferred(not_before: Option<Timestamp>) -> Disposition {
        Disposition::Deferred { status: status(4), not_before }
    }

    fn decide(dispositions: &[(u32, Disposition)], others_open: bool, age_s: u64) -> UnitDecision {
        let received_at = Timestamp::from_millis(1_000);
        let now = received_at + Duration::from_secs(age_s);
        let unit = unit();
        let ended = AttemptResult {
            retry_at: None,
            retry_decision: &NextTry::AsPlanned,
            hold: None,
            ..ended(&unit, dispositions, others_open, now)
        };
        decide_unit(&ended, &DeliverySettings::new("us.test", waxwing_config::QueueConfig::default()))
    }

    fn ended<'a>(unit: &'a Unit, dispositions: &'a [(u32, Disposition)], others_open: bool, now: Timestamp) -> AttemptResult<'a> {
        let received_at = Timestamp::from_millis(1_000);
        let retry = &NextTry::AsPlanned;
        AttemptResult {
            unit,
            dispositions,
            others_open,
            retry_at: None,
            retry_decision: retry,
            hold: None,
            received_at,
            null_sender: false,
            delay_warning_at: None,
            now,
        }
    }

    #[test]
    fn each_disposition_has_its_consequence() {
        let all = [(0, Disposition::Delivered(status(2))), (1, Disposition::Failed(status(5))), (2, deferred(None))];
        let c = decide(&all, false, 10);
        assert_eq!(c.failed, [(1, status(5))]);
        assert_eq!(c.remaining, [UnitRecipient { index: 2, last_status: Some(status(4)) }]);
        assert_eq!(c.next_state, NextState::RetryAt(Timestamp::from_millis(1_000 + 310_000)));
        assert_eq!(decide(&all, true, 10).next_state, NextState::RetryAt(Timestamp::from_millis(500)));
        let done: Vec<_> = (0..3).map(|i| (i, Disposition::Delivered(status(2)))).collect();
        assert_eq!(decide(&done, false, 10).next_state, NextState::Removed);
    }

    #[test]
    fn a_transport_may_ask_for_a_later_time() {
        let later = Timestamp::from_millis(9_000_000);
        assert_eq!(decide(&[(0, deferred(Some(later)))], false, 10).next_state, NextState::RetryAt(later));
    }

    #[test]
    fn what_lasts_too_long_is_given_up() {
        let c = decide(&[(0, deferred(None)), (1, deferred(None)), (2, deferred(None))], false, 6 * 86_400);
        assert_eq!((c.failed.len(), c.next_state), (3, NextState::Removed));
        assert_eq!(c.failed[0].1.enhanced, EnhancedCode::new(5, 4, 7));
    }

    #[test]
    fn the_last_attempt_of_a_unit_keeps_what_the_others_asked_for() {
        let (unit, now) = (unit(), Timestamp::from_millis(11_000));
        let late = Timestamp::from_millis(9_000_000);
        let settings = DeliverySettings::new("us.test", waxwing_config::QueueConfig::default());
        let first = decide_unit(&ended(&unit, &[(0, deferred(Some(late)))], true, now), &settings);
        assert_eq!((first.next_state, first.retry_at), (NextState::RetryAt(unit.next_at), Some(late)));
        let rest = [(1, Disposition::Delivered(status(2))), (2, deferred(None))];
        let last = decide_unit(&AttemptResult { retry_at: first.retry_at, ..ended(&unit, &rest, false, now) }, &settings);
        assert_eq!(last.next_state, NextState::RetryAt(late));
        let held = decide_unit(&AttemptResult { hold: Some("words"), ..ended(&unit, &rest, false, now) }, &settings);
        assert_eq!(held.next_state, NextState::Hold("words".to_owned()));
        let held = decide_unit(&AttemptResult { hold: Some("words"), ..ended(&unit, &rest, true, now) }, &settings);
        assert_eq!(held.next_state, NextState::RetryAt(unit.next_at), "while an attempt is open the unit stays in its place");
    }

    #[test]
    fn a_late_message_is_warned_of_once_and_not_early() {
        let settings = DeliverySettings::new("us.test", waxwing_config::QueueConfig::default());
        let received = Timestamp::from_millis(1_000);
        let at = received + Duration::from_secs(4 * 3_600);
        let mut unit = Unit { next_at: received, ..unit() };
        let all: Vec<_> = (0..3).map(|index| (index, deferred(None))).collect();
        let mut warned = Vec::new();
        for _ in 0..30 {
            let now = unit.next_at + Duration::from_secs(1);
            let c = decide_unit(&AttemptResult { delay_warning_at: Some(at), ..ended(&unit, &all, false, now) }, &settings);
            let NextState::RetryAt(next) = c.next_state else { panic!("{c:?}") };
            if c.delay_warning_due {
                warned.push(now);
            }
            unit.next_at = next;
        }
        assert_eq!(warned, [at + Duration::from_secs(1)]);
        let later = [(0, deferred(Some(at + Duration::from_secs(1)))), (1, deferred(None)), (2, deferred(None))];
        let unit = Unit { next_at: received, ..unit };
        let c = decide_unit(&AttemptResult { delay_warning_at: Some(at), ..ended(&unit, &later, false, received) }, &settings);
        assert!(c.delay_warning_due, "what was asked for stands, and the warning comes before it");
    }

    #[test]
    fn a_plugin_may_set_the_pause_or_give_up() {
        let (unit, now) = (unit(), Timestamp::from_millis(11_000));
        let all: Vec<_> = (0..3).map(|index| (index, deferred(None))).collect();
        let settings = DeliverySettings::new("us.test", waxwing_config::QueueConfig::default());
        let with =
            |retry: NextTry| decide_unit(&AttemptResult { retry_decision: &retry, ..ended(&unit, &all, false, now) }, &settings);
        assert_eq!(with(NextTry::After(Duration::from_secs(7))).next_state, NextState::RetryAt(now + Duration::from_secs(7)));
        assert_eq!(with(NextTry::After(Duration::ZERO)).next_state, NextState::RetryAt(now + RETRY_PAUSE_MIN));
        let c = with(NextTry::GiveUp);
        assert_eq!((c.failed.len(), c.failed[0].1.enhanced, c.next_state), (3, EnhancedCode::new(5, 0, 0), NextState::Removed));
    }
}
