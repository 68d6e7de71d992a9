//! DSN with action "expanded", sent when the sender requested success DSNs and an alias has several members (RFC 3461 §5.2.7).

use std::sync::Arc;

use waxwing_message::{Action, Report, Reported};
use waxwing_pipeline::{AUTHORS_TAG, Context, Generated, Hook, Prepared, Submit, SubmitError};
use waxwing_types::{EnhancedCode, MemoryBody, Notify, Recipient, Return, ReversePath, Status, Via};

use crate::Intake;
use crate::transaction::Transaction;

/// Aliases whose expansion must be reported to the sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expanded {
    /// Recipient of the DSN: the envelope sender before replacement by a list owner.
    pub(crate) sender: Option<Arc<ReversePath>>,
    /// Aliases with several members.
    pub(crate) aliases: Vec<Recipient>,
}

/// NOTIFY value for the members of an alias: the expanded DSN replaces the success DSNs of members.
pub(crate) fn of_members(notify: Notify) -> Notify {
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
    pub(crate) async fn report_expanded(&self, transaction: &mut Transaction) -> Result<Option<Prepared>, SubmitError> {
        let Expanded { sender, aliases } = std::mem::take(&mut transaction.expanded);
        let Some(ReversePath::Of(sender)) = sender.as_deref().filter(|_| !aliases.is_empty()) else { return Ok(None) };
        let (services, now) = (&self.parts, self.parts.clock.now());
        let status = Status::local(EnhancedCode::new(2, 0, 0), "the alias was expanded");
        let reported = |recipient| Reported { recipient, action: Action::Expanded, status: &status, last_attempt: now };
        let recipients: Vec<Reported<'_>> = aliases.iter().map(reported).collect();
        let id = services.spool.ids().next(now);
        let options = &transaction.options;
        let head = transaction.context.head.as_ref().map(|head| head.to_bytes(true)).unwrap_or_default();
        let dsn = Report {
            reporting_mta: &services.settings.myhostname,
            to: sender,
            id,
            at: now,
            about: transaction.id,
            arrived: transaction.origin.received_at,
            envid: options.envid.as_deref(),
            recipients: &recipients,
            // RFC 3461 §4.3: only failure DSNs return the full message.
            ret: Some(Return::Headers),
            smtputf8: options.smtputf8,
            head: &head,
            body: None,
        }
        .print();
        let envelope = dsn.envelope(sender.clone(), options.require_tls, now);
        let authors = transaction.context.tags.get(AUTHORS_TAG).map(|authors| (AUTHORS_TAG.to_owned(), authors.clone()));
        let (cause, tags) = (Some(transaction.id), authors.into_iter().collect());
        let result = self.prepare(Generated { id, envelope, content: dsn.content, cause, tags }).await;
        let prepared = match result {
            Ok(prepared) => self.last_look(prepared).await,
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
    async fn last_look(&self, mut prepared: Prepared) -> Option<Prepared> {
        let pipeline = &self.parts.pipeline;
        let mut hooks = pipeline.chain();
        if !hooks.has(Hook::OnDsn) {
            return Some(prepared);
        }
        let mut context = Context::new(Via::Dsn, None);
        context.id = Some(prepared.id);
        context.sender = Some(Arc::new(prepared.envelope.sender.clone()));
        context.tags = Arc::new(prepared.tags.clone());
        let (head, _) = crate::submit::split(prepared.head.clone());
        let before = Arc::new(head);
        context.head = Some(Arc::clone(&before));
        context.body = Some(Arc::new(MemoryBody::new(prepared.body.clone())));
        for recipient in &prepared.envelope.recipients {
            let class = pipeline.class_of(&recipient.address);
            context.push_recipient(recipient.clone(), class, Vec::new());
        }
        let is_sent = pipeline.report(&mut hooks, &mut context, "success").await;
        if let Some(after) = context.head.filter(|after| !Arc::ptr_eq(&before, after)) {
            prepared.head = after.to_bytes(prepared.body.is_empty());
        }
        is_sent.then_some(prepared)
    }
}
