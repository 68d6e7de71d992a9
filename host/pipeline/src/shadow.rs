//! Comparison of the answers of shadow plugins with the decision of the enforcing plugins.

use std::sync::Arc;

use waxwing_types::Verdict;

use crate::hook_session::ShadowAnswer;
use crate::{BindingMode, Context, Event, HookAnswer, HookSession, Pipeline};

impl Pipeline {
    /// Compares all shadows with the decision. Shadows not called yet, because an earlier plugin decided, are called now. A
    /// fault of a shadow counts neither as agreement nor as difference.
    pub(crate) async fn compare_shadows(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        event: &Event,
        decided: &HookAnswer,
    ) {
        let bound = Arc::clone(&chain.table);
        let hook = event.hook();
        let is_shadow = |at: &usize| bound.bindings.get(*at).is_some_and(|b| b.mode == BindingMode::Shadow);
        for &at in bound.indices(hook).iter().filter(|at| is_shadow(at)) {
            if !chain.shadow_answers.iter().any(|recorded| recorded.index == at && recorded.hook == hook) {
                let _ = self.call_plugin(at, chain, context, event).await;
            }
        }
        for ShadowAnswer { index: at, hook: there, answer } in std::mem::take(&mut chain.shadow_answers) {
            let Some(answer) = answer.filter(|_| there == hook) else { continue };
            let Some(binding) = bound.bindings.get(at).map(|b| b.select_version(context.id)) else { continue };
            let agrees = have_same_effect(&answer, decided);
            if let Some(record) = binding.hook_state(hook) {
                record.counters.record_comparison(agrees);
            }
            if !agrees {
                let entry = binding.trace_entry(hook, self.clock.now(), 0, event.subject());
                entry.with_difference(&answer, decided).append_to(&mut chain.trace);
            }
        }
    }
}

/// Checks whether two answers have the same effect on the mail. Texts of replies and reasons may differ.
fn have_same_effect(shadow: &HookAnswer, decided: &HookAnswer) -> bool {
    let class = |verdict: &Verdict| match verdict {
        Verdict::Next | Verdict::Accept => "pass",
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } | Verdict::Hold { .. } => {
            verdict.as_str()
        }
    };
    match (shadow, decided) {
        (HookAnswer::Verdict(shadow), HookAnswer::Verdict(decided)) => class(shadow) == class(decided),
        (shadow, decided) => shadow == decided,
    }
}
