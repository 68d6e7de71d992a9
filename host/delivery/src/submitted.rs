//! Submissions of plugins during delivery: committed with the settlement of the causing message.

use waxwing_pipeline::{AUTHORS_TAG, Prepared, SUBMISSIONS_MAX, Submission, TraceEntry};
use waxwing_queue::{NewMessage, SpoolError};
use waxwing_types::{Message, Tags};

use crate::manager::Core;

/// Runs the intake hooks on submissions. Failed submissions are dropped: the settlement must not wait.
pub(crate) async fn prepare(
    core: &Core,
    message: &Message,
    submissions: Vec<Submission>,
    trace: &mut Vec<TraceEntry>,
) -> Vec<NewMessage> {
    let mut prepared = Vec::with_capacity(submissions.len().min(SUBMISSIONS_MAX));
    for (number, submission) in submissions.into_iter().enumerate() {
        let (id, author) = (submission.id, submission.author.clone());
        let result = match number < SUBMISSIONS_MAX {
            true => one(core, message, submission).await,
            false => Err(format!("more than {SUBMISSIONS_MAX} submissions in one settlement")),
        };
        match result {
            Ok(new) => {
                tracing::info!(target: "delivery", "{}: plugin {author} submitted {id}", message.id);
                prepared.push(new);
            }
            Err(why) => {
                tracing::warn!(target: "delivery", "{}: submission {id} of plugin {author} dropped: {why}", message.id);
                let now = core.parts.clock.now();
                TraceEntry::step(now, author.as_ref(), "submit", id.to_string(), format!("dropped: {why}")).keep(trace);
            }
        }
    }
    prepared
}

async fn one(core: &Core, message: &Message, submission: Submission) -> Result<NewMessage, String> {
    let mail = submission.generated(&message.tags, Some(message.id), core.parts.clock.now()).map_err(|e| e.to_string())?;
    let prepared = core.parts.submit.prepare(mail).await.map_err(|error| error.to_string())?;
    spooled(core, prepared).await.map_err(|error| error.to_string())
}

/// Initial tags of generated mail: the ancestry, so that plugins do not see mail caused by their own submissions.
pub(crate) fn inherited(message: &Message) -> Tags {
    message.tags.get(AUTHORS_TAG).map(|authors| (AUTHORS_TAG.to_owned(), authors.clone())).into_iter().collect()
}

/// Converts a prepared message, with attached submissions, for the spool.
pub(crate) async fn spooled(core: &Core, prepared: Prepared) -> Result<NewMessage, SpoolError> {
    NewMessage::of(&*core.parts.spool, prepared).await
}
