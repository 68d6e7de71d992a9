//! Reports to the sender about recipients that were given up (RFC 3461 §6, RFC 3464).

use std::time::Duration;

use bytes::Bytes;
use waxwing_message::{Action, Report, Reported};
use waxwing_pipeline::{Generated, Prepared, SubmitError};
use waxwing_queue::{NewBody, NewMessage, SpoolError};
use waxwing_types::{BodyType, Envelope, Message, Notify, Origin, QueueId, Recipient, ReversePath, Status, Tags, Via};

use crate::manager::Core;

/// The report can't be made now, for this reason: its recipients must not be given up yet.
pub(crate) struct NotNow(pub(crate) String);

/// A report on these recipients, through the hooks and ready to be committed with the settlement. None if nobody is to hear
/// of them: the message is itself a report, or the sender did not want one.
pub(crate) async fn report(core: &Core, message: &Message, failed: &[(u32, Status)]) -> Result<Option<NewMessage>, NotNow> {
    let ReversePath::Of(sender) = &message.envelope.sender else {
        tracing::info!(target: "bounce", "{}: a failed report is not reported", message.id);
        return Ok(None);
    };
    let now = core.parts.clock.now();
    let wanted = |(index, status): &'_ (u32, Status)| {
        let recipient = message.envelope.recipients.get(*index as usize)?;
        wants_failure(recipient.notify).then(|| (recipient.clone(), status.clone()))
    };
    let list: Vec<(Recipient, Status)> = failed.iter().filter_map(wanted).collect();
    if list.is_empty() {
        return Ok(None);
    }
    let recipients: Vec<Reported<'_>> = list
        .iter()
        .map(|(recipient, status)| Reported { recipient, action: Action::Failed, status, last_attempt: now })
        .collect();
    let id = core.parts.spool.ids().next(now);
    let body = returned_body(core, message).await;
    let dsn = Report {
        reporting_mta: &core.parts.settings.myhostname,
        to: sender,
        id,
        at: now,
        about: message.id,
        arrived: message.envelope.origin.received_at,
        envid: message.envelope.envid.as_deref(),
        recipients: &recipients,
        ret: message.envelope.ret,
        head: &message.head,
        body: body.as_deref(),
    }
    .print();
    let envelope = Envelope {
        sender: ReversePath::Null,
        recipients: vec![Recipient::new(sender.clone())],
        body_type: if dsn.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
        ret: None,
        envid: None,
        origin: Origin::internal(Via::Dsn, now),
    };
    let mail = Generated { id, envelope, content: dsn.content, cause: Some(message.id), tags: Tags::default() };
    match core.parts.submit.prepare(mail).await {
        Ok(prepared) => {
            let report = spooled(core, prepared).await?;
            tracing::info!(target: "bounce", "{}: sender non-delivery notification: {id}", message.id);
            Ok(Some(report))
        }
        Err(SubmitError::Temporary(why)) => Err(NotNow(why)),
        Err(SubmitError::Refused(why) | SubmitError::Discarded(why)) => {
            tracing::error!(target: "bounce", "{}: no report is sent: {why}", message.id);
            Ok(None)
        }
    }
}

fn wants_failure(notify: Notify) -> bool {
    match notify {
        Notify::Default => true,
        Notify::Never => false,
        Notify::On { failure, .. } => failure,
    }
}

/// The body, if it is small enough to be returned.
async fn returned_body(core: &Core, message: &Message) -> Option<Bytes> {
    let limit = core.parts.settings.bounce_size_limit;
    if message.size() > limit as u64 {
        return None;
    }
    let body = message.body.read(0, limit).await.ok()?;
    (body.len() as u64 == message.body.size()).then_some(body)
}

/// The report as the spool takes it; a body that hooks made large goes through a writer as any other.
async fn spooled(core: &Core, prepared: Prepared) -> Result<NewMessage, NotNow> {
    let Prepared { id, envelope, head, body, tags, hold } = prepared;
    let body = match NewBody::inline(body.clone()) {
        Ok(body) => body,
        Err(_) => write_body(core, id, body).await.map_err(|error| NotNow(error.to_string()))?,
    };
    Ok(NewMessage { id, envelope, head, body, tags, hold, not_before: Duration::ZERO, priority: 0, with: Vec::new() })
}

async fn write_body(core: &Core, id: QueueId, bytes: Bytes) -> Result<NewBody, SpoolError> {
    let spool = &core.parts.spool;
    let mut writer = spool.body_writer(id, spool.room(bytes.len() as u64)?);
    writer.write(bytes).await?;
    writer.finish().await
}
