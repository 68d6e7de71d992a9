//! DSN with action "expanded", sent when the sender requested success DSNs and an alias has several members (RFC 3461 §5.2.7).

use waxwing_generated::{prepare_dsn, run_on_dsn};
use waxwing_message::{DsnAction, DsnBuilder, DsnRecipient};
use waxwing_pipeline::{PreparedMessage, SubmitError};
use waxwing_types::{DsnReturn, EnhancedCode, ReversePath, Status};

use crate::Intake;
use crate::expanded_aliases::ExpandedAliases;
use crate::transaction::MailTransaction;

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
        let builder = DsnBuilder {
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
        };
        let result = prepare_dsn(self, &builder, options.require_tls, &transaction.context.tags).await;
        let prepared = match result {
            Ok(prepared) => run_on_dsn(&services.pipeline, prepared, "success").await.dsn,
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
}
