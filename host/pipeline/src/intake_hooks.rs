//! Intake hooks: combines the answers of several plugins, up to the commit of a message.

use std::sync::Arc;

use waxwing_types::{Address, Reply, Verdict};

use crate::pipeline::{CallResult, Rejected};
use crate::{AddressRole, Context, Event, Expansion, Hook, HookAnswer, HookSession, Pipeline, Placement, Resolution, Symbol};

/// Result of alias expansion by all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedRecipient {
    /// Recipient unknown to all plugins and therefore unchanged.
    NotMine,
    /// No such recipient.
    Unknown,
    /// Recipient replaced by the targets.
    Targets(Expansion),
    /// Temporary or permanent failure, with the reply.
    Failed(Reply),
}

impl Pipeline {
    /// Calls the plugins of a deciding hook in order, until a verdict other than `Next`. Changes staged by the calls are in
    /// `context` on return.
    ///
    /// A plugin's refusal, as opposed to the refusal caused by a fault, first goes to `on-refuse` of the other plugins, which
    /// may overrule or soften the refusal.
    pub async fn verdict(&self, chain: &mut HookSession, context: &mut Context, event: Event) -> Verdict {
        let verdict = self.first_verdict(chain, context, &event).await;
        self.compare_shadows(chain, context, &event, &HookAnswer::Verdict(verdict.clone())).await;
        match verdict {
            Verdict::Hold { reason } => {
                context.hold.get_or_insert(reason);
                Verdict::Accept
            }
            Verdict::Next
            | Verdict::Accept
            | Verdict::Reject(_)
            | Verdict::Defer(_)
            | Verdict::Disconnect(_)
            | Verdict::Discard { .. } => verdict,
        }
    }

    async fn first_verdict(&self, chain: &mut HookSession, context: &mut Context, event: &Event) -> Verdict {
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(event.hook()) {
            let verdict = match self.call_plugin(at, chain, context, event).await {
                Some(CallResult::Faulted(consequence)) => consequence,
                Some(CallResult::Returned(HookAnswer::Verdict(verdict))) => {
                    self.apply_on_refuse(at, chain, context, event.hook(), verdict).await
                }
                Some(CallResult::Returned(_)) | None => Verdict::Next,
            };
            if verdict != Verdict::Next {
                return verdict;
            }
        }
        Verdict::Next
    }

    /// Applies `on-refuse` of the other plugins to a refusal; returns any other verdict unchanged.
    async fn apply_on_refuse(
        &self,
        by: usize,
        chain: &mut HookSession,
        context: &mut Context,
        stage: Hook,
        verdict: Verdict,
    ) -> Verdict {
        let (Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply)) = &verdict else { return verdict };
        let bound = Arc::clone(&chain.table);
        let Some(author) = bound.bindings.get(by) else { return verdict };
        let event = Event::Refuse { stage, plugin: author.name.to_string(), reply: reply.clone() };
        for &at in bound.indices(Hook::OnRefuse).iter().filter(|at| **at != by) {
            match self.call_plugin(at, chain, context, &event).await {
                None | Some(CallResult::Faulted(_) | CallResult::Returned(HookAnswer::Verdict(Verdict::Next))) => {}
                // An overruled refusal passes to the next plugin, as if the refusing plugin were absent.
                Some(CallResult::Returned(HookAnswer::Verdict(Verdict::Accept))) => return Verdict::Next,
                Some(CallResult::Returned(HookAnswer::Verdict(softer))) if is_at_most_as_severe(&softer, &verdict, stage) => {
                    return softer;
                }
                Some(CallResult::Returned(_)) => {}
            }
        }
        verdict
    }

    /// Calls all scoring plugins and returns their symbols together. A fault with a final verdict stops the scoring.
    pub async fn score(&self, chain: &mut HookSession, context: &mut Context) -> Result<Vec<Symbol>, Rejected> {
        let mut all = Vec::new();
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnScore) {
            match self.call_plugin(at, chain, context, &Event::Score).await {
                Some(CallResult::Faulted(consequence)) => apply_fault(context, consequence)?,
                Some(CallResult::Returned(HookAnswer::Symbols(symbols))) => all.extend(symbols),
                Some(CallResult::Returned(_)) | None => {}
            }
        }
        Ok(all)
    }

    /// Calls on-enqueue of all plugins and combines the answers: the longest delay, the first reason to hold, and the sum of
    /// the priorities.
    pub async fn enqueue_placement(&self, chain: &mut HookSession, context: &mut Context) -> Result<Placement, Rejected> {
        let mut all = Placement::default();
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnEnqueue) {
            match self.call_plugin(at, chain, context, &Event::Enqueue).await {
                Some(CallResult::Faulted(consequence)) => apply_fault(context, consequence)?,
                Some(CallResult::Returned(HookAnswer::Placement(one))) => {
                    all.priority = all.priority.saturating_add(one.priority);
                    all.not_before = all.not_before.max(one.not_before);
                    all.hold = all.hold.or(one.hold);
                }
                Some(CallResult::Returned(_)) | None => {}
            }
        }
        Ok(all)
    }

    /// Calls all plugins of a notification hook. Answers and faults have no effect.
    pub async fn notify(&self, chain: &mut HookSession, context: &mut Context, event: Event) {
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(event.hook()) {
            let _ = self.call_plugin(at, chain, context, &event).await;
        }
    }

    /// Calls every rewriting plugin in order, each with the address returned by the previous plugin.
    pub async fn rewrite(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        address: Address,
        role: AddressRole,
    ) -> Result<Address, Rejected> {
        let mut address = address;
        chain.shadow_answers.clear();
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnRewriteAddress) {
            let event = Event::RewriteAddress(address.clone(), role);
            match self.call_plugin(at, chain, context, &event).await {
                // An unchanged address counts as the current address in the comparison of shadows.
                None => {
                    if let Some(unchanged @ HookAnswer::Rewritten(None)) = chain.last_shadow(at) {
                        *unchanged = HookAnswer::Rewritten(Some(address.clone()));
                    }
                }
                Some(CallResult::Faulted(consequence)) => apply_fault(context, consequence)?,
                Some(CallResult::Returned(HookAnswer::Rewritten(Some(new)))) => address = new,
                Some(CallResult::Returned(_)) => {}
            }
        }
        if !chain.shadow_answers.is_empty() {
            let event = Event::RewriteAddress(address.clone(), role);
            self.compare_shadows(chain, context, &event, &HookAnswer::Rewritten(Some(address.clone()))).await;
        }
        Ok(address)
    }

    /// Calls the resolving plugins in order. The first plugin that answers anything but `NotMine` decides.
    pub async fn resolve(
        &self,
        chain: &mut HookSession,
        context: &mut Context,
        recipient: &Address,
        verify: bool,
    ) -> ResolvedRecipient {
        let event = Event::Resolve { recipient: recipient.clone(), verify };
        let resolved = self.first_resolution(chain, context, &event).await;
        let decided = match &resolved {
            ResolvedRecipient::NotMine => Resolution::NotMine,
            ResolvedRecipient::Unknown => Resolution::Unknown,
            ResolvedRecipient::Targets(expansion) => Resolution::Targets(expansion.clone()),
            ResolvedRecipient::Failed(reply) => Resolution::Unavailable(reply.to_string()),
        };
        self.compare_shadows(chain, context, &event, &HookAnswer::Resolution(decided)).await;
        resolved
    }

    async fn first_resolution(&self, chain: &mut HookSession, context: &mut Context, event: &Event) -> ResolvedRecipient {
        let bound = Arc::clone(&chain.table);
        for &at in bound.indices(Hook::OnResolve) {
            let resolution = match self.call_plugin(at, chain, context, event).await {
                None => continue,
                Some(CallResult::Faulted(Verdict::Next)) => continue,
                Some(CallResult::Faulted(Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply))) => {
                    return ResolvedRecipient::Failed(reply);
                }
                Some(CallResult::Faulted(Verdict::Hold { reason })) => {
                    context.hold.get_or_insert(reason);
                    continue;
                }
                Some(CallResult::Faulted(Verdict::Accept | Verdict::Discard { .. })) => continue,
                Some(CallResult::Returned(HookAnswer::Resolution(resolution))) => resolution,
                Some(CallResult::Returned(_)) => continue,
            };
            match resolution {
                Resolution::Unknown => return ResolvedRecipient::Unknown,
                Resolution::Targets(expansion) => return ResolvedRecipient::Targets(expansion),
                Resolution::Unavailable(_) => {
                    return ResolvedRecipient::Failed(Reply::fixed(
                        451,
                        (4, 3, 0),
                        "Aliases can't be looked up now, try again later",
                    ));
                }
                Resolution::NotMine => {}
            }
        }
        ResolvedRecipient::NotMine
    }
}

/// Applies the verdict of a fault: continues if the plugin is skipped or the message is held, otherwise returns the verdict as
/// an error.
pub(crate) fn apply_fault(context: &mut Context, consequence: Verdict) -> Result<(), Rejected> {
    match consequence {
        Verdict::Next | Verdict::Accept => Ok(()),
        Verdict::Hold { reason } => {
            context.hold.get_or_insert(reason);
            Ok(())
        }
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } => Err(Rejected(consequence)),
    }
}

/// Checks whether a verdict is at most as severe as the refusal. Before MAIL there is no message to discard yet.
fn is_at_most_as_severe(new: &Verdict, old: &Verdict, stage: Hook) -> bool {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Next | Verdict::Accept | Verdict::Hold { .. } => 0,
        Verdict::Discard { .. } => 1,
        Verdict::Defer(_) => 2,
        Verdict::Reject(_) => 3,
        Verdict::Disconnect(_) => 4,
    };
    let is_early = matches!(stage, Hook::OnConnect | Hook::OnTls | Hook::OnHelo);
    rank(new) <= rank(old) && !(is_early && matches!(new, Verdict::Discard { .. }))
}
