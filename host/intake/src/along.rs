//! Messages submitted by plugins. Each submission passes the same hooks as received mail and is committed in the same batch as the
//! message under which a plugin submitted the mail.

use waxwing_pipeline::{Context, Prepared, SUBMISSIONS_MAX, Submission, Submit, SubmitError, TraceEntry};
use waxwing_queue::{NewMessage, SpoolError};
use waxwing_types::Reply;

use crate::transaction::Transaction;
use crate::{Intake, replies};

impl Intake {
    /// Runs the hooks on all submissions of the transaction. A submission rejected or discarded by another plugin is dropped and logged.
    ///
    /// Errors: a temporary failure, because the message must not be committed without its submissions.
    pub(crate) async fn along(&self, transaction: &mut Transaction) -> Result<Vec<Prepared>, SubmitError> {
        let submissions = std::mem::take(&mut transaction.context.submissions);
        let mut prepared = Vec::with_capacity(submissions.len());
        for (number, submission) in submissions.iter().enumerate() {
            let result = match number < SUBMISSIONS_MAX {
                true => self.one_along(&transaction.context, submission).await,
                false => Err(SubmitError::Refused(format!("more than {SUBMISSIONS_MAX} submissions for a message"))),
            };
            match result {
                Ok(one) => prepared.push(one),
                Err(error @ SubmitError::Temporary(_)) => return Err(error),
                Err(error) => {
                    let (id, author) = (submission.id, &submission.author);
                    tracing::warn!(target: "intake", "{}: submission {id} of plugin {author} dropped: {error}", transaction.id);
                    let entry = TraceEntry::step(self.parts.clock.now(), "intake", "submit", id.to_string(), error.to_string());
                    entry.keep(&mut transaction.chain.trace);
                }
            }
        }
        Ok(prepared)
    }

    async fn one_along(&self, cause: &Context, submission: &Submission) -> Result<Prepared, SubmitError> {
        let mail = submission.generated(&cause.tags, cause.id, self.parts.clock.now())?;
        self.prepare(mail).await
    }

    /// Converts prepared messages to the form expected by the spool.
    pub(crate) async fn spooled(&self, prepared: Vec<Prepared>) -> Result<Vec<NewMessage>, SpoolError> {
        let mut messages = Vec::with_capacity(prepared.len());
        for one in prepared {
            messages.push(NewMessage::of(&*self.parts.spool, one).await?);
        }
        Ok(messages)
    }

    /// Enqueues the submissions made outside any transaction, each in a separate commit.
    pub async fn send(&self, context: &mut Context) {
        let submissions = std::mem::take(&mut context.submissions);
        for submission in submissions.iter() {
            if let Err(error) = self.send_one(context, submission).await {
                tracing::warn!(target: "intake", "{}: submission of plugin {} lost: {error}", submission.id, submission.author);
            }
        }
    }

    async fn send_one(&self, context: &Context, submission: &Submission) -> Result<(), SubmitError> {
        let prepared = self.one_along(context, submission).await?;
        let failed = |error: SpoolError| SubmitError::Temporary(error.to_string());
        for message in self.spooled(vec![prepared]).await.map_err(failed)? {
            self.parts.spool.enqueue(message).await.map_err(failed)?;
        }
        Ok(())
    }
}

/// Reply to the client when a submission fails temporarily.
pub(crate) fn reply_of(error: &SubmitError) -> Reply {
    tracing::warn!(target: "intake", "submission failed temporarily, message deferred: {error}");
    replies::NOT_ALONG
}
