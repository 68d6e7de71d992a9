//! What every hook did to a message, for `waxwing trace`.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use waxwing_types::{Edit, Timestamp};

use crate::{
    Answer, AuthAnswer, Binding, Changes, Fault, Found, Hook, Mode, NextTry, Outcome, ReplyClass, Resolution, Symbol, Target,
};

/// Steps that are kept of one session or transaction: a client can name a thousand recipients, and a header as many addresses.
pub const TRACE_ENTRIES_MAX: usize = 200;
/// Lines that are kept in one step: what a plugin changed, and what it logged, each.
const TRACE_LINES_MAX: usize = 100;

/// Characters of a value that a trace keeps.
const VALUE_CHARS_MAX: usize = 200;

/// One step: usually a call of a hook. Calls in a row of one hook that changed nothing are one entry. Every message has some: what is the
/// same in all of them is shared or borrowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    /// When it ended.
    pub at: Timestamp,
    /// The plugin, or the part of the server that speaks.
    pub who: Arc<str>,
    /// Which version of the plugin; empty for parts of the server.
    #[serde(default)]
    pub version: Arc<str>,
    /// The hook or step.
    pub step: Cow<'static, str>,
    /// What it was about; of several calls the last.
    pub subject: String,
    /// The verdict or answer.
    pub result: Cow<'static, str>,
    /// What it changed, as a diff: `+` added, `-` removed, `~` replaced.
    pub edits: Vec<String>,
    /// Microseconds, of all calls together.
    pub micros: u64,
    /// How many calls.
    pub calls: u32,
    /// The fault, if it ended in one.
    pub fault: Option<String>,
    /// Lines that it logged.
    pub log: Vec<String>,
    /// Its word did not count.
    pub shadow: bool,
}

impl TraceEntry {
    /// A step of the server itself.
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

    /// A shadow's answer was not that of the chain.
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

    /// Adds this entry to the list, or to one of the same step before it where both did nothing.
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

    /// Adds this entry to a list that is not full; in a full one the last entry counts what is left out.
    pub fn keep(self, list: &mut Vec<Self>) {
        if list.len() < TRACE_ENTRIES_MAX - 1 {
            return list.push(self);
        }
        match list.get_mut(TRACE_ENTRIES_MAX - 1) {
            Some(rest) => {
                rest.at = self.at;
                rest.micros += self.micros;
                rest.calls = rest.calls.saturating_add(self.calls);
            }
            None => {
                let left_out = Self::step(self.at, "trace", "left-out", "", "more steps than a trace keeps");
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

/// Everything known of one transaction, whether it became a message or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRecord {
    /// Its queue id.
    pub id: String,
    /// When this part of the record was written.
    pub at: Timestamp,
    /// `intake` for the way to the commit, `delivery` for an attempt.
    pub part: Cow<'static, str>,
    /// The client, `internal` for mail made here, or the destination of an attempt.
    pub peer: String,
    /// Envelope sender.
    pub sender: String,
    /// Envelope recipients, bounded by the writer.
    pub recipients: Vec<String>,
    /// Octets.
    pub size: u64,
    /// The final reply or disposition.
    pub result: String,
    /// The steps in order.
    pub entries: Vec<TraceEntry>,
}

fn describe(answer: &Answer) -> Cow<'static, str> {
    let words = match answer {
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
    words.into()
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
