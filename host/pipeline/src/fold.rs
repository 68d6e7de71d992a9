//! Intake hooks: combines the answers of several plugins, up to the commit of a message.

use std::sync::Arc;

use waxwing_types::{Address, Reply, Verdict};

use crate::pipeline::{Ended, Step};
use crate::{Answer, Chain, Context, Event, Expansion, Hook, Pipeline, Placement, Resolution, Role, Symbol};

/// Result of alias expansion by all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
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
    pub async fn verdict(&self, chain: &mut Chain, context: &mut Context, event: Event) -> Verdict {
        let verdict = self.first_decisive(chain, context, &event).await;
        self.compare(chain, context, &event, &Answer::Verdict(verdict.clone())).await;
        match verdict {
            Verdict::Hold { reason } => {
                context.hold.get_or_insert(reason);
                Verdict::Accept
            }
            Verdict::Continue
            | Verdict::Accept
            | Verdict::Reject(_)
            | Verdict::Defer(_)
            | Verdict::Disconnect(_)
            | Verdict::Discard { .. } => verdict,
        }
    }

    async fn first_decisive(&self, chain: &mut Chain, context: &mut Context, event: &Event) -> Verdict {
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(event.hook()) {
            let verdict = match self.ask(at, chain, context, event).await {
                Some(Step::Faulted(consequence)) => consequence,
                Some(Step::Returned(Answer::Verdict(verdict))) => self.softened(at, chain, context, event.hook(), verdict).await,
                Some(Step::Returned(_)) | None => Verdict::Continue,
            };
            if verdict != Verdict::Continue {
                return verdict;
            }
        }
        Verdict::Continue
    }

    /// Applies `on-refuse` of the other plugins to a refusal; returns any other verdict unchanged.
    async fn softened(&self, by: usize, chain: &mut Chain, context: &mut Context, stage: Hook, verdict: Verdict) -> Verdict {
        let (Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply)) = &verdict else { return verdict };
        let bound = Arc::clone(&chain.bound);
        let Some(author) = bound.bindings.get(by) else { return verdict };
        let event = Event::Refuse { stage, by: author.name.to_string(), reply: reply.clone() };
        for &at in bound.at(Hook::OnRefuse).iter().filter(|at| **at != by) {
            match self.ask(at, chain, context, &event).await {
                None | Some(Step::Faulted(_) | Step::Returned(Answer::Verdict(Verdict::Continue))) => {}
                // An overruled refusal passes to the next plugin, as if the refusing plugin were absent.
                Some(Step::Returned(Answer::Verdict(Verdict::Accept))) => return Verdict::Continue,
                Some(Step::Returned(Answer::Verdict(softer))) if is_softer(&softer, &verdict, stage) => return softer,
                Some(Step::Returned(_)) => {}
            }
        }
        verdict
    }

    /// Calls all scoring plugins and returns their symbols together. A fault with a final verdict stops the scoring.
    pub async fn score(&self, chain: &mut Chain, context: &mut Context) -> Result<Vec<Symbol>, Ended> {
        let mut all = Vec::new();
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnScore) {
            match self.ask(at, chain, context, &Event::Score).await {
                Some(Step::Faulted(consequence)) => passed_over(context, consequence)?,
                Some(Step::Returned(Answer::Symbols(symbols))) => all.extend(symbols),
                Some(Step::Returned(_)) | None => {}
            }
        }
        Ok(all)
    }

    /// Calls on-enqueue of all plugins and combines the answers: the longest delay, the first reason to hold, and the sum of
    /// the priorities.
    pub async fn placement(&self, chain: &mut Chain, context: &mut Context) -> Result<Placement, Ended> {
        let mut all = Placement::default();
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnEnqueue) {
            match self.ask(at, chain, context, &Event::Enqueue).await {
                Some(Step::Faulted(consequence)) => passed_over(context, consequence)?,
                Some(Step::Returned(Answer::Placement(one))) => {
                    all.priority = all.priority.saturating_add(one.priority);
                    all.not_before = all.not_before.max(one.not_before);
                    all.hold = all.hold.or(one.hold);
                }
                Some(Step::Returned(_)) | None => {}
            }
        }
        Ok(all)
    }

    /// Calls all plugins of a notification hook. Answers and faults have no effect.
    pub async fn tell(&self, chain: &mut Chain, context: &mut Context, event: Event) {
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(event.hook()) {
            let _ = self.ask(at, chain, context, &event).await;
        }
    }

    /// Calls every rewriting plugin in order, each with the address returned by the previous plugin.
    pub async fn rewrite(
        &self,
        chain: &mut Chain,
        context: &mut Context,
        address: Address,
        role: Role,
    ) -> Result<Address, Ended> {
        let mut address = address;
        chain.shadows.clear();
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnRewriteAddress) {
            let event = Event::RewriteAddress(address.clone(), role);
            match self.ask(at, chain, context, &event).await {
                // An unchanged address counts as the current address in the comparison of shadows.
                None => {
                    if let Some(unchanged @ Answer::Rewritten(None)) = chain.heard_last(at) {
                        *unchanged = Answer::Rewritten(Some(address.clone()));
                    }
                }
                Some(Step::Faulted(consequence)) => passed_over(context, consequence)?,
                Some(Step::Returned(Answer::Rewritten(Some(new)))) => address = new,
                Some(Step::Returned(_)) => {}
            }
        }
        if !chain.shadows.is_empty() {
            let event = Event::RewriteAddress(address.clone(), role);
            self.compare(chain, context, &event, &Answer::Rewritten(Some(address.clone()))).await;
        }
        Ok(address)
    }

    /// Calls the resolving plugins in order. The first plugin that answers anything but `NotMine` decides.
    pub async fn resolve(&self, chain: &mut Chain, context: &mut Context, recipient: &Address, verify: bool) -> Resolved {
        let event = Event::Resolve { recipient: recipient.clone(), verify };
        let resolved = self.first_that_knows(chain, context, &event).await;
        let decided = match &resolved {
            Resolved::NotMine => Resolution::NotMine,
            Resolved::Unknown => Resolution::Unknown,
            Resolved::Targets(expansion) => Resolution::Targets(expansion.clone()),
            Resolved::Failed(reply) => Resolution::Unavailable(reply.to_string()),
        };
        self.compare(chain, context, &event, &Answer::Resolution(decided)).await;
        resolved
    }

    async fn first_that_knows(&self, chain: &mut Chain, context: &mut Context, event: &Event) -> Resolved {
        let bound = Arc::clone(&chain.bound);
        for &at in bound.at(Hook::OnResolve) {
            let resolution = match self.ask(at, chain, context, event).await {
                None => continue,
                Some(Step::Faulted(Verdict::Continue)) => continue,
                Some(Step::Faulted(Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply))) => {
                    return Resolved::Failed(reply);
                }
                Some(Step::Faulted(Verdict::Hold { reason })) => {
                    context.hold.get_or_insert(reason);
                    continue;
                }
                Some(Step::Faulted(Verdict::Accept | Verdict::Discard { .. })) => continue,
                Some(Step::Returned(Answer::Resolution(resolution))) => resolution,
                Some(Step::Returned(_)) => continue,
            };
            match resolution {
                Resolution::Unknown => return Resolved::Unknown,
                Resolution::Targets(expansion) => return Resolved::Targets(expansion),
                Resolution::Unavailable(_) => {
                    return Resolved::Failed(Reply::fixed(451, (4, 3, 0), "Aliases can't be looked up now, try again later"));
                }
                Resolution::NotMine => {}
            }
        }
        Resolved::NotMine
    }
}

/// Applies the verdict of a fault: continues if the plugin is skipped or the message is held, otherwise returns the verdict as
/// an error.
pub(crate) fn passed_over(context: &mut Context, consequence: Verdict) -> Result<(), Ended> {
    match consequence {
        Verdict::Continue | Verdict::Accept => Ok(()),
        Verdict::Hold { reason } => {
            context.hold.get_or_insert(reason);
            Ok(())
        }
        Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } => Err(Ended(consequence)),
    }
}

/// Checks whether a verdict is at most as severe as the refusal. Before MAIL there is no message to discard yet.
fn is_softer(new: &Verdict, old: &Verdict, stage: Hook) -> bool {
    let rank = |verdict: &Verdict| match verdict {
        Verdict::Continue | Verdict::Accept | Verdict::Hold { .. } => 0,
        Verdict::Discard { .. } => 1,
        Verdict::Defer(_) => 2,
        Verdict::Reject(_) => 3,
        Verdict::Disconnect(_) => 4,
    };
    let is_early = matches!(stage, Hook::OnConnect | Hook::OnTls | Hook::OnHelo);
    rank(new) <= rank(old) && !(is_early && matches!(new, Verdict::Discard { .. }))
}
