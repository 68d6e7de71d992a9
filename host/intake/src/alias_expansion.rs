//! Alias expansion: from envelope recipients to final recipients.

use std::collections::{HashSet, VecDeque};

use waxwing_pipeline::{Expansion, ExpansionTarget, Hook, ResolvedRecipient};
use waxwing_types::{Recipient, Reply, ReversePath};

use crate::expanded_aliases::{ExpandedAliases, ExpandedRecipient, notify_for_members};
use crate::transaction::MailTransaction;
use crate::{Intake, replies};

/// Recipient in the worklist of the expansion.
struct AliasItem {
    recipient: Recipient,
    /// Number of aliases between the envelope recipient and this recipient.
    depth: u32,
    /// Owner of the list that contains the recipient.
    owner: Option<ReversePath>,
}

impl Intake {
    /// Expands all envelope recipients and removes duplicates. If all final recipients come from a single list, the list owner becomes
    /// the envelope sender.
    pub(crate) async fn expand_all(&self, transaction: &mut MailTransaction) -> Result<Vec<Recipient>, Reply> {
        let recipients = transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect();
        let (out, aliases) = self.expand_with_aliases(transaction, recipients).await?;
        transaction.expanded_aliases = ExpandedAliases { sender: transaction.context.sender.clone(), aliases };
        apply_owner(transaction, &out);
        Ok(out.into_iter().map(|(recipient, _)| recipient).collect())
    }

    /// Expands the given recipients and removes duplicates; each result carries the owner of the containing list. An alias that names its
    /// own address also delivers to this address.
    pub(crate) async fn expand(
        &self,
        transaction: &mut MailTransaction,
        recipients: Vec<Recipient>,
    ) -> Result<Vec<ExpandedRecipient>, Reply> {
        self.expand_with_aliases(transaction, recipients).await.map(|(out, _)| out)
    }

    /// Expands recipients like [`Intake::expand`], and also returns multi-member aliases for which the sender requested success DSNs.
    async fn expand_with_aliases(
        &self,
        transaction: &mut MailTransaction,
        recipients: Vec<Recipient>,
    ) -> Result<(Vec<ExpandedRecipient>, Vec<Recipient>), Reply> {
        let first = recipients.into_iter().map(|recipient| self.complete_domain(recipient)).collect::<Result<Vec<_>, _>>()?;
        if !transaction.hooks.has_hook(Hook::OnResolve) {
            return Ok((first.into_iter().map(|recipient| (recipient, None)).collect(), Vec::new()));
        }
        // Alias expansion has a separate limit, on top of the number of recipients named by the client.
        let recipients_max = first.len() + self.services.settings.expansion_recipients_max;
        let item = |recipient| AliasItem { recipient, depth: 0, owner: None };
        let mut worklist: VecDeque<AliasItem> = first.into_iter().map(item).collect();
        let mut expanded: HashSet<String> = HashSet::new();
        let mut done: HashSet<String> = HashSet::new();
        let mut out: Vec<ExpandedRecipient> = Vec::with_capacity(worklist.len());
        let mut aliases = Vec::new();
        while let Some(mut item) = worklist.pop_front() {
            let key = item.recipient.address.lookup_key();
            let expansion = match expanded.contains(&key) {
                true => None,
                false => self.resolve_alias(transaction, &item).await?,
            };
            match expansion {
                Some(expansion) => {
                    expanded.insert(key);
                    let notify = notify_for_members(item.recipient.notify);
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

    async fn resolve_alias(&self, transaction: &mut MailTransaction, item: &AliasItem) -> Result<Option<Expansion>, Reply> {
        let MailTransaction { hooks, context, .. } = transaction;
        match self.services.pipeline.resolve(hooks, context, &item.recipient.address, false).await {
            // Unknown recipients were accepted at RCPT or named by an alias: the transport decides.
            ResolvedRecipient::NotMine | ResolvedRecipient::Unknown => Ok(None),
            ResolvedRecipient::Targets(expansion) => Ok(Some(expansion)),
            ResolvedRecipient::Failed(reply) => Err(reply),
        }
    }

    /// Completes a recipient without a domain, as added by a plugin.
    fn complete_domain(&self, recipient: Recipient) -> Result<Recipient, Reply> {
        if !recipient.address.has_no_domain() {
            return Ok(recipient);
        }
        let address = recipient.address.with_domain(&self.services.settings.myorigin).map_err(|_| replies::BAD_ADDRESS)?;
        Ok(Recipient { address, ..recipient })
    }

    fn queue_targets(
        &self,
        from: &AliasItem,
        expansion: Expansion,
        worklist: &mut VecDeque<AliasItem>,
        remaining: usize,
    ) -> Result<(), Reply> {
        let settings = &self.services.settings;
        if from.depth >= settings.expansion_depth_max {
            return Err(replies::ALIAS_LOOP);
        }
        if worklist.len() + expansion.targets.len() > remaining {
            return Err(replies::TOO_MANY_ALIAS_TARGETS);
        }
        let owner = expansion.sender.map(ReversePath::Address).or_else(|| from.owner.clone());
        let original = from.recipient.original.clone().unwrap_or_else(|| format!("rfc822;{}", from.recipient.address));
        for target in expansion.targets {
            let address = match target {
                ExpansionTarget::Address(address) => address,
                ExpansionTarget::Command(_) | ExpansionTarget::File(_) => return Err(replies::UNSUPPORTED_ALIAS_TARGET),
            };
            let notify = from.recipient.notify;
            let recipient = Recipient { original: Some(original.clone()), notify, ..Recipient::new(address) };
            let recipient = self.complete_domain(recipient)?;
            worklist.push_back(AliasItem { recipient, depth: from.depth + 1, owner: owner.clone() });
        }
        Ok(())
    }
}

/// Sets the list owner as envelope sender if all recipients come from the same list: a message has a single sender.
fn apply_owner(transaction: &mut MailTransaction, out: &[ExpandedRecipient]) {
    let Some((_, Some(owner))) = out.first() else { return };
    let is_dsn = transaction.context.sender.as_deref() == Some(&ReversePath::Null);
    if !is_dsn && out.iter().all(|(_, o)| o.as_ref() == Some(owner)) {
        transaction.context.sender = Some(std::sync::Arc::new(owner.clone()));
    }
}
