//! Internally generated mail: passes the same hooks as received mail.

use std::sync::Arc;

use async_trait::async_trait;
use waxwing_message::HeaderBlock;
use waxwing_message::trace_fields::received;
use waxwing_pipeline::{Context, InternalMessage, Placement, PreparedMessage, Rejected, Submit, SubmitError};
use waxwing_smtp::server::MailOptions;
use waxwing_types::{MemoryBody, Recipient, ReversePath, Source, Verdict};

use crate::Intake;
use crate::transaction::MailTransaction;

type PreparedParts = (Vec<Recipient>, Placement, Vec<PreparedMessage>);

#[async_trait]
impl Submit for Intake {
    async fn prepare(&self, mail: InternalMessage) -> Result<PreparedMessage, SubmitError> {
        let InternalMessage { id, envelope, content, cause, tags } = mail;
        let (mut head, body) = HeaderBlock::split(content);
        head.prepend(received(&self.services.settings.myhostname, id, &envelope, None));
        let is_dsn = envelope.origin.source == Source::Dsn;
        let mut context = Context::new(envelope.origin.source, None);
        context.id = Some(id);
        context.tags = Arc::new(tags);
        context.sender = Some(Arc::new(envelope.sender.clone()));
        for recipient in &envelope.recipients {
            let class = self.services.pipeline.class_of(&recipient.address);
            context.push_recipient(recipient.clone(), class, Vec::new());
        }
        context.header = Some(Arc::new(head));
        context.body = Some(Arc::new(MemoryBody::new(body.clone())));
        let hooks = self.services.pipeline.open_session();
        let reservation = self.services.spool.reserve_space(0).map_err(|e| SubmitError::Temporary(e.to_string()))?;
        let options = MailOptions {
            body: envelope.body_type,
            smtputf8: envelope.smtputf8,
            require_tls: envelope.require_tls,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            ..MailOptions::default()
        };
        let mut transaction = MailTransaction::new(id, context, hooks, options, envelope.origin.clone(), reservation);
        let verdict = self.run_content_hooks(&mut transaction).await;
        let outcome = self.finish_preparation(&mut transaction, verdict, is_dsn).await;
        let now = self.services.clock.now();
        let result = match (&outcome, cause) {
            (Ok(_), Some(cause)) => format!("prepared for the queue, caused by {cause}"),
            (Ok(_), None) => "prepared for the queue".to_owned(),
            (Err(error), _) => error.to_string(),
        };
        transaction.record_trace(self, result, now);
        let (recipients, placement, submissions) = outcome?;
        let body = transaction.context.replaced_body.clone().unwrap_or(body);
        let header = transaction.context.header.as_ref().map(|h| h.to_bytes(body.is_empty())).unwrap_or_default();
        Ok(PreparedMessage {
            id,
            envelope: transaction.envelope(recipients),
            header,
            body,
            tags: transaction.context.tags.as_ref().clone(),
            placement,
            attached: submissions,
        })
    }
}

impl Intake {
    /// Determines recipients, enqueue options and submissions of an internal message.
    async fn finish_preparation(
        &self,
        transaction: &mut MailTransaction,
        verdict: Verdict,
        is_dsn: bool,
    ) -> Result<PreparedParts, SubmitError> {
        let recipients = self.recipients_for_verdict(transaction, verdict, is_dsn).await?;
        let placement = match self.enqueue_options(transaction).await {
            Ok(placement) => placement,
            Err(_) if is_dsn => Placement { hold: transaction.context.hold.clone(), ..Placement::default() },
            Err(Rejected(verdict)) => return Err(SubmitError::Temporary(format!("a plugin failed: {}", verdict.as_str()))),
        };
        Ok((recipients, placement, self.prepare_submissions(transaction).await?))
    }

    /// Applies a verdict and expands aliases. A DSN can be edited and held, but never refused.
    async fn recipients_for_verdict(
        &self,
        transaction: &mut MailTransaction,
        verdict: Verdict,
        is_dsn: bool,
    ) -> Result<Vec<Recipient>, SubmitError> {
        match verdict {
            Verdict::Next | Verdict::Accept => {}
            Verdict::Hold { reason } => {
                transaction.context.hold.get_or_insert(reason);
            }
            Verdict::Reject(_) | Verdict::Defer(_) | Verdict::Disconnect(_) | Verdict::Discard { .. } if is_dsn => {
                tracing::warn!(target: "intake", "{}: plugin verdict refuses a DSN: ignored, DSN sent", transaction.id);
            }
            Verdict::Reject(reply) => return Err(SubmitError::Refused(reply.to_string())),
            Verdict::Defer(reply) | Verdict::Disconnect(reply) => return Err(SubmitError::Temporary(reply.to_string())),
            Verdict::Discard { reason } => return Err(SubmitError::Discarded(reason)),
        }
        if is_dsn {
            // A DSN keeps the null sender despite plugin changes: otherwise two servers could exchange DSNs without end.
            transaction.context.sender = Some(Arc::new(ReversePath::Null));
        }
        match self.expand_all(transaction).await {
            Ok(recipients) if !recipients.is_empty() => Ok(recipients),
            // A DSN without recipients after expansion goes to the original recipient; a failed delivery then ends the exchange.
            Ok(_) | Err(_) if is_dsn => Ok(transaction.context.recipients.iter().map(|r| r.recipient.clone()).collect()),
            Ok(_) => Err(SubmitError::Discarded("no recipients left".to_owned())),
            Err(reply) => Err(SubmitError::Temporary(reply.to_string())),
        }
    }
}
