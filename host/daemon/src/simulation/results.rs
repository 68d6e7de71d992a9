//! Result of a simulated transaction: replies, trace entries, costs, and the queued message.

use std::collections::BTreeMap;

use bytes::Bytes;
use waxwing_message::{HeaderSplit, HeaderSplitter};
use waxwing_pipeline::TraceRecord;
use waxwing_sandbox::MeteredCall;
use waxwing_spool::{Spool, SpoolError, UnitState};
use waxwing_tool::{HookCost, QueuedMessage, TestResult, TransactionOutcome};
use waxwing_types::QueueId;

use super::client::SmtpDialogue;

/// Builds the result of a transaction. `held`: the message went to the hold queue.
pub(super) async fn test_result(
    spool: &dyn Spool,
    held: bool,
    dialogue: SmtpDialogue,
    records: Vec<TraceRecord>,
    metered: Vec<MeteredCall>,
) -> anyhow::Result<TestResult> {
    let id = records.last().map(|record| record.id.clone());
    let queued = match id.as_deref().map(str::parse::<QueueId>) {
        Some(Ok(id)) => queued_message(spool, id, held).await?,
        Some(Err(_)) | None => None,
    };
    // At connect time every rejection closes the connection, so only an explicit disconnect verdict counts.
    let meant = |record: &TraceRecord| record.entries.iter().any(|e| !e.shadow && e.result.starts_with("disconnect"));
    let closed = dialogue.closed && (dialogue.stage != "connect" || records.iter().any(meant));
    let ending = match (dialogue.decisive_reply.code, &queued) {
        (200..=399, Some(QueuedMessage { hold: Some(_), .. })) => TransactionOutcome::Hold,
        (200..=399, Some(_)) => TransactionOutcome::Accept,
        (200..=399, None) if dialogue.stage == "." => TransactionOutcome::Discard,
        (200..=399, None) => TransactionOutcome::Open,
        _ if closed => TransactionOutcome::Disconnect,
        (400..=499, _) => TransactionOutcome::Defer,
        _ => TransactionOutcome::Reject,
    };
    Ok(TestResult {
        id,
        outcome: ending,
        reply: dialogue.decisive_reply.text,
        stage: dialogue.stage.to_owned(),
        dialogue: dialogue.exchanges,
        trace: records.into_iter().flat_map(|record| record.entries).collect(),
        queued,
        costs: sum_costs(metered),
    })
}

async fn queued_message(spool: &dyn Spool, id: QueueId, held: bool) -> anyhow::Result<Option<QueuedMessage>> {
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
    Ok(Some(QueuedMessage {
        sender: message.envelope.sender.to_string(),
        recipients: message.envelope.recipients.iter().map(|r| r.address.to_string()).collect(),
        header: without_received(&message.header, id),
        body: body.into(),
        tags: message.tags.as_ref().clone(),
        hold,
    }))
}

/// Removes the Received field added by this server, recognised by the queue id.
fn without_received(head: &Bytes, id: QueueId) -> Bytes {
    let mut splitter = HeaderSplitter::new(head.len());
    let block = match splitter.push(head.clone()) {
        Ok(HeaderSplit::Complete(block, _)) => block,
        Ok(HeaderSplit::Incomplete) => splitter.finish().0,
        Err(_) => return head.clone(),
    };
    let word = format!(" id {id}");
    let is_ours = |raw: &[u8]| raw.windows(word.len()).any(|window| window == word.as_bytes());
    let mut found = false;
    let mut out = Vec::with_capacity(head.len());
    for field in block.fields() {
        if !found && field.has_name("Received") && is_ours(field.raw()) {
            found = true;
        } else {
            out.extend_from_slice(field.raw());
        }
    }
    out.extend_from_slice(b"\r\n");
    out.into()
}

/// Sums the costs by plugin and hook, in the order of the first call.
fn sum_costs(metered: Vec<MeteredCall>) -> Vec<HookCost> {
    let mut costs: Vec<HookCost> = Vec::new();
    for call in metered {
        let (plugin, hook) = (&*call.plugin, call.hook.as_str());
        let at = match costs.iter().position(|cost| cost.plugin == plugin && cost.hook == hook) {
            Some(at) => at,
            None => {
                costs.push(HookCost {
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
