//! DSN with action "expanded", sent when the sender requested success DSNs and an alias has several members (RFC 3461 §5.2.7).

use std::sync::Arc;

use waxwing_message::{DsnAction, DsnBuilder, DsnRecipient};
use waxwing_pipeline::{Context, Hook, InternalMessage, PreparedMessage, SUBMITTED_BY_TAG, Submit, SubmitError};
use waxwing_types::{DsnReturn, EnhancedCode, MemoryBody, Notify, Recipient, ReversePath, Source, Status};

use crate::Intake;
use crate::transaction::MailTransaction;

/// Aliases whose expansion must be reported to the sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpandedAliases {
    /// Recipient of the DSN: the envelope sender before replacement by a list owner.
    pub(crate) sender: Option<Arc<ReversePath>>,
    /// Aliases with several members.
    pub(crate) aliases: Vec<Recipient>,
}

/// NOTIFY value for the members of an alias: the expanded DSN replaces the success DSNs of members.
pub(crate) fn notify_for_members(notify: Notify) -> Notify {
    match notify {
        Notify::On { success: true, failure: false, delay: false } => Notify::Never,
        Notify::On { success: true, failure, delay } => Notify::On { success: false, failure, delay },
        Notify::On { success: false, .. } | Notify::Default | Notify::Never => notify,
    }
}

impl Intake {
    /// Prepares the expanded DSN to be committed with the message, if requested.
    ///
    /// Errors: a temporary failure, because the message must not be committed without the DSN.
    pub(crate) async fn prepare_expanded_dsn(
        &self,
        transaction: &mut MailTransaction,
    ) -> Result<Option<PreparedMessage>, SubmitError> {
        let ExpandedAliases { sender, aliases } = std::mem::take(&mut transaction.expanded_aliases);
        let Some(ReversePath::Address(sender)) = sender.as_deref().filter(|_| !aliases.is_empty()) else { return Ok(None) };
        let (services, now) = (&self.services, self.services.clock.now());
        let status = Status::local(EnhancedCode::new(2, 0, 0), "the alias was expanded");
        let reported = |recipient| DsnRecipient { recipient, action: DsnAction::Expanded, status: &status, last_attempt: now };
        let recipients: Vec<DsnRecipient<'_>> = aliases.iter().map(reported).collect();
        let id = services.spool.next_queue_id(now);
        let options = &transaction.options;
        let head = transaction.context.header.as_ref().map(|head| head.to_bytes(true)).unwrap_or_default();
        let dsn = DsnBuilder {
            reporting_mta: &services.settings.myhostname,
            recipient: sender,
            dsn_queue_id: id,
            created_at: now,
            original_queue_id: transaction.id,
            arrived_at: transaction.origin.received_at,
            envid: options.envid.as_deref(),
            recipients: &recipients,
            // RFC 3461 §4.3: only failure DSNs return the full message.
            ret: Some(DsnReturn::Headers),
            smtputf8: options.smtputf8,
            header: &head,
            body: None,
        }
        .build();
        let envelope = dsn.envelope(sender.clone(), options.require_tls, now);
        let authors =
            transaction.context.tags.get(SUBMITTED_BY_TAG).map(|authors| (SUBMITTED_BY_TAG.to_owned(), authors.clone()));
        let (cause, tags) = (Some(transaction.id), authors.into_iter().collect());
        let result = self.prepare(InternalMessage { id, envelope, content: dsn.content, cause, tags }).await;
        let prepared = match result {
            Ok(prepared) => self.run_on_dsn(prepared).await,
            Err(error @ SubmitError::Temporary(_)) => return Err(error),
            Err(SubmitError::Refused(why) | SubmitError::Discarded(why)) => {
                tracing::error!(target: "intake", "{}: expanded DSN not sent: {why}", transaction.id);
                None
            }
        };
        if prepared.is_some() {
            tracing::info!(target: "intake", "{}: sender delivery status notification: {id}", transaction.id);
        }
        Ok(prepared)
    }

    /// Runs `on-dsn` on the DSN; `None` if a plugin suppresses the DSN.
    async fn run_on_dsn(&self, mut prepared: PreparedMessage) -> Option<PreparedMessage> {
        let pipeline = &self.services.pipeline;
        let mut hooks = pipeline.open_session();
        if !hooks.has_hook(Hook::OnDsn) {
            return Some(prepared);
        }
        let mut context = Context::new(Source::Dsn, None);
        context.id = Some(prepared.id);
        context.sender = Some(Arc::new(prepared.envelope.sender.clone()));
        context.tags = Arc::new(prepared.tags.clone());
        let (head, _) = crate::submit::split_message(prepared.header.clone());
        let before = Arc::new(head);
        context.header = Some(Arc::clone(&before));
        context.body = Some(Arc::new(MemoryBody::new(prepared.body.clone())));
        for recipient in &prepared.envelope.recipients {
            let class = pipeline.class_of(&recipient.address);
            context.push_recipient(recipient.clone(), class, Vec::new());
        }
        let is_sent = pipeline.should_send_dsn(&mut hooks, &mut context, "success").await;
        if let Some(after) = context.header.filter(|after| !Arc::ptr_eq(&before, after)) {
            prepared.header = after.to_bytes(prepared.body.is_empty());
        }
        is_sent.then_some(prepared)
    }
}
