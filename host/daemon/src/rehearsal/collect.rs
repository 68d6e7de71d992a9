//! Result of a simulated transaction: replies, trace entries, costs, and the queued message.

use std::collections::BTreeMap;

use bytes::Bytes;
use waxwing_message::{HeadSplitter, Split};
use waxwing_pipeline::TraceRecord;
use waxwing_queue::{Spool, SpoolError, UnitState};
use waxwing_sandbox::Metered;
use waxwing_tool::{Cost, Ending, Performance, Queued};
use waxwing_types::QueueId;

use super::client::Talk;

/// Builds the result of a transaction. `held`: the message went to the hold queue.
pub(super) async fn performance(
    spool: &dyn Spool,
    held: bool,
    dialogue: Talk,
    records: Vec<TraceRecord>,
    metered: Vec<Metered>,
) -> anyhow::Result<Performance> {
    let id = records.last().map(|record| record.id.clone());
    let queued = match id.as_deref().map(str::parse::<QueueId>) {
        Some(Ok(id)) => queued(spool, id, held).await?,
        Some(Err(_)) | None => None,
    };
    // At connect time every rejection closes the connection, so only an explicit disconnect verdict counts.
    let meant = |record: &TraceRecord| record.entries.iter().any(|e| !e.shadow && e.result.starts_with("disconnect"));
    let closed = dialogue.closed && (dialogue.stage != "connect" || records.iter().any(meant));
    let ending = match (dialogue.last.code, &queued) {
        (200..=399, Some(Queued { hold: Some(_), .. })) => Ending::Hold,
        (200..=399, Some(_)) => Ending::Accept,
        (200..=399, None) if dialogue.stage == "." => Ending::Discard,
        (200..=399, None) => Ending::Open,
        _ if closed => Ending::Disconnect,
        (400..=499, _) => Ending::Defer,
        _ => Ending::Reject,
    };
    Ok(Performance {
        id,
        ending,
        reply: dialogue.last.text,
        stage: dialogue.stage.to_owned(),
        dialogue: dialogue.dialogue,
        entries: records.into_iter().flat_map(|record| record.entries).collect(),
        queued,
        costs: costs(metered),
    })
}

async fn queued(spool: &dyn Spool, id: QueueId, held: bool) -> anyhow::Result<Option<Queued>> {
    let message = match spool.load(id).await {
        Ok(message) => message,
        Err(SpoolError::NotFound) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    // `show` scans the whole queue, with every message of a long replay: call only for held messages.
    let units = if held { spool.show(id).await?.units } else { Vec::new() };
    let hold = units.into_iter().find_map(|(_, state)| match state {
        UnitState::Hold(reason) => Some(reason),
        UnitState::Incoming | UnitState::Deferred | UnitState::Corrupt(_) => None,
    });
    let size = usize::try_from(message.body.size()).unwrap_or(usize::MAX);
    let mut body = Vec::with_capacity(size);
    while body.len() < size {
        let piece = message.body.read(body.len() as u64, size - body.len()).await?;
        if piece.is_empty() {
            break;
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(Queued {
        sender: message.envelope.sender.to_string(),
        recipients: message.envelope.recipients.iter().map(|r| r.address.to_string()).collect(),
        head: without_received(&message.head, id),
        body: body.into(),
        tags: message.tags.as_ref().clone(),
        hold,
    }))
}

/// Removes the Received field added by this server, recognised by the queue id.
fn without_received(head: &Bytes, id: QueueId) -> Bytes {
    let mut splitter = HeadSplitter::new(head.len());
    let block = match splitter.push(head.clone()) {
        Ok(Split::Done(block, _)) => block,
        Ok(Split::More) => splitter.finish().0,
        Err(_) => return head.clone(),
    };
    let word = format!(" id {id}");
    let is_ours = |raw: &[u8]| raw.windows(word.len()).any(|window| window == word.as_bytes());
    let mut found = false;
    let mut out = Vec::with_capacity(head.len());
    for field in block.fields() {
        if !found && field.is("Received") && is_ours(field.raw()) {
            found = true;
        } else {
            out.extend_from_slice(field.raw());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// Sums the costs by plugin and hook, in the order of the first call.
fn costs(metered: Vec<Metered>) -> Vec<Cost> {
    let mut costs: Vec<Cost> = Vec::new();
    for call in metered {
        let (plugin, hook) = (&*call.plugin, call.hook.as_str());
        let at = match costs.iter().position(|cost| cost.plugin == plugin && cost.hook == hook) {
            Some(at) => at,
            None => {
                costs.push(Cost {
                    plugin: plugin.to_owned(),
                    hook: hook.to_owned(),
                    calls: 0,
                    fuel: 0,
                    memory_bytes: 0,
                    host_calls: BTreeMap::new(),
                });
                costs.len() - 1
            }
        };
        let Some(cost) = costs.get_mut(at) else { continue };
        cost.calls += 1;
        cost.fuel = cost.fuel.saturating_add(call.fuel);
        cost.memory_bytes = cost.memory_bytes.max(call.memory_bytes);
        for (function, count) in call.host_calls {
            *cost.host_calls.entry(function.to_owned()).or_default() += count;
        }
    }
    costs
}
