//! Messages submitted by plugins. Each submission passes the same hooks as received mail and is committed in the same batch as the
//! message under which a plugin submitted the mail.

use waxwing_pipeline::{Context, PreparedMessage, SUBMISSIONS_MAX, Submission, Submit, SubmitError, TraceEntry};
use waxwing_spool::{NewMessage, SpoolError};
use waxwing_types::Reply;

use crate::transaction::MailTransaction;
use crate::{Intake, replies};

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
        for (number, submission) in submissions.iter().enumerate() {
            let result = match number < SUBMISSIONS_MAX {
                true => self.prepare_one(&transaction.context, submission).await,
                false => Err(SubmitError::Refused(format!("more than {SUBMISSIONS_MAX} submissions for a message"))),
            };
            match result {
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

    async fn prepare_one(&self, cause: &Context, submission: &Submission) -> Result<PreparedMessage, SubmitError> {
        let mail = submission.to_internal_message(&cause.tags, cause.id, self.services.clock.now())?;
        self.prepare(mail).await
    }

    /// Converts prepared messages to the form expected by the spool.
    pub(crate) async fn build_new_messages(&self, prepared: Vec<PreparedMessage>) -> Result<Vec<NewMessage>, SpoolError> {
        let mut messages = Vec::with_capacity(prepared.len());
        for one in prepared {
            messages.push(waxwing_spool::store_prepared(&*self.services.spool, one).await?);
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
        let prepared = self.prepare_one(context, submission).await?;
        let failed = |error: SpoolError| SubmitError::Temporary(error.to_string());
        for message in self.build_new_messages(vec![prepared]).await.map_err(failed)? {
            self.services.spool.enqueue(message).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Reply to the client when a submission fails temporarily.
pub(crate) fn reply_for_submit_error(error: &SubmitError) -> Reply {
    tracing::warn!(target: "intake", "submission failed temporarily, message deferred: {error}");
    replies::SUBMISSION_UNAVAILABLE
}
