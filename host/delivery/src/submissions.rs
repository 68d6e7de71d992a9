//! Submissions of plugins during delivery: committed with the settlement of the causing message.

use waxwing_pipeline::{PreparedMessage, SUBMISSIONS_MAX, SUBMITTED_BY_TAG, Submission, TraceEntry};
use waxwing_spool::{NewMessage, SpoolError};
use waxwing_types::{Message, Tags};

use crate::context::DeliveryContext;

/// Runs the intake hooks on submissions. Failed submissions are dropped: the settlement must not wait.
pub(crate) async fn prepare_all(
    core: &DeliveryContext,
    message: &Message,
    submissions: Vec<Submission>,
    trace: &mut Vec<TraceEntry>,
) -> Vec<NewMessage> {
    let mut prepared = Vec::with_capacity(submissions.len().min(SUBMISSIONS_MAX));
    for (number, submission) in submissions.into_iter().enumerate() {
        let (id, author) = (submission.id, submission.submitter.clone());
        let result = match number < SUBMISSIONS_MAX {
            true => prepare_one(core, message, submission).await,
            false => Err(format!("more than {SUBMISSIONS_MAX} submissions in one settlement")),
        };
        match result {
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

async fn prepare_one(core: &DeliveryContext, message: &Message, submission: Submission) -> Result<NewMessage, String> {
    let mail =
        submission.to_internal_message(&message.tags, Some(message.id), core.services.clock.now()).map_err(|e| e.to_string())?;
    let prepared = core.services.submit.prepare(mail).await.map_err(|error| error.to_string())?;
    into_new_message(core, prepared).await.map_err(|error| error.to_string())
}

/// Initial tags of generated mail: the ancestry, so that plugins do not see mail caused by their own submissions.
pub(crate) fn inherited_tags(message: &Message) -> Tags {
    message.tags.get(SUBMITTED_BY_TAG).map(|authors| (SUBMITTED_BY_TAG.to_owned(), authors.clone())).into_iter().collect()
}

/// Converts a prepared message, with attached submissions, for the spool.
pub(crate) async fn into_new_message(core: &DeliveryContext, prepared: PreparedMessage) -> Result<NewMessage, SpoolError> {
    waxwing_spool::store_prepared(&*core.services.spool, prepared).await
}
