//! Commit of a received message: the message, its submissions and DSNs in one batch.

use std::sync::Arc;

use waxwing_pipeline::{Placement, Rejected, SubmitError};
use waxwing_spool::{NewBody, NewMessage};
use waxwing_types::{Recipient, Reply, Verdict};

use crate::transaction::MailTransaction;
use crate::{Intake, replies};

impl Intake {
    /// Commits the message with all submissions and DSNs. On return without error the message is synced to disk.
    pub(crate) async fn commit(
        &self,
        transaction: &mut MailTransaction,
        recipients: Vec<Recipient>,
        body: NewBody,
    ) -> Result<(), Reply> {
        let Placement { hold, not_before, priority } = self.enqueue_options(transaction).await.map_err(reply_for_fault)?;
        let mut submissions = self.prepare_submissions(transaction).await.map_err(|error| reply_for_submit_error(&error))?;
        submissions.extend(self.prepare_expanded_dsn(transaction).await.map_err(|error| reply_for_submit_error(&error))?);
        let submissions = self.build_new_messages(submissions).await.map_err(|error| replies::reply_for_spool_error(&error))?;
        let context = &transaction.context;
        let body = match &context.replaced_body {
            Some(bytes) => waxwing_spool::store_body(&*self.services.spool, transaction.id, bytes.clone())
                .await
                .map_err(|e| replies::reply_for_spool_error(&e))?,
            None => body,
        };
        let head = context.header.as_ref().map(|h| h.to_bytes(body.size() == 0)).unwrap_or_default();
        let message = NewMessage {
            id: transaction.id,
            envelope: transaction.envelope(recipients),
            header: head,
            body,
            tags: Arc::unwrap_or_clone(Arc::clone(&context.tags)),
            hold,
            not_before,
            priority,
            attached: submissions,
        };
        self.services.spool.enqueue(message).await.map_err(|error| {
            tracing::error!(target: "intake", "{}: enqueue failed: {error}", transaction.id);
            replies::reply_for_spool_error(&error)
        })
    }

    /// Enqueue options set by plugins. A hold reason from any hook takes precedence.
    pub(crate) async fn enqueue_options(&self, transaction: &mut MailTransaction) -> Result<Placement, Rejected> {
        let MailTransaction { hooks, context, .. } = transaction;
        let mut placement = self.services.pipeline.enqueue_placement(hooks, context).await?;
        placement.hold = context.hold.clone().or(placement.hold);
        context.hold.clone_from(&placement.hold);
        Ok(placement)
    }
}

/// Reply to the client when a plugin fault before the commit rejects the message.
fn reply_for_fault(ended: Rejected) -> Reply {
    match ended.0 {
        Verdict::Reject(reply) | Verdict::Defer(reply) | Verdict::Disconnect(reply) => reply,
        Verdict::Next | Verdict::Accept | Verdict::Hold { .. } | Verdict::Discard { .. } => replies::INTERNAL_ERROR,
    }
}

/// Reply to the client when a submission fails temporarily.
fn reply_for_submit_error(error: &SubmitError) -> Reply {
    tracing::warn!(target: "intake", "submission failed temporarily, message deferred: {error}");
    replies::SUBMISSION_UNAVAILABLE
}
