//! The report "expanded": the sender asked to hear of success, and an alias stands for several (RFC 3461 §5.2.7).

use std::sync::Arc;

use waxwing_message::{Action, Report, Reported};
use waxwing_pipeline::{AUTHORS_TAG, Context, Generated, Hook, Prepared, Submit, SubmitError};
use waxwing_types::{EnhancedCode, MemoryBody, Notify, Recipient, Return, ReversePath, Status, Via};

use crate::Intake;
use crate::transaction::Transaction;

/// Who asked for success and is answered for by the expansion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expanded {
    /// To whom the report goes: the sender before a list's owner took his place.
    pub(crate) sender: Option<Arc<ReversePath>>,
    /// The aliases.
    pub(crate) aliases: Vec<Recipient>,
}

/// The sender hears that the alias was expanded, so its members tell no success.
pub(crate) fn of_members(notify: Notify) -> Notify {
    match notify {
        Notify::On { success: true, failure: false, delay: false } => Notify::Never,
        Notify::On { success: true, failure, delay } => Notify::On { success: false, failure, delay },
        Notify::On { success: false, .. } | Notify::Default | Notify::Never => notify,
    }
}

impl Intake {
    /// The report for the commit of the message, if there is to be one. What can't be taken now is an error: the message can't be committed
    /// without it.
    pub(crate) async fn report_expanded(&self, transaction: &mut Transaction) -> Result<Option<Prepared>, SubmitError> {
        let Expanded { sender, aliases } = std::mem::take(&mut transaction.expanded);
        let Some(ReversePath::Of(sender)) = sender.as_deref().filter(|_| !aliases.is_empty()) else { return Ok(None) };
        let (parts, now) = (&self.parts, self.parts.clock.now());
        let status = Status::local(EnhancedCode::new(2, 0, 0), "the alias was expanded");
        let reported = |recipient| Reported { recipient, action: Action::Expanded, status: &status, last_attempt: now };
        let recipients: Vec<Reported<'_>> = aliases.iter().map(reported).collect();
        let id = parts.spool.ids().next(now);
        let options = &transaction.options;
        let head = transaction.context.head.as_ref().map(|head| head.to_bytes(true)).unwrap_or_default();
        let dsn = Report {
            reporting_mta: &parts.settings.myhostname,
            to: sender,
            id,
            at: now,
            about: transaction.id,
            arrived: transaction.origin.received_at,
            envid: options.envid.as_deref(),
            recipients: &recipients,
            // RFC 3461 §4.3: only failures return the whole message.
            ret: Some(Return::Headers),
            smtputf8: options.smtputf8,
            head: &head,
            body: None,
        }
        .print();
        let envelope = dsn.envelope(sender.clone(), options.require_tls, now);
        let authors = transaction.context.tags.get(AUTHORS_TAG).map(|authors| (AUTHORS_TAG.to_owned(), authors.clone()));
        let (cause, tags) = (Some(transaction.id), authors.into_iter().collect());
        let made = self.prepare(Generated { id, envelope, content: dsn.content, cause, tags }).await;
        let prepared = match made {
            Ok(prepared) => self.last_look(prepared).await,
            Err(error @ SubmitError::Temporary(_)) => return Err(error),
            Err(SubmitError::Refused(why) | SubmitError::Discarded(why)) => {
                tracing::error!(target: "intake", "{}: no report is sent: {why}", transaction.id);
                None
            }
        };
        if prepared.is_some() {
            tracing::info!(target: "intake", "{}: sender delivery status notification: {id}", transaction.id);
        }
        Ok(prepared)
    }

    /// on-dsn: the report as it goes, or none.
    async fn last_look(&self, mut prepared: Prepared) -> Option<Prepared> {
        let pipeline = &self.parts.pipeline;
        let mut chain = pipeline.chain();
        if !chain.has(Hook::OnDsn) {
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
        let goes = pipeline.report(&mut chain, &mut context, "success").await;
        if let Some(after) = context.head.filter(|after| !Arc::ptr_eq(&before, after)) {
            prepared.head = after.to_bytes(prepared.body.is_empty());
        }
        goes.then_some(prepared)
    }
}
