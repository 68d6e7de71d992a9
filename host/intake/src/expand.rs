//! Alias expansion: from envelope recipients to final recipients.

use std::collections::{HashSet, VecDeque};

use waxwing_pipeline::{Expansion, Hook, Resolved, Target};
use waxwing_types::{Recipient, Reply, ReversePath};

use crate::expanded::{Expanded, of_members};
use crate::transaction::Transaction;
use crate::{Intake, replies};

/// Recipient, and the owner of the list that contains the recipient.
pub(crate) type Owned = (Recipient, Option<ReversePath>);

/// Recipient in the worklist of the expansion.
struct Step {
    recipient: Recipient,
    /// Number of aliases between the envelope recipient and this recipient.
    depth: u32,
    /// Owner of the list that contains the recipient.
    owner: Option<ReversePath>,
}

impl Intake {
    /// Expands all envelope recipients and removes duplicates. If all final recipients come from a single list, the list owner becomes
    /// the envelope sender.
    pub(crate) async fn expand_all(&self, transaction: &mut Transaction) -> Result<Vec<Recipient>, Reply> {
        let recipients = transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect();
        let (out, aliases) = self.expand_noting(transaction, recipients).await?;
        transaction.expanded = Expanded { sender: transaction.context.sender.clone(), aliases };
        apply_owner(transaction, &out);
        Ok(out.into_iter().map(|(recipient, _)| recipient).collect())
    }

    /// Expands the given recipients and removes duplicates; each result carries the owner of the containing list. An alias that names its
    /// own address also delivers to this address.
    pub(crate) async fn expand(&self, transaction: &mut Transaction, recipients: Vec<Recipient>) -> Result<Vec<Owned>, Reply> {
        self.expand_noting(transaction, recipients).await.map(|(out, _)| out)
    }

    /// Expands recipients like [`Intake::expand`], and also returns multi-member aliases for which the sender requested success DSNs.
    async fn expand_noting(
        &self,
        transaction: &mut Transaction,
        recipients: Vec<Recipient>,
    ) -> Result<(Vec<Owned>, Vec<Recipient>), Reply> {
        let first = recipients.into_iter().map(|recipient| self.with_domain(recipient)).collect::<Result<Vec<_>, _>>()?;
        if !transaction.chain.has(Hook::OnResolve) {
            return Ok((first.into_iter().map(|recipient| (recipient, None)).collect(), Vec::new()));
        }
        // Alias expansion has a separate limit, on top of the number of recipients named by the client.
        let recipients_max = first.len() + self.parts.settings.expansion_recipients_max;
        let item = |recipient| Step { recipient, depth: 0, owner: None };
        let mut worklist: VecDeque<Step> = first.into_iter().map(item).collect();
        let mut expanded: HashSet<String> = HashSet::new();
        let mut done: HashSet<String> = HashSet::new();
        let mut out: Vec<Owned> = Vec::with_capacity(worklist.len());
        let mut aliases = Vec::new();
        while let Some(mut item) = worklist.pop_front() {
            let key = item.recipient.address.lookup_key();
            let expansion = match expanded.contains(&key) {
                true => None,
                false => self.resolve(transaction, &item).await?,
            };
            match expansion {
                Some(expansion) => {
                    expanded.insert(key);
                    let notify = of_members(item.recipient.notify);
                    if expansion.targets.len() > 1 && notify != item.recipient.notify {
                        aliases.push(item.recipient.clone());
                        item.recipient.notify = notify;
                    }
                    self.queue_targets(&item, expansion, &mut worklist, recipients_max - out.len().min(recipients_max))?;
                }
                None if done.insert(key) => out.push((item.recipient, item.owner)),
                None => {}
            }
        }
        Ok((out, aliases))
    }

    async fn resolve(&self, transaction: &mut Transaction, item: &Step) -> Result<Option<Expansion>, Reply> {
        let Transaction { chain: hooks, context, .. } = transaction;
        match self.parts.pipeline.resolve(hooks, context, &item.recipient.address, false).await {
            // Unknown recipients were accepted at RCPT or named by an alias: the transport decides.
            Resolved::NotMine | Resolved::Unknown => Ok(None),
            Resolved::Targets(expansion) => Ok(Some(expansion)),
            Resolved::Failed(reply) => Err(reply),
        }
    }

    /// Completes a recipient without a domain, as added by a plugin.
    fn with_domain(&self, recipient: Recipient) -> Result<Recipient, Reply> {
        if !recipient.address.is_bare() {
            return Ok(recipient);
        }
        let address = recipient.address.with_domain(&self.parts.settings.myorigin).map_err(|_| replies::BAD_ADDRESS)?;
        Ok(Recipient { address, ..recipient })
    }

    fn queue_targets(
        &self,
        from: &Step,
        expansion: Expansion,
        worklist: &mut VecDeque<Step>,
        remaining: usize,
    ) -> Result<(), Reply> {
        let settings = &self.parts.settings;
        if from.depth >= settings.expansion_depth_max {
            return Err(replies::ALIAS_LOOP);
        }
        if worklist.len() + expansion.targets.len() > remaining {
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
            worklist.push_back(Step { recipient, depth: from.depth + 1, owner: owner.clone() });
        }
        Ok(())
    }
}

/// Sets the list owner as envelope sender if all recipients come from the same list: a message has a single sender.
fn apply_owner(transaction: &mut Transaction, out: &[Owned]) {
    let Some((_, Some(owner))) = out.first() else { return };
    let is_dsn = transaction.context.sender.as_deref() == Some(&ReversePath::Null);
    if !is_dsn && out.iter().all(|(_, o)| o.as_ref() == Some(owner)) {
        transaction.context.sender = Some(std::sync::Arc::new(owner.clone()));
    }
}
