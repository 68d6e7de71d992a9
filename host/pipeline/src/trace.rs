//! Trace of the hooks of a message, shown by `waxwing trace`.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waxwing_types::{Edit, Timestamp};

use crate::{
    Answer, AuthAnswer, Binding, Changes, Fault, Found, Hook, Mode, NextTry, Outcome, ReplyClass, Resolution, Symbol, Target,
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
    pub who: Arc<str>,
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
    pub fn step(
        at: Timestamp,
        who: impl Into<Arc<str>>,
        step: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
        result: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            at,
            who: who.into(),
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

    pub(crate) fn call(by: &Binding, hook: Hook, at: Timestamp, micros: u64, subject: String) -> Self {
        let step = Self::step(at, Arc::clone(&by.name), hook.as_str(), subject, "");
        Self { version: Arc::clone(&by.version), micros, shadow: by.mode == Mode::Shadow, ..step }
    }

    /// Sets the result to the difference between a shadow's answer and the decision.
    pub(crate) fn differs(mut self, shadow: &Answer, decided: &Answer) -> Self {
        self.result = format!("differs: {}; the chain: {}", describe(shadow), describe(decided)).into();
        self
    }

    pub(crate) fn returned(mut self, outcome: &Outcome) -> Self {
        self.result = describe(&outcome.answer);
        self.edits = diff(&outcome.changes);
        self.edits.truncate(TRACE_LINES_MAX);
        self.log = outcome.log.iter().take(TRACE_LINES_MAX).cloned().collect();
        self
    }

    pub(crate) fn faulted(mut self, fault: &Fault, consequence: &'static str) -> Self {
        self.result = consequence.into();
        self.fault = Some(fault.to_string());
        self.log = fault.log.iter().take(TRACE_LINES_MAX).cloned().collect();
        self
    }

    /// Appends this entry, or adds to an earlier entry of the same step if both had no effect.
    pub(crate) fn join(self, list: &mut Vec<Self>) {
        match list.iter_mut().rev().take_while(|e| e.step == self.step).find(|e| e.is_like(&self)) {
            Some(like) => {
                like.at = self.at;
                like.subject = self.subject;
                like.micros += self.micros;
                like.calls += 1;
            }
            None => self.keep(list),
        }
    }

    /// Appends this entry to a list that is not full; in a full list the last entry counts the omitted ones.
    pub fn keep(self, list: &mut Vec<Self>) {
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
                let left_out = Self::step(self.at, "trace", "left-out", "", "trace full, further steps only counted");
                list.push(Self { micros: self.micros, calls: self.calls, ..left_out });
            }
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        self.did_nothing()
            && other.did_nothing()
            && self.who == other.who
            && self.version == other.version
            && self.step == other.step
            && self.result == other.result
            && self.shadow == other.shadow
    }

    fn did_nothing(&self) -> bool {
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

fn describe(answer: &Answer) -> Cow<'static, str> {
    let description = match answer {
        Answer::Verdict(verdict) => match verdict {
            waxwing_types::Verdict::Reject(reply)
            | waxwing_types::Verdict::Defer(reply)
            | waxwing_types::Verdict::Disconnect(reply) => format!("{} {reply}", verdict.as_str()),
            waxwing_types::Verdict::Discard { reason } | waxwing_types::Verdict::Hold { reason } => {
                format!("{} {reason}", verdict.as_str())
            }
            waxwing_types::Verdict::Continue | waxwing_types::Verdict::Accept => return verdict.as_str().into(),
        },
        Answer::Rewritten(None) => return "unchanged".into(),
        Answer::Rewritten(Some(to)) => format!("rewritten {to}"),
        Answer::Resolution(resolution) => match resolution {
            Resolution::NotMine => return "not-mine".into(),
            Resolution::Unknown => return "unknown".into(),
            Resolution::Unavailable(why) => format!("unavailable {why}"),
            Resolution::Targets(expansion) => {
                let names: Vec<String> = expansion.targets.iter().map(target).collect();
                shorten(&format!("targets {}", names.join(", ")))
            }
        },
        Answer::Dispositions(list) => format!("{} dispositions", list.len()),
        Answer::Done => return "heard".into(),
        Answer::Stored(stored) => format!("{stored:?}"),
        Answer::Auth(answer) => match answer {
            AuthAnswer::Allow(user) => shorten(&format!("allow {user}")),
            AuthAnswer::Deny => return "deny".into(),
            AuthAnswer::Unavailable(why) => shorten(&format!("unavailable {why}")),
            AuthAnswer::NotMine => return "not-mine".into(),
        },
        Answer::Reply(None) | Answer::Route(None) => return "not-mine".into(),
        Answer::Reply(Some(reply)) => format!("reply {reply}"),
        Answer::Route(Some(hop)) => format!("route {hop}"),
        Answer::Symbols(symbols) => {
            let one = |s: &Symbol| format!("{} {:+.2}", s.name, s.score);
            shorten(&format!("symbols {}", symbols.iter().map(one).collect::<Vec<_>>().join(", ")))
        }
        Answer::Placement(placement) => {
            format!("priority {:+}, not before {} s", placement.priority, placement.not_before.as_secs())
        }
        Answer::Class(class) => match class {
            ReplyClass::AsIs => return "as-is".into(),
            ReplyClass::Temporary => return "temporary".into(),
            ReplyClass::Permanent => return "permanent".into(),
            ReplyClass::DestinationDead => return "destination-dead".into(),
        },
        Answer::NextTry(next) => match next {
            NextTry::AsPlanned => return "as-planned".into(),
            NextTry::After(time) => format!("after {} s", time.as_secs()),
            NextTry::GiveUp => return "give-up".into(),
        },
        Answer::Report(true) => return "send".into(),
        Answer::Report(false) => return "suppress".into(),
        Answer::Found(found) => match found {
            Found::Value(value) => shorten(&format!("value {value}")),
            Found::Absent => return "absent".into(),
            Found::Unavailable(why) => shorten(&format!("unavailable {why}")),
        },
    };
    description.into()
}

fn target(target: &Target) -> String {
    match target {
        Target::Address(address) => address.to_string(),
        Target::Command(name) => format!("|{name}"),
        Target::File(path) => path.clone(),
    }
}

fn diff(changes: &Changes) -> Vec<String> {
    let mut lines: Vec<String> = changes.edits.iter().map(edit_line).collect();
    lines.extend(changes.quarantine.iter().map(|reason| format!("quarantine {reason}")));
    lines.extend(changes.redirect.iter().map(|to| format!("~recipients: {to}")));
    lines.extend(changes.discard_recipients.iter().map(|(index, reason)| format!("-recipient[{index}] discarded: {reason}")));
    lines.extend(changes.submissions.iter().map(|mail| format!("+submitted {}", mail.id)));
    if changes.skip_rest {
        lines.push("skip-rest".to_owned());
    }
    lines
}

fn edit_line(edit: &Edit) -> String {
    match edit {
        Edit::AddHeader { name, value } => format!("+{name}: {}", text(value)),
        Edit::InsertHeader { at, name, value } => format!("+[{at}]{name}: {}", text(value)),
        Edit::ReplaceHeader { name, nth, value } => format!("~{name}[{nth}]: {}", text(value)),
        Edit::RemoveHeader { name, nth } => format!("-{name}[{nth}]"),
        Edit::SetSender(sender, _) => format!("~sender: <{sender}>"),
        Edit::AddRecipient(address, _) => format!("+recipient: {address}"),
        Edit::ChangeRecipient { index, to } => format!("~recipient[{index}]: {to}"),
        Edit::RemoveRecipient { index } => format!("-recipient[{index}]"),
        Edit::ReplaceBody(body) => format!("~body: {} octets", body.len()),
        Edit::Tag { name, value } => format!("+tag {name}={}", shorten(value)),
    }
}

fn text(value: &[u8]) -> String {
    shorten(&String::from_utf8_lossy(value).replace(['\r', '\n'], " "))
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
