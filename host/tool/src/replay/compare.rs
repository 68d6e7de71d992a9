//! One transaction, then and now.

use serde_json::{Value, json};
use waxwing_pipeline::{Recording, TraceEntry};

use super::left_out;
use crate::rehearsal::Performance;
use crate::rehearsal::differences::common;

/// In place of a queue id.
const SOME_ID: &str = "ID";

/// How it ended, and what the plugin did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) verdict: String,
    pub(super) reply: String,
    /// The plugin's answers, edits and faults, one line each, times and ids left out. Log lines decide nothing.
    pub(super) steps: Vec<String>,
}

impl Side {
    /// The verdict and the reply as one text.
    pub(super) fn said(&self) -> String {
        if self.reply.is_empty() { self.verdict.clone() } else { format!("{}: {}", self.verdict, self.reply) }
    }
}

/// Both, and the lines that differ.
pub(super) struct Comparison {
    pub(super) then: Side,
    pub(super) now: Side,
    /// `- ` then, `+ ` now.
    pub(super) differences: Vec<String>,
}

impl Comparison {
    pub(super) fn of(plugin: &str, recording: &Recording, seen: &Performance) -> Self {
        let then = Side {
            verdict: recording.ending.clone(),
            reply: recording.reply.replace(&recording.id, SOME_ID),
            steps: steps(plugin, &recording.entries, &recording.id),
        };
        let id = seen.id.as_deref().unwrap_or(SOME_ID);
        let now = Side {
            verdict: seen.ending.as_str().to_owned(),
            reply: seen.reply.replace(id, SOME_ID),
            steps: steps(plugin, &seen.entries, id),
        };
        let (mut i, mut j, mut differences) = (0, 0, Vec::new());
        for (a, b) in common(&then.steps, &now.steps).into_iter().chain([(then.steps.len(), now.steps.len())]) {
            differences.extend(then.steps.iter().take(a).skip(i).map(|step| format!("- {step}")));
            differences.extend(now.steps.iter().take(b).skip(j).map(|step| format!("+ {step}")));
            (i, j) = (a + 1, b + 1);
        }
        Self { then, now, differences }
    }

    /// Nobody outside can tell them apart: the same verdict, the same reply (an end by the client has none), the same steps.
    pub(super) fn is_same(&self) -> bool {
        let replies = self.then.reply.is_empty() || self.then.reply == self.now.reply;
        self.then.verdict == self.now.verdict && replies && self.differences.is_empty()
    }

    pub(super) fn as_json(&self, recording: &Recording) -> Value {
        let side = |side: &Side| json!({ "verdict": side.verdict, "reply": side.reply, "steps": side.steps });
        json!({
            "id": recording.id,
            "at": recording.at,
            "sender": recording.sender,
            "recipients": recording.recipients.iter().map(|(address, _)| address).collect::<Vec<_>>(),
            "redacted": left_out(recording),
            "same": self.is_same(),
            "then": side(&self.then),
            "now": side(&self.now),
            "differences": self.differences,
        })
    }
}

/// What the plugin did, without what differs in each run.
fn steps(plugin: &str, entries: &[TraceEntry], id: &str) -> Vec<String> {
    let own = entries.iter().filter(|entry| *entry.who == *plugin);
    let lines = own.flat_map(|entry| {
        let subject = if entry.subject.is_empty() { String::new() } else { format!(" ({})", entry.subject) };
        let shadow = if entry.shadow { " [shadow]" } else { "" };
        let head = format!("{}{subject}: {}{shadow}", entry.step, entry.result);
        let edits = entry.edits.iter().map(|edit| format!("  {edit}"));
        let fault = entry.fault.iter().map(|fault| format!("  fault: {fault}"));
        std::iter::once(head).chain(edits).chain(fault).collect::<Vec<_>>()
    });
    lines.map(|line| line.replace(id, SOME_ID)).collect()
}
