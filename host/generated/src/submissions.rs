//! Messages submitted by plugins. Each passes the same hooks as received mail.

use waxwing_pipeline::{PreparedMessage, SUBMISSIONS_MAX, Submission, Submit, SubmitError};
use waxwing_types::{Clock, QueueId, Tags};

/// Message or session under which a plugin submitted mail.
#[derive(Clone, Copy, Debug)]
pub struct SubmissionCause<'a> {
    /// Queue id of the message; none outside a transaction.
    pub id: Option<QueueId>,
    /// Tags of the message, with the plugins whose submissions led to the message.
    pub tags: &'a Tags,
}

/// Failure of a submission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmissionError {
    /// The limit on submissions of one commit is exceeded.
    #[error("more than {SUBMISSIONS_MAX} submissions {scope}")]
    TooMany {
        /// Scope of the limit, for the log.
        scope: &'static str,
    },
    /// Refused, discarded or failed before or in the hooks.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<SubmissionError> for SubmitError {
    fn from(error: SubmissionError) -> Self {
        match error {
            SubmissionError::TooMany { .. } => Self::Refused(error.to_string()),
            SubmissionError::Submit(error) => error,
        }
    }
}

/// Runs the hooks on one submission.
pub async fn prepare_submission(
    submit: &dyn Submit,
    clock: &dyn Clock,
    cause: SubmissionCause<'_>,
    submission: &Submission,
) -> Result<PreparedMessage, SubmitError> {
    submit.prepare(submission.to_internal_message(cause.tags, cause.id, clock.now())?).await
}

/// Submissions for one commit, prepared one after the other. The consequences of a failure are decided by the caller.
pub struct SubmissionBatch<'a> {
    /// Runs the hooks.
    pub submit: &'a dyn Submit,
    /// Clock for the time of reception.
    pub clock: &'a dyn Clock,
    /// Message under which the plugins submitted the mail.
    pub cause: SubmissionCause<'a>,
    /// Scope of the limit on submissions, for the log: behind "more than 100 submissions".
    pub scope: &'static str,
}

impl SubmissionBatch<'_> {
    /// Runs the hooks on the submission with the given position in the batch; refuses positions over the limit.
    pub async fn prepare(&self, position: usize, submission: &Submission) -> Result<PreparedMessage, SubmissionError> {
        if position >= SUBMISSIONS_MAX {
            return Err(SubmissionError::TooMany { scope: self.scope });
        }
        Ok(prepare_submission(self.submit, self.clock, self.cause, submission).await?)
    }
}
