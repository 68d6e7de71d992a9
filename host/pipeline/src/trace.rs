//! Trace of the hooks of a message, shown by `waxwing trace`.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waxwing_types::{Edit, Timestamp};

use crate::{
    AuthAnswer, CallOutcome, ExpansionTarget, Fault, HookAnswer, NextTry, ReplyClass, Resolution, StagedChanges, Symbol,
    TableLookup,
};

/// Maximum number of entries for one session or transaction: a client can name a thousand recipients, and a header block as
/// many addresses.
pub const TRACE_ENTRIES_MAX: usize = 200;
/// Maximum number of lines in one entry, for edits and for log lines each.
const TRACE_LINES_MAX: usize = 100;

/// Maximum number of characters of a value in a trace.
const VALUE_CHARS_MAX: usize = 200;

/// One entry of a trace, usually a hook call. Consecutive calls of one hook without any effect share an entry. Every message
/// has some entries, so constant strings are shared or borrowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    /// End time of the step.
    pub at: Timestamp,
    /// Name of the plugin, or of the component of the server.
    #[serde(rename = "who")]
    pub actor: Arc<str>,
    /// Version label of the plugin; empty for components of the server.
    #[serde(default)]
    pub version: Arc<str>,
    /// Hook or step of the server.
    pub step: Cow<'static, str>,
    /// Subject of the call; of several calls the last.
    pub subject: String,
    /// Verdict or answer of the call.
    pub result: Cow<'static, str>,
    /// Changes as a diff: `+` added, `-` removed, `~` replaced.
    pub edits: Vec<String>,
    /// Total duration of all calls in microseconds.
    pub micros: u64,
    /// Number of calls.
    pub calls: u32,
    /// Fault that ended the call.
    pub fault: Option<String>,
    /// Log lines of the plugin.
    pub log: Vec<String>,
    /// Whether the plugin ran as a shadow, without effect.
    pub shadow: bool,
}

impl TraceEntry {
    /// Creates the entry of a step of the server itself.
    pub fn server_step(
        at: Timestamp,
        who: impl Into<Arc<str>>,
        step: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
        result: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            at,
            actor: who.into(),
            version: Arc::default(),
            step: step.into(),
            subject: subject.into(),
            result: result.into(),
            edits: Vec::new(),
            micros: 0,
            calls: 1,
            fault: None,
            log: Vec::new(),
            shadow: false,
        }
    }

    /// Sets the result to the difference between a shadow's answer and the decision.
    pub(crate) fn with_difference(mut self, shadow: &HookAnswer, decided: &HookAnswer) -> Self {
        self.result = format!("differs: {}; the chain: {}", answer_text(shadow), answer_text(decided)).into();
        self
    }

    pub(crate) fn with_outcome(mut self, outcome: &CallOutcome) -> Self {
        self.result = answer_text(&outcome.answer);
        self.edits = changes_diff(&outcome.changes);
        self.edits.truncate(TRACE_LINES_MAX);
        self.log = outcome.log.iter().take(TRACE_LINES_MAX).cloned().collect();
        self
    }

    pub(crate) fn with_fault(mut self, fault: &Fault, consequence: &'static str) -> Self {
        self.result = consequence.into();
        self.fault = Some(fault.to_string());
        self.log = fault.log.iter().take(TRACE_LINES_MAX).cloned().collect();
        self
    }

    /// Appends this entry, or adds to an earlier entry of the same step if both had no effect.
    pub(crate) fn merge_into(self, list: &mut Vec<Self>) {
        match list.iter_mut().rev().take_while(|e| e.step == self.step).find(|e| e.can_merge(&self)) {
            Some(like) => {
                like.at = self.at;
                like.subject = self.subject;
                like.micros += self.micros;
                like.calls += 1;
            }
            None => self.append_to(list),
        }
    }

    /// Appends this entry to a list that is not full; in a full list the last entry counts the omitted ones.
    pub fn append_to(self, list: &mut Vec<Self>) {
        if list.len() < TRACE_ENTRIES_MAX - 1 {
            return list.push(self);
        }
        match list.get_mut(TRACE_ENTRIES_MAX - 1) {
            Some(last) => {
                last.at = self.at;
                last.micros += self.micros;
                last.calls = last.calls.saturating_add(self.calls);
            }
            None => {
                let left_out = Self::server_step(self.at, "trace", "left-out", "", "trace full, further steps only counted");
                list.push(Self { micros: self.micros, calls: self.calls, ..left_out });
            }
        }
    }

    fn can_merge(&self, other: &Self) -> bool {
        self.had_no_effect()
            && other.had_no_effect()
            && self.actor == other.actor
            && self.version == other.version
            && self.step == other.step
            && self.result == other.result
            && self.shadow == other.shadow
    }

    fn had_no_effect(&self) -> bool {
        self.edits.is_empty() && self.fault.is_none() && self.log.is_empty()
    }
}

/// Trace of one transaction or attempt, whether accepted or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// Queue id of the transaction.
    pub id: String,
    /// Time at which this part of the record was written.
    pub at: Timestamp,
    /// Part of the path: `intake` up to the commit, `delivery` for an attempt.
    pub part: Cow<'static, str>,
    /// Client of the session, `internal` for internal mail, or the destination of an attempt.
    pub peer: String,
    /// Envelope sender (MAIL FROM).
    pub sender: String,
    /// Envelope recipients, bounded by the writer.
    pub recipients: Vec<String>,
    /// Size of the message in bytes.
    pub size: u64,
    /// Final reply or disposition.
    pub result: String,
    /// Entries in order of time.
    pub entries: Vec<TraceEntry>,
}

fn answer_text(answer: &HookAnswer) -> Cow<'static, str> {
    let description = match answer {
        HookAnswer::Verdict(verdict) => match verdict {
            waxwing_types::Verdict::Reject(reply)
            | waxwing_types::Verdict::Defer(reply)
            | waxwing_types::Verdict::Disconnect(reply) => format!("{} {reply}", verdict.as_str()),
            waxwing_types::Verdict::Discard { reason } | waxwing_types::Verdict::Hold { reason } => {
                format!("{} {reason}", verdict.as_str())
            }
            waxwing_types::Verdict::Next | waxwing_types::Verdict::Accept => return verdict.as_str().into(),
        },
        HookAnswer::Rewritten(None) => return "unchanged".into(),
        HookAnswer::Rewritten(Some(to)) => format!("rewritten {to}"),
        HookAnswer::Resolution(resolution) => match resolution {
            Resolution::NotMine => return "not-mine".into(),
            Resolution::Unknown => return "unknown".into(),
            Resolution::Unavailable(why) => format!("unavailable {why}"),
            Resolution::Targets(expansion) => {
                let names: Vec<String> = expansion.targets.iter().map(target_text).collect();
                truncate(&format!("targets {}", names.join(", ")))
            }
        },
        HookAnswer::Dispositions(list) => format!("{} dispositions", list.len()),
        HookAnswer::Done => return "heard".into(),
        HookAnswer::StoredCredential(stored) => format!("{stored:?}"),
        HookAnswer::Auth(answer) => match answer {
            AuthAnswer::Allow(user) => truncate(&format!("allow {user}")),
            AuthAnswer::Deny => return "deny".into(),
            AuthAnswer::Unavailable(why) => truncate(&format!("unavailable {why}")),
            AuthAnswer::NotMine => return "not-mine".into(),
        },
        HookAnswer::Reply(None) | HookAnswer::Route(None) => return "not-mine".into(),
        HookAnswer::Reply(Some(reply)) => format!("reply {reply}"),
        HookAnswer::Route(Some(hop)) => format!("route {hop}"),
        HookAnswer::Symbols(symbols) => {
            let one = |s: &Symbol| format!("{} {:+.2}", s.name, s.score);
            truncate(&format!("symbols {}", symbols.iter().map(one).collect::<Vec<_>>().join(", ")))
        }
        HookAnswer::Placement(placement) => {
            format!("priority {:+}, not before {} s", placement.priority, placement.not_before.as_secs())
        }
        HookAnswer::ReplyClass(class) => match class {
            ReplyClass::AsIs => return "as-is".into(),
            ReplyClass::Temporary => return "temporary".into(),
            ReplyClass::Permanent => return "permanent".into(),
            ReplyClass::DestinationDead => return "destination-dead".into(),
        },
        HookAnswer::NextTry(next) => match next {
            NextTry::AsPlanned => return "as-planned".into(),
            NextTry::After(time) => format!("after {} s", time.as_secs()),
            NextTry::GiveUp => return "give-up".into(),
        },
        HookAnswer::SendDsn(true) => return "send".into(),
        HookAnswer::SendDsn(false) => return "suppress".into(),
        HookAnswer::TableLookup(found) => match found {
            TableLookup::Value(value) => truncate(&format!("value {value}")),
            TableLookup::Absent => return "absent".into(),
            TableLookup::Unavailable(why) => truncate(&format!("unavailable {why}")),
        },
    };
    description.into()
}

fn target_text(target: &ExpansionTarget) -> String {
    match target {
        ExpansionTarget::Address(address) => address.to_string(),
        ExpansionTarget::Command(name) => format!("|{name}"),
        ExpansionTarget::File(path) => path.clone(),
    }
}

fn changes_diff(changes: &StagedChanges) -> Vec<String> {
    let mut lines: Vec<String> = changes.edits.iter().map(edit_text).collect();
    lines.extend(changes.quarantine.iter().map(|reason| format!("quarantine {reason}")));
    lines.extend(changes.redirect.iter().map(|to| format!("~recipients: {to}")));
    lines.extend(changes.discard_recipients.iter().map(|(index, reason)| format!("-recipient[{index}] discarded: {reason}")));
    lines.extend(changes.submissions.iter().map(|mail| format!("+submitted {}", mail.id)));
    if changes.skip_rest {
        lines.push("skip-rest".to_owned());
    }
    lines
}

fn edit_text(edit: &Edit) -> String {
    match edit {
        Edit::AddHeader { name, value } => format!("+{name}: {}", header_value_text(value)),
        Edit::InsertHeader { at, name, value } => format!("+[{at}]{name}: {}", header_value_text(value)),
        Edit::ReplaceHeader { name, nth, value } => format!("~{name}[{nth}]: {}", header_value_text(value)),
        Edit::RemoveHeader { name, nth } => format!("-{name}[{nth}]"),
        Edit::SetSender(sender, _) => format!("~sender: <{sender}>"),
        Edit::AddRecipient(address, _) => format!("+recipient: {address}"),
        Edit::ChangeRecipient { index, to } => format!("~recipient[{index}]: {to}"),
        Edit::RemoveRecipient { index } => format!("-recipient[{index}]"),
        Edit::ReplaceBody(body) => format!("~body: {} octets", body.len()),
        Edit::Tag { name, value } => format!("+tag {name}={}", truncate(value)),
    }
}

fn header_value_text(value: &[u8]) -> String {
    truncate(&String::from_utf8_lossy(value).replace(['\r', '\n'], " "))
}

fn truncate(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
