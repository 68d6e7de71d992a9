//! Mail that plugins send while a message is delivered: committed with the settlement of what caused it.

use std::pin::Pin;

use waxwing_pipeline::{AUTHORS_MAX, AUTHORS_TAG, Generated, Placement, Prepared, Submission, TraceEntry};
use waxwing_queue::{NewBody, NewMessage, SpoolError};
use waxwing_types::{BodyType, Envelope, Message, Origin, Recipient, Tags, Via};

use crate::manager::Core;

/// Messages that plugins may send with one settlement.
const SUBMISSIONS_MAX: usize = 100;

/// Boxed, because what comes along may bring others.
type Spooling<'a> = Pin<Box<dyn Future<Output = Result<NewMessage, SpoolError>> + Send + 'a>>;

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
                TraceEntry::step(now, &author, "submit", id.to_string(), format!("dropped: {why}")).keep(trace);
            }
        }
    }
    made
}

async fn one(core: &Core, message: &Message, submission: Submission) -> Result<NewMessage, String> {
    let Submission { id, sender, recipients, content, author } = submission;
    let before = message.tags.get(AUTHORS_TAG).map_or("", String::as_str);
    if before.split(',').filter(|name| !name.is_empty()).count() >= AUTHORS_MAX {
        return Err(format!("{AUTHORS_MAX} submissions led to it already"));
    }
    let authors = if before.is_empty() { author.to_string() } else { format!("{before},{author}") };
    let envelope = Envelope {
        sender,
        recipients: recipients.into_iter().map(Recipient::new).collect(),
        body_type: if content.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime },
        ret: None,
        envid: None,
        origin: Origin::internal(Via::Forward, core.parts.clock.now()),
    };
    let tags = Tags::from([(AUTHORS_TAG.to_owned(), authors)]);
    let mail = Generated { id, envelope, content, cause: Some(message.id), tags };
    let prepared = core.parts.submit.prepare(mail).await.map_err(|error| error.to_string())?;
    spooled(core, prepared).await.map_err(|error| error.to_string())
}

/// The tags with which mail begins that is made because of this message: it is not shown to those who caused it.
pub(crate) fn inherited(message: &Message) -> Tags {
    message.tags.get(AUTHORS_TAG).map(|authors| (AUTHORS_TAG.to_owned(), authors.clone())).into_iter().collect()
}

/// Made mail as the spool takes it, with what comes along with it.
pub(crate) fn spooled(core: &Core, prepared: Prepared) -> Spooling<'_> {
    Box::pin(async move {
        let Prepared { id, envelope, head, body, tags, placement, with: along } = prepared;
        let body = NewBody::of(&*core.parts.spool, id, body).await?;
        let mut with = Vec::with_capacity(along.len());
        for one in along {
            with.push(spooled(core, one).await?);
        }
        let Placement { hold, not_before, priority } = placement;
        Ok(NewMessage { id, envelope, head, body, tags, hold, not_before, priority, with })
    })
}
