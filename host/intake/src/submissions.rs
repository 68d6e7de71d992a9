//! Messages submitted by plugins. Each submission passes the same hooks as received mail and is committed in the same batch as the
//! message under which a plugin submitted the mail.

use waxwing_generated::{SubmissionBatch, SubmissionCause, prepare_submission, store_prepared};
use waxwing_pipeline::{Context, PreparedMessage, Submission, SubmitError, TraceEntry};
use waxwing_spool::{NewMessage, SpoolError};

use crate::Intake;
use crate::transaction::MailTransaction;

impl Intake {
    /// Runs the hooks on all submissions of the transaction. A submission rejected or discarded by another plugin is dropped and logged.
    ///
    /// Errors: a temporary failure, because the message must not be committed without its submissions.
    pub(crate) async fn prepare_submissions(
        &self,
        transaction: &mut MailTransaction,
    ) -> Result<Vec<PreparedMessage>, SubmitError> {
        let submissions = std::mem::take(&mut transaction.context.submissions);
        let mut prepared = Vec::with_capacity(submissions.len());
        let batch = SubmissionBatch {
            submit: self,
            clock: &*self.services.clock,
            cause: cause_of(&transaction.context),
            scope: "for a message",
        };
        for (position, submission) in submissions.iter().enumerate() {
            match batch.prepare(position, submission).await.map_err(SubmitError::from) {
                Ok(one) => prepared.push(one),
                Err(error @ SubmitError::Temporary(_)) => return Err(error),
                Err(error) => {
                    let (id, author) = (submission.id, &submission.submitter);
                    tracing::warn!(target: "intake", "{}: submission {id} of plugin {author} dropped: {error}", transaction.id);
                    let entry =
                        TraceEntry::server_step(self.services.clock.now(), "intake", "submit", id.to_string(), error.to_string());
                    entry.append_to(&mut transaction.hooks.trace);
                }
            }
        }
        Ok(prepared)
    }

    /// Converts prepared messages to the form expected by the spool.
    pub(crate) async fn build_new_messages(&self, prepared: Vec<PreparedMessage>) -> Result<Vec<NewMessage>, SpoolError> {
        let mut messages = Vec::with_capacity(prepared.len());
        for one in prepared {
            messages.push(store_prepared(&*self.services.spool, one).await?);
        }
        Ok(messages)
    }

    /// Enqueues the submissions made outside any transaction, each in a separate commit.
    pub async fn enqueue_submissions(&self, context: &mut Context) {
        let submissions = std::mem::take(&mut context.submissions);
        for submission in submissions.iter() {
            if let Err(error) = self.enqueue_one(context, submission).await {
                tracing::warn!(target: "intake", "{}: submission of plugin {} lost: {error}", submission.id, submission.submitter);
            }
        }
    }

    async fn enqueue_one(&self, context: &Context, submission: &Submission) -> Result<(), SubmitError> {
        let prepared = prepare_submission(self, &*self.services.clock, cause_of(context), submission).await?;
        let failed = |error: SpoolError| SubmitError::Temporary(error.to_string());
        for message in self.build_new_messages(vec![prepared]).await.map_err(failed)? {
            self.services.spool.enqueue(message).await.map_err(failed)?;
        }
        Ok(())
    }
}

fn cause_of(context: &Context) -> SubmissionCause<'_> {
    SubmissionCause { id: context.id, tags: &context.tags }
}
