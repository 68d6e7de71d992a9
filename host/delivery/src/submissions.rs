//! Submissions of plugins during delivery: committed with the settlement of the causing message.

use waxwing_generated::{SubmissionBatch, SubmissionCause, store_prepared};
use waxwing_pipeline::{SUBMISSIONS_MAX, Submission, TraceEntry};
use waxwing_spool::NewMessage;
use waxwing_types::Message;

use crate::context::DeliveryContext;

/// Runs the intake hooks on submissions. Failed submissions are dropped: the settlement must not wait.
pub(crate) async fn prepare_all(
    core: &DeliveryContext,
    message: &Message,
    submissions: Vec<Submission>,
    trace: &mut Vec<TraceEntry>,
) -> Vec<NewMessage> {
    let batch = SubmissionBatch {
        submit: &*core.services.submit,
        clock: &*core.services.clock,
        cause: SubmissionCause { id: Some(message.id), tags: &message.tags },
        scope: "in one settlement",
    };
    let mut prepared = Vec::with_capacity(submissions.len().min(SUBMISSIONS_MAX));
    for (position, submission) in submissions.iter().enumerate() {
        let (id, author) = (submission.id, &submission.submitter);
        match store_one(core, &batch, position, submission).await {
            Ok(new) => {
                tracing::info!(target: "delivery", "{}: plugin {author} submitted {id}", message.id);
                prepared.push(new);
            }
            Err(why) => {
                tracing::warn!(target: "delivery", "{}: submission {id} of plugin {author} dropped: {why}", message.id);
                let now = core.services.clock.now();
                TraceEntry::server_step(now, author.as_ref(), "submit", id.to_string(), format!("dropped: {why}"))
                    .append_to(trace);
            }
        }
    }
    prepared
}

async fn store_one(
    core: &DeliveryContext,
    batch: &SubmissionBatch<'_>,
    position: usize,
    submission: &Submission,
) -> Result<NewMessage, String> {
    let prepared = batch.prepare(position, submission).await.map_err(|error| error.to_string())?;
    store_prepared(&*core.services.spool, prepared).await.map_err(|error| error.to_string())
}
