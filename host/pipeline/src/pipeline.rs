//! All bound plugins in order, and how their answers fold into one.

use std::sync::Arc;

use waxwing_types::{Address, AddressClass, Clock, Disposition, EnhancedCode, NextHop, Reply, Status, Verdict};

use crate::chain::Seat;
use crate::{
    Answer, Binding, BindingStatus, Chain, ClassOf, Context, ContextRecipient, Event, Expansion, Fault, FaultKind, Hook, Mode,
    Resolution, Role, TraceEntry,
};

/// The plugins of a configuration, in its order.
pub struct Pipeline {
    bindings: Vec<Binding>,
    by_hook: [Vec<usize>; Hook::ALL.len()],
    classes: Arc<dyn ClassOf>,
    clock: Arc<dyn Clock>,
}

/// What the chain says of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// No plugin knows it: it stands for itself.
    NotMine,
    /// No such recipient.
    Unknown,
    /// It stands for these.
    Targets(Expansion),
    /// Answer with this reply for now, or for good.
    Failed(Reply),
}

/// A rewriting plugin failed, and the consequence is not to pass it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteError(pub Verdict);

/// One plugin's part in a call: it answered, or its fault has a consequence.
enum Step {
    Returned(Answer),
    Faulted(Verdict),
}

impl Pipeline {
    /// `bindings` in the order of the configuration.
    #[must_use]
    pub fn new(bindings: Vec<Binding>, classes: Arc<dyn ClassOf>, clock: Arc<dyn Clock>) -> Self {
        let by_hook = Hook::ALL.map(|hook| {
            let wanted = |(i, b): (usize, &Binding)| (b.mode != Mode::Off && b.plugin.exports().contains(hook)).then_some(i);
            bindings.iter().enumerate().filter_map(wanted).collect()
        });
        Self { bindings, by_hook, classes, clock }
    }

    /// The bindings in order.
    #[must_use]
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// For `waxwing plugin list`.
    #[must_use]
    pub fn status(&self) -> Vec<BindingStatus> {
        self.bindings.iter().map(Binding::status).collect()
    }

    /// Some plugin is bound to this hook.
    #[must_use]
    pub fn has(&self, hook: Hook) -> bool {
        self.by_hook.get(hook.index()).is_some_and(|list| !list.is_empty())
    }

    /// Begins the conversations of a session or transaction.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::new(self)
    }

    /// The class of an address.
    #[must_use]
    pub fn class_of(&self, address: &Address) -> AddressClass {
        self.classes.class_of(address)
    }

    /// Asks every plugin of a hook that decides, in order, until one is decisive. What they change is in `context` when this
    /// returns.
    pub async fn verdict(&self, chain: &mut Chain, context: &mut Context, event: Event) -> Verdict {
        for &at in self.by_hook.get(event.hook().index()).into_iter().flatten() {
            let verdict = match self.ask(at, chain, context, &event).await {
                None => Verdict::Continue,
                Some(Step::Faulted(consequence)) => consequence,
                Some(Step::Returned(Answer::Verdict(verdict))) => verdict,
                Some(Step::Returned(Answer::Rewritten(_) | Answer::Resolution(_) | Answer::Dispositions(_))) => Verdict::Continue,
            };
            match verdict {
                Verdict::Continue => {}
                Verdict::Hold { reason } => {
                    context.hold.get_or_insert(reason);
                    return Verdict::Accept;
                }
                Verdict::Accept | Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } => {
                    return verdict;
                }
            }
        }
        Verdict::Continue
    }

    /// Asks every rewriting plugin in turn, each about what the one before made of the address.
    pub async fn rewrite(
        &self,
        chain: &mut Chain,
        context: &mut Context,
        address: Address,
        role: Role,
    ) -> Result<Address, RewriteError> {
        let mut address = address;
        for &at in self.by_hook.get(Hook::OnRewriteAddress.index()).into_iter().flatten() {
            let event = Event::RewriteAddress(address.clone(), role);
            match self.ask(at, chain, context, &event).await {
                None | Some(Step::Faulted(Verdict::Continue)) => {}
                Some(Step::Faulted(Verdict::Hold { reason })) => {
                    context.hold.get_or_insert(reason);
                }
                Some(Step::Faulted(consequence)) => return Err(RewriteError(consequence)),
                Some(Step::Returned(answer)) => {
                    if let Answer::Rewritten(Some(new)) = answer {
                        address = new;
                    }
                }
            }
        }
        Ok(address)
    }

    /// Asks the resolving plugins in order; the first that knows the recipient has the word.
    pub async fn resolve(&self, chain: &mut Chain, context: &mut Context, recipient: &Address, verify: bool) -> Resolved {
        for &at in self.by_hook.get(Hook::OnResolve.index()).into_iter().flatten() {
            let event = Event::Resolve { recipient: recipient.clone(), verify };
            let resolution = match self.ask(at, chain, context, &event).await {
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
                Some(Step::Returned(answer)) => answer,
            };
            match resolution {
                Answer::Resolution(Resolution::Unknown) => return Resolved::Unknown,
                Answer::Resolution(Resolution::Targets(expansion)) => return Resolved::Targets(expansion),
                Answer::Resolution(Resolution::Unavailable(_)) => {
                    return Resolved::Failed(Reply::fixed(451, (4, 3, 0), "Aliases can't be looked up now, try again later"));
                }
                Answer::Resolution(Resolution::NotMine) | Answer::Verdict(_) | Answer::Rewritten(_) | Answer::Dispositions(_) => {
                }
            }
        }
        Resolved::NotMine
    }

    /// Hands a message to the one plugin that is this transport. A fault defers all recipients, or holds the message.
    pub async fn deliver(
        &self,
        plugin: &str,
        chain: &mut Chain,
        context: &mut Context,
        hop: NextHop,
        recipients: Vec<ContextRecipient>,
    ) -> Vec<(u32, Disposition)> {
        let deferred = |text: String| {
            let status = Status::local(EnhancedCode::new(4, 3, 0), text);
            Disposition::Deferred { status, not_before: None }
        };
        let all: Vec<u32> = recipients.iter().map(|r| r.index).collect();
        let everyone = |text: &str| all.iter().map(|i| (*i, deferred(text.to_owned()))).collect();
        let Some(at) = self.bindings.iter().position(|b| &*b.name == plugin) else {
            return everyone("the plugin of this transport is not loaded");
        };
        match self.ask(at, chain, context, &Event::Deliver { hop, recipients }).await {
            Some(Step::Returned(Answer::Dispositions(list))) => all
                .iter()
                .map(|index| match list.iter().find(|(i, _)| i == index) {
                    Some(found) => found.clone(),
                    None => (*index, deferred("the transport plugin said nothing about this recipient".to_owned())),
                })
                .collect(),
            Some(Step::Faulted(_)) => everyone("the transport plugin failed"),
            Some(Step::Returned(_)) | None => everyone("the transport plugin does not take this message"),
        }
    }

    /// One call: counted, traced, its changes applied if it returned and its word counts. `None`: not asked, or its word does
    /// not count.
    async fn ask(&self, at: usize, chain: &mut Chain, context: &mut Context, event: &Event) -> Option<Step> {
        let binding = self.bindings.get(at)?;
        let hook = event.hook();
        if !binding.wants(hook, context) {
            return None;
        }
        let seat = chain.guests.get_mut(at)?;
        if matches!(seat, Seat::Empty) {
            *seat = Seat::Open(Arc::clone(&binding.plugin).open());
        }
        let Seat::Open(guest) = seat else { return None };
        let began = self.clock.monotonic();
        let result = guest.call(event, context).await;
        let micros = u64::try_from(self.clock.monotonic().since(began).as_micros()).unwrap_or(u64::MAX);
        let shadow = binding.mode == Mode::Shadow;
        let entry = TraceEntry::call(&binding.name, hook, self.clock.now(), micros, event.subject(), shadow);
        let result = result.and_then(|outcome| match shadow {
            true => Ok(outcome),
            false => match context.apply(&outcome.changes, &*self.classes) {
                Ok(()) => Ok(outcome),
                Err(error) => Err(Fault { kind: FaultKind::BadAnswer, text: error.to_string(), log: outcome.log }),
            },
        });
        binding.count(hook, result.is_err(), micros);
        let step = match result {
            Ok(outcome) => {
                entry.returned(&outcome).join(&mut chain.trace);
                if outcome.changes.skip_rest && !shadow {
                    *seat = Seat::Left;
                }
                Step::Returned(outcome.answer)
            }
            Err(fault) => {
                let consequence = binding.consequence(&fault);
                entry.faulted(&fault, consequence.as_str()).join(&mut chain.trace);
                Step::Faulted(consequence)
            }
        };
        (!shadow).then_some(step)
    }
}

#[cfg(test)]
mod tests;
