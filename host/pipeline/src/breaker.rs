//! Circuit breaker: suspends the calls of a plugin at a hook after too many consecutive faults.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use waxwing_types::Monotonic;

use crate::{Fault, FaultKind};

/// Thresholds of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Number of consecutive faults at one hook that opens the breaker; 0 disables the breaker.
    pub faults: u32,
    /// Time for which an open breaker blocks calls before one probe call.
    pub time: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { faults: 10, time: Duration::from_secs(30) }
    }
}

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// All calls pass.
    #[default]
    Closed,
    /// One probe call is running; all other calls are blocked.
    HalfOpen,
    /// All calls are blocked.
    Open,
}

impl BreakerState {
    /// Returns the name of the state in lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// Permission for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallPermission {
    /// Ordinary call through a closed breaker.
    Normal,
    /// Probe call. The number distinguishes the current probe from an abandoned probe.
    Probe(u64),
}

#[derive(Clone, Copy, Debug)]
enum BreakerPhase {
    Closed {
        faults: u32,
    },
    Open {
        until: Monotonic,
    },
    /// A probe that never reports, because the session was dropped, is abandoned at `until`.
    HalfOpen {
        until: Monotonic,
        probe: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<(BreakerPhase, u64)>,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self { settings, inner: Mutex::new((BreakerPhase::Closed { faults: 0 }, 0)) }
    }

    /// Returns a permission to call the plugin now, or the fault `BreakerOpen`.
    pub(crate) fn permit_call(&self, now: Monotonic) -> Result<CallPermission, Fault> {
        let mut inner = self.inner.lock();
        match inner.0 {
            BreakerPhase::Closed { .. } => Ok(CallPermission::Normal),
            BreakerPhase::Open { until } | BreakerPhase::HalfOpen { until, .. } if now < until => {
                let text = format!("not called: breaker open after {} consecutive faults", self.settings.faults);
                Err(Fault::new(FaultKind::BreakerOpen, text))
            }
            BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. } => {
                let probe = inner.1.wrapping_add(1);
                *inner = (BreakerPhase::HalfOpen { until: now + self.settings.time, probe }, probe);
                Ok(CallPermission::Probe(probe))
            }
        }
    }

    /// Records the result of a call. Returns the new state if the breaker opened or closed. Ordinary calls that were running
    /// when the breaker opened change nothing: only the probe does. An exhausted pool counts neither as a failure of the plugin
    /// nor as a success.
    pub(crate) fn record_result(&self, pass: CallPermission, fault: Option<FaultKind>, now: Monotonic) -> Option<BreakerState> {
        let mut inner = self.inner.lock();
        let next = match (inner.0, pass) {
            (BreakerPhase::Closed { faults }, CallPermission::Normal) => match fault {
                None => BreakerPhase::Closed { faults: 0 },
                Some(FaultKind::PoolExhausted) => return None,
                Some(_) if self.settings.faults == 0 => return None,
                Some(_) if faults.saturating_add(1) >= self.settings.faults => {
                    BreakerPhase::Open { until: now + self.settings.time }
                }
                Some(_) => BreakerPhase::Closed { faults: faults.saturating_add(1) },
            },
            (BreakerPhase::HalfOpen { probe, .. }, CallPermission::Probe(mine)) if probe == mine => match fault {
                None => BreakerPhase::Closed { faults: 0 },
                Some(FaultKind::PoolExhausted) => BreakerPhase::Open { until: now },
                Some(_) => BreakerPhase::Open { until: now + self.settings.time },
            },
            (BreakerPhase::Closed { .. }, CallPermission::Probe(_))
            | (BreakerPhase::Open { .. } | BreakerPhase::HalfOpen { .. }, _) => return None,
        };
        let was_closed = matches!(inner.0, BreakerPhase::Closed { .. });
        inner.0 = next;
        match next {
            BreakerPhase::Open { .. } => was_closed.then_some(BreakerState::Open),
            BreakerPhase::Closed { .. } => (!was_closed).then_some(BreakerState::Closed),
            BreakerPhase::HalfOpen { .. } => None,
        }
    }

    /// Returns the current state. An open breaker stays open until the next call, however late.
    pub(crate) fn state(&self) -> BreakerState {
        match self.inner.lock().0 {
            BreakerPhase::Closed { .. } => BreakerState::Closed,
            BreakerPhase::Open { .. } => BreakerState::Open,
            BreakerPhase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_micros(seconds * 1_000_000)
    }

    fn broken() -> Breaker {
        let breaker = Breaker::new(BreakerSettings { faults: 2, time: Duration::from_secs(30) });
        for _ in 0..2 {
            let pass = breaker.permit_call(at(0)).unwrap();
            breaker.record_result(pass, Some(FaultKind::Trap), at(0));
        }
        breaker
    }

    #[test]
    fn opens_after_faults_in_a_row_only() {
        let breaker = Breaker::new(BreakerSettings { faults: 2, time: Duration::from_secs(30) });
        for fault in [Some(FaultKind::Trap), None, Some(FaultKind::Trap), Some(FaultKind::PoolExhausted)] {
            breaker.record_result(breaker.permit_call(at(0)).unwrap(), fault, at(0));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.record_result(CallPermission::Normal, Some(FaultKind::TimeLimit), at(0));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.permit_call(at(29)).unwrap_err().kind, FaultKind::BreakerOpen);
    }

    #[test]
    fn one_probe_decides() {
        let breaker = broken();
        let probe = breaker.permit_call(at(30)).unwrap();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.permit_call(at(31)).is_err(), "one probe at a time");
        breaker.record_result(CallPermission::Normal, None, at(31));
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "an old call proves nothing");
        breaker.record_result(probe, Some(FaultKind::Trap), at(31));
        assert!(breaker.permit_call(at(60)).is_err(), "the time begins anew");
        let probe = breaker.permit_call(at(61)).unwrap();
        breaker.record_result(probe, None, at(61));
        assert_eq!((breaker.state(), breaker.permit_call(at(61)).unwrap()), (BreakerState::Closed, CallPermission::Normal));
    }

    #[test]
    fn a_lost_probe_is_followed_by_another() {
        let breaker = broken();
        let lost = breaker.permit_call(at(30)).unwrap();
        let second = breaker.permit_call(at(60)).unwrap();
        assert_ne!(lost, second);
        breaker.record_result(lost, None, at(60));
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "it was given up");
    }

    #[test]
    fn none_is_off() {
        let breaker = Breaker::new(BreakerSettings { faults: 0, ..BreakerSettings::default() });
        for _ in 0..100 {
            breaker.record_result(breaker.permit_call(at(0)).unwrap(), Some(FaultKind::Trap), at(0));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
