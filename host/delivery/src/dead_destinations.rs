//! Destinations declared dead by a plugin: suspended for a limited time.

use std::collections::HashMap;

use parking_lot::Mutex;
use waxwing_types::{Disposition, EnhancedCode, NextHop, Status, Timestamp};

/// Maximum number of suspended destinations; beyond, the suspension with the earliest end is dropped.
const DEAD_DESTINATIONS_MAX: usize = 1_000;

/// Suspended destinations, with the end of the suspension and the reply behind the decision.
#[derive(Debug, Default)]
pub(crate) struct DeadDestinations(Mutex<HashMap<NextHop, (Timestamp, String)>>);

impl DeadDestinations {
    /// Suspends deliveries to a destination before `until`.
    pub(crate) fn suspend(&self, hop: &NextHop, now: Timestamp, until: Timestamp, why: &str) {
        let mut all = self.0.lock();
        if all.len() >= DEAD_DESTINATIONS_MAX && !all.contains_key(hop) {
            all.retain(|_, (until, _)| *until > now);
            if all.len() >= DEAD_DESTINATIONS_MAX
                && let Some(first) = all.iter().min_by_key(|(_, (until, _))| *until).map(|(hop, _)| hop.clone())
            {
                all.remove(&first);
            }
        }
        all.insert(hop.clone(), (until, why.to_owned()));
    }

    /// Returns the deferral for a suspended destination, or none.
    pub(crate) fn check(&self, hop: &NextHop, now: Timestamp) -> Option<Disposition> {
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
        let (resting, at) = (DeadDestinations::default(), Timestamp::from_millis);
        for number in 0..DEAD_DESTINATIONS_MAX + 1 {
            resting.suspend(&hop(number), at(0), at(1_000 + number as u64), "gone");
        }
        assert!(resting.check(&hop(0), at(1)).is_none(), "the one that rests least long made room");
        assert!(
            matches!(resting.check(&hop(1), at(1_000)), Some(Disposition::Deferred { not_before: Some(t), .. }) if t == at(1_001))
        );
        assert!(resting.check(&hop(1), at(1_001)).is_none());
        assert_eq!(resting.0.lock().len(), DEAD_DESTINATIONS_MAX - 1);
    }
}
