//! Aliases: from the recipients of the envelope to those that get the message.

use std::collections::{HashSet, VecDeque};

use waxwing_pipeline::{Expansion, Hook, Resolved, Target};
use waxwing_types::{Recipient, Reply, ReversePath};

use crate::expanded::{Expanded, of_members};
use crate::transaction::Transaction;
use crate::{Intake, replies};

/// A recipient, and who owns the list that it came from.
pub(crate) type Owned = (Recipient, Option<ReversePath>);

/// A recipient on its way through the aliases.
struct Step {
    recipient: Recipient,
    /// How many aliases led to it.
    depth: u32,
    /// The owner of the list that it came from.
    owner: Option<ReversePath>,
}

impl Intake {
    /// The recipients that aliases make of the envelope's, each once; where they come from one list, its owner is the sender.
    pub(crate) async fn expand_all(&self, transaction: &mut Transaction) -> Result<Vec<Recipient>, Reply> {
        let named = transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect();
        let (out, aliases) = self.expand_noting(transaction, named).await?;
        transaction.expanded = Expanded { sender: transaction.context.sender.clone(), aliases };
        apply_owner(transaction, &out);
        Ok(out.into_iter().map(|(recipient, _)| recipient).collect())
    }

    /// What aliases make of these recipients, each once, with the owner of the list that it came from. An alias may name itself: then it
    /// stands for itself too.
    pub(crate) async fn expand(&self, transaction: &mut Transaction, named: Vec<Recipient>) -> Result<Vec<Owned>, Reply> {
        self.expand_noting(transaction, named).await.map(|(out, _)| out)
    }

    /// The same, and the aliases for several of whose success the sender wants to hear.
    async fn expand_noting(
        &self,
        transaction: &mut Transaction,
        named: Vec<Recipient>,
    ) -> Result<(Vec<Owned>, Vec<Recipient>), Reply> {
        let first = named.into_iter().map(|recipient| self.with_domain(recipient)).collect::<Result<Vec<_>, _>>()?;
        if !transaction.chain.has(Hook::OnResolve) {
            return Ok((first.into_iter().map(|recipient| (recipient, None)).collect(), Vec::new()));
        }
        // Aliases may add to what the client named, which has a limit of its own.
        let recipients_max = first.len() + self.parts.settings.expansion_recipients_max;
        let step = |recipient| Step { recipient, depth: 0, owner: None };
        let mut line: VecDeque<Step> = first.into_iter().map(step).collect();
        let mut expanded: HashSet<String> = HashSet::new();
        let mut done: HashSet<String> = HashSet::new();
        let mut out: Vec<Owned> = Vec::with_capacity(line.len());
        let mut aliases = Vec::new();
        while let Some(mut step) = line.pop_front() {
            let key = step.recipient.address.lookup_key();
            let expansion = match expanded.contains(&key) {
                true => None,
                false => self.resolve(transaction, &step).await?,
            };
            match expansion {
                Some(expansion) => {
                    expanded.insert(key);
                    let notify = of_members(step.recipient.notify);
                    if expansion.targets.len() > 1 && notify != step.recipient.notify {
                        aliases.push(step.recipient.clone());
                        step.recipient.notify = notify;
                    }
                    self.queue_targets(&step, expansion, &mut line, recipients_max - out.len().min(recipients_max))?;
                }
                None if done.insert(key) => out.push((step.recipient, step.owner)),
                None => {}
            }
        }
        Ok((out, aliases))
    }

    async fn resolve(&self, transaction: &mut Transaction, step: &Step) -> Result<Option<Expansion>, Reply> {
        let Transaction { chain, context, .. } = transaction;
        match self.parts.pipeline.resolve(chain, context, &step.recipient.address, false).await {
            // An unknown one was let through at RCPT or named by an alias: the transport says what becomes of it.
            Resolved::NotMine | Resolved::Unknown => Ok(None),
            Resolved::Targets(expansion) => Ok(Some(expansion)),
            Resolved::Failed(reply) => Err(reply),
        }
    }

    /// A recipient that a plugin added may be bare.
    fn with_domain(&self, recipient: Recipient) -> Result<Recipient, Reply> {
        if !recipient.address.is_bare() {
            return Ok(recipient);
        }
        let address = recipient.address.with_domain(&self.parts.settings.myorigin).map_err(|_| replies::BAD_ADDRESS)?;
        Ok(Recipient { address, ..recipient })
    }

    fn queue_targets(&self, from: &Step, expansion: Expansion, line: &mut VecDeque<Step>, room: usize) -> Result<(), Reply> {
        let settings = &self.parts.settings;
        if from.depth >= settings.expansion_depth_max {
            return Err(replies::ALIAS_LOOP);
        }
        if line.len() + expansion.targets.len() > room {
            return Err(replies::TOO_MANY_TARGETS);
        }
        let owner = expansion.sender.map(ReversePath::Of).or_else(|| from.owner.clone());
        let original = from.recipient.original.clone().unwrap_or_else(|| format!("rfc822;{}", from.recipient.address));
        for target in expansion.targets {
            let address = match target {
                Target::Address(address) => address,
                Target::Command(_) | Target::File(_) => return Err(replies::NO_SUCH_TARGET),
            };
            let recipient = Recipient { address, original: Some(original.clone()), notify: from.recipient.notify };
            let recipient = self.with_domain(recipient)?;
            line.push_back(Step { recipient, depth: from.depth + 1, owner: owner.clone() });
        }
        Ok(())
    }
}

/// A list's owner becomes the sender where all recipients come from that list: a message has one sender.
fn apply_owner(transaction: &mut Transaction, out: &[Owned]) {
    let Some((_, Some(owner))) = out.first() else { return };
    let is_report = transaction.context.sender.as_deref() == Some(&ReversePath::Null);
    if !is_report && out.iter().all(|(_, o)| o.as_ref() == Some(owner)) {
        transaction.context.sender = Some(std::sync::Arc::new(owner.clone()));
    }
}
