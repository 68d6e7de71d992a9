//! Comparison of the answers of shadow plugins with the decision of the enforcing plugins.

use std::sync::Arc;

use waxwing_types::Verdict;

use crate::{Answer, Chain, Context, Event, Hook, Mode, Pipeline, TraceEntry};

/// Answer of a shadow; none if the call ended in a fault.
pub(crate) struct Heard {
    /// Index in the binding table.
    at: usize,
    hook: Hook,
    answer: Option<Answer>,
}

impl Chain {
    /// Stores the last answer of a shadow at a hook, until the enforcing plugins have decided.
    pub(crate) fn hear(&mut self, at: usize, hook: Hook, answer: Option<&Answer>) {
        self.shadows.retain(|heard| (heard.at, heard.hook) != (at, hook));
        self.shadows.push(Heard { at, hook, answer: answer.cloned() });
    }

    /// Returns the most recent answer, if given by the shadow at this index.
    pub(crate) fn heard_last(&mut self, at: usize) -> Option<&mut Answer> {
        self.shadows.last_mut().filter(|heard| heard.at == at)?.answer.as_mut()
    }
}

impl Pipeline {
    /// Compares all shadows with the decision. Shadows not called yet, because an earlier plugin decided, are called now. A
    /// fault of a shadow counts neither as agreement nor as difference.
    pub(crate) async fn compare(&self, chain: &mut Chain, context: &mut Context, event: &Event, decided: &Answer) {
        let bound = Arc::clone(&chain.bound);
        let hook = event.hook();
        let is_shadow = |at: &usize| bound.bindings.get(*at).is_some_and(|b| b.mode == Mode::Shadow);
        for &at in bound.at(hook).iter().filter(|at| is_shadow(at)) {
            if !chain.shadows.iter().any(|heard| heard.at == at && heard.hook == hook) {
                let _ = self.ask(at, chain, context, event).await;
            }
        }
        for Heard { at, hook: there, answer } in std::mem::take(&mut chain.shadows) {
            let Some(answer) = answer.filter(|_| there == hook) else { continue };
            let Some(binding) = bound.bindings.get(at).map(|b| b.chosen(context.id)) else { continue };
            let agrees = agree(&answer, decided);
            if let Some(record) = binding.record(hook) {
                record.counts.comparison(agrees);
            }
            if !agrees {
                let entry = TraceEntry::call(binding, hook, self.clock.now(), 0, event.subject());
                entry.differs(&answer, decided).keep(&mut chain.trace);
            }
        }
    }
}

/// Checks whether two answers have the same effect on the mail. Texts of replies and reasons may differ.
fn agree(shadow: &Answer, decided: &Answer) -> bool {
    let class = |verdict: &Verdict| match verdict {
        Verdict::Continue | Verdict::Accept => "pass",
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } | Verdict::Hold { .. } => {
            verdict.as_str()
        }
    };
    match (shadow, decided) {
        (Answer::Verdict(shadow), Answer::Verdict(decided)) => class(shadow) == class(decided),
        (shadow, decided) => shadow == decided,
    }
}
