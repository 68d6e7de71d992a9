//! Mail that plugins send: it passes the hooks as any other, and is committed with what caused it.

use waxwing_pipeline::{Context, Prepared, SUBMISSIONS_MAX, Submission, Submit, SubmitError, TraceEntry};
use waxwing_queue::{NewMessage, SpoolError};
use waxwing_types::Reply;

use crate::transaction::Transaction;
use crate::{Intake, replies};

impl Intake {
    /// What plugins sent with this message, after all hooks. What other plugins refuse or throw away is left out; what can't be taken now
    /// is an error, since the message can't be committed without it.
    pub(crate) async fn along(&self, transaction: &mut Transaction) -> Result<Vec<Prepared>, SubmitError> {
        let submissions = std::mem::take(&mut transaction.context.submissions);
        let mut prepared = Vec::with_capacity(submissions.len());
        for (number, submission) in submissions.iter().enumerate() {
            let made = match number < SUBMISSIONS_MAX {
                true => self.one_along(&transaction.context, submission).await,
                false => Err(SubmitError::Refused(format!("{SUBMISSIONS_MAX} messages come along with this one"))),
            };
            match made {
                Ok(one) => prepared.push(one),
                Err(error @ SubmitError::Temporary(_)) => return Err(error),
                Err(error) => {
                    let (id, author) = (submission.id, &submission.author);
                    tracing::warn!(target: "intake", "{}: {id}, which {author} sends, is left out: {error}", transaction.id);
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

    /// The messages as the spool takes them.
    pub(crate) async fn spooled(&self, prepared: Vec<Prepared>) -> Result<Vec<NewMessage>, SpoolError> {
        let mut messages = Vec::with_capacity(prepared.len());
        for one in prepared {
            messages.push(NewMessage::of(&*self.parts.spool, one).await?);
        }
        Ok(messages)
    }

    /// Commits what plugins sent outside any transaction, each for itself.
    pub async fn send(&self, context: &mut Context) {
        let submissions = std::mem::take(&mut context.submissions);
        for submission in submissions.iter() {
            if let Err(error) = self.send_one(context, submission).await {
                tracing::warn!(target: "intake", "{}, which {} sends, is lost: {error}", submission.id, submission.author);
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

/// What the client hears when the mail that comes along can't be taken now.
pub(crate) fn reply_of(error: &SubmitError) -> Reply {
    tracing::warn!(target: "intake", "what is to come along can't be taken: {error}");
    replies::NOT_ALONG
}
