//! Destinations declared dead by a plugin: suspended for a limited time.

use std::collections::HashMap;

use parking_lot::Mutex;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status, Timestamp};

/// Maximum number of suspended destinations; beyond, the suspension with the earliest end is dropped.
const RESTING_MAX: usize = 1_000;

/// Suspended destinations, with the end of the suspension and the reply behind the decision.
#[derive(Debug, Default)]
pub(crate) struct Resting(Mutex<HashMap<NextHop, (Timestamp, String)>>);

impl Resting {
    /// Suspends deliveries to a destination before `until`.
    pub(crate) fn begin(&self, hop: &NextHop, now: Timestamp, until: Timestamp, why: &str) {
        let mut all = self.0.lock();
        if all.len() >= RESTING_MAX && !all.contains_key(hop) {
            all.retain(|_, (until, _)| *until > now);
            if all.len() >= RESTING_MAX
                && let Some(first) = all.iter().min_by_key(|(_, (until, _))| *until).map(|(hop, _)| hop.clone())
            {
                all.remove(&first);
            }
        }
        all.insert(hop.clone(), (until, why.to_owned()));
    }

    /// Returns the deferral for a suspended destination, or none.
    pub(crate) fn word(&self, hop: &NextHop, now: Timestamp) -> Option<Disposition> {
        let mut all = self.0.lock();
        let (until, why) = all.get(hop)?;
        if *until <= now {
            all.remove(hop);
            return None;
        }
        let status = Status::local(EnhancedCode::new(4, 4, 1), format!("destination suspended by a plugin; last reply: {why}"));
        Some(Disposition::Deferred { status, not_before: Some(*until) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(number: usize) -> NextHop {
        NextHop { transport: "smtp".into(), host: format!("{number}.example"), port: None }
    }

    #[test]
    fn a_destination_rests_for_its_time_and_not_all_can_rest() {
        let (resting, at) = (Resting::default(), Timestamp::from_millis);
        for number in 0..RESTING_MAX + 1 {
            resting.begin(&hop(number), at(0), at(1_000 + number as u64), "gone");
        }
        assert!(resting.word(&hop(0), at(1)).is_none(), "the one that rests least long made room");
        assert!(
            matches!(resting.word(&hop(1), at(1_000)), Some(Disposition::Deferred { not_before: Some(t), .. }) if t == at(1_001))
        );
        assert!(resting.word(&hop(1), at(1_001)).is_none());
        assert_eq!(resting.0.lock().len(), RESTING_MAX - 1);
    }
}
