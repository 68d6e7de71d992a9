//! Comparison of a recorded transaction with the replay.

use serde_json::{Value, json};
use waxwing_pipeline::{Recording, TraceEntry};

use super::missing_parts;
use crate::simulation::TestResult;
use crate::simulation::header_diff::longest_common_subsequence;

/// Placeholder for a queue id.
const QUEUE_ID_PLACEHOLDER: &str = "ID";

/// Outcome of a transaction and the steps of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReplaySide {
    pub(super) verdict: String,
    pub(super) reply: String,
    /// Answers, edits and faults of the plugin, one per line, without times, ids and log lines.
    pub(super) steps: Vec<String>,
}

impl ReplaySide {
    /// Returns verdict and reply as one text.
    pub(super) fn summary(&self) -> String {
        if self.reply.is_empty() { self.verdict.clone() } else { format!("{}: {}", self.verdict, self.reply) }
    }
}

/// Recorded and replayed outcome, with the differing lines.
pub(super) struct Comparison {
    pub(super) recorded: ReplaySide,
    pub(super) replayed: ReplaySide,
    /// Lines with `- ` from the recording, with `+ ` from the replay.
    pub(super) differences: Vec<String>,
}

impl Comparison {
    pub(super) fn new(plugin: &str, recording: &Recording, result: &TestResult) -> Self {
        let then = ReplaySide {
            verdict: recording.final_verdict.clone(),
            reply: recording.reply.replace(&recording.id, QUEUE_ID_PLACEHOLDER),
            steps: steps(plugin, &recording.entries, &recording.id),
        };
        let id = result.id.as_deref().unwrap_or(QUEUE_ID_PLACEHOLDER);
        let now = ReplaySide {
            verdict: result.outcome.as_str().to_owned(),
            reply: result.reply.replace(id, QUEUE_ID_PLACEHOLDER),
            steps: steps(plugin, &result.trace, id),
        };
        let (mut i, mut j, mut differences) = (0, 0, Vec::new());
        for (a, b) in longest_common_subsequence(&then.steps, &now.steps).into_iter().chain([(then.steps.len(), now.steps.len())])
        {
            differences.extend(then.steps.iter().take(a).skip(i).map(|step| format!("- {step}")));
            differences.extend(now.steps.iter().take(b).skip(j).map(|step| format!("+ {step}")));
            (i, j) = (a + 1, b + 1);
        }
        Self { recorded: then, replayed: now, differences }
    }

    /// True for the same verdict, the same steps and the same reply (a disconnection by the client has no reply): no difference visible
    /// from outside.
    pub(super) fn is_same(&self) -> bool {
        let replies = self.recorded.reply.is_empty() || self.recorded.reply == self.replayed.reply;
        self.recorded.verdict == self.replayed.verdict && replies && self.differences.is_empty()
    }

    pub(super) fn as_json(&self, recording: &Recording) -> Value {
        let side = |side: &ReplaySide| json!({ "verdict": side.verdict, "reply": side.reply, "steps": side.steps });
        json!({
            "id": recording.id,
            "at": recording.at,
            "sender": recording.sender,
            "recipients": recording.recipients.iter().map(|(address, _)| address).collect::<Vec<_>>(),
            "redacted": missing_parts(recording),
            "same": self.is_same(),
            "then": side(&self.recorded),
            "now": side(&self.replayed),
            "differences": self.differences,
        })
    }
}

/// Returns the steps of the plugin, without the values of a single run.
fn steps(plugin: &str, entries: &[TraceEntry], id: &str) -> Vec<String> {
    let plugin_entries = entries.iter().filter(|entry| *entry.actor == *plugin);
    let lines = plugin_entries.flat_map(|entry| {
        let subject = if entry.subject.is_empty() { String::new() } else { format!(" ({})", entry.subject) };
        let shadow = if entry.shadow { " [shadow]" } else { "" };
        let head = format!("{}{subject}: {}{shadow}", entry.step, entry.result);
        let edits = entry.edits.iter().map(|edit| format!("  {edit}"));
        let fault = entry.fault.iter().map(|fault| format!("  fault: {fault}"));
        std::iter::once(head).chain(edits).chain(fault).collect::<Vec<_>>()
    });
    lines.map(|line| line.replace(id, QUEUE_ID_PLACEHOLDER)).collect()
}
