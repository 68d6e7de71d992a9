//! Mail that plugins send while a message is delivered: committed with the settlement of what caused it.

use waxwing_pipeline::{AUTHORS_TAG, Prepared, SUBMISSIONS_MAX, Submission, TraceEntry};
use waxwing_queue::{NewMessage, SpoolError};
use waxwing_types::{Message, Tags};

use crate::manager::Core;

/// Takes what plugins sent through the hooks. What can't be taken is dropped: the settlement must not wait for it.
pub(crate) async fn prepare(
    core: &Core,
    message: &Message,
    submissions: Vec<Submission>,
    trace: &mut Vec<TraceEntry>,
) -> Vec<NewMessage> {
    let mut made = Vec::with_capacity(submissions.len().min(SUBMISSIONS_MAX));
    for (number, submission) in submissions.into_iter().enumerate() {
        let (id, author) = (submission.id, submission.author.clone());
        let result = match number < SUBMISSIONS_MAX {
            true => one(core, message, submission).await,
            false => Err(format!("more than {SUBMISSIONS_MAX} messages with one settlement")),
        };
        match result {
            Ok(new) => {
                tracing::info!(target: "delivery", "{}: plugin {author} sends {id}", message.id);
                made.push(new);
            }
            Err(why) => {
                tracing::warn!(target: "delivery", "{}: {id} of plugin {author} is not sent: {why}", message.id);
                let now = core.parts.clock.now();
                TraceEntry::step(now, author.as_ref(), "submit", id.to_string(), format!("dropped: {why}")).keep(trace);
            }
        }
    }
    made
}

async fn one(core: &Core, message: &Message, submission: Submission) -> Result<NewMessage, String> {
    let mail = submission.generated(&message.tags, Some(message.id), core.parts.clock.now()).map_err(|e| e.to_string())?;
    let prepared = core.parts.submit.prepare(mail).await.map_err(|error| error.to_string())?;
    spooled(core, prepared).await.map_err(|error| error.to_string())
}

/// The tags with which mail begins that is made because of this message: it is not shown to those who caused it.
pub(crate) fn inherited(message: &Message) -> Tags {
    message.tags.get(AUTHORS_TAG).map(|authors| (AUTHORS_TAG.to_owned(), authors.clone())).into_iter().collect()
}

/// Made mail as the spool takes it, with what plugins sent along.
pub(crate) async fn spooled(core: &Core, prepared: Prepared) -> Result<NewMessage, SpoolError> {
    NewMessage::of(&*core.parts.spool, prepared).await
}
