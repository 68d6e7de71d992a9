//! Conversion of guest answers from WIT types to pipeline types: verdicts, symbols, resolutions and dispositions. An answer
//! that the contract does not allow is an error, and the call a fault.

use std::time::Duration;

use waxwing_bindings::exports::{on_deliver, on_resolve};
use waxwing_bindings::imports::types as wit;
use waxwing_pipeline::{ContextRecipient, Expansion, ExpansionTarget, Hook, HookAnswer, Resolution, Symbol};
use waxwing_types::{Address, Clock, Disposition, EnhancedCode, Reply, Status, Verdict};

use crate::permissions::Operation;
use crate::settings::PluginLimits;
use crate::state::one_line;

/// Result of a conversion; the error describes the invalid answer.
pub(crate) type Converted<T> = Result<T, String>;

pub(crate) fn address(address: wit::Address) -> Converted<Address> {
    Address::new(address.local, &address.domain).map_err(|e| format!("invalid address in the answer: {e}"))
}

pub(crate) fn verdict(verdict: wit::Verdict, hook: Hook, limits: &PluginLimits) -> Converted<HookAnswer> {
    let reason = |text: String| one_line(&text, limits.reason_bytes_max);
    let verdict = match verdict {
        wit::Verdict::Next => Verdict::Next,
        wit::Verdict::Accept => Verdict::Accept,
        wit::Verdict::Reject(r) => Verdict::Reject(reply(r, "reject", &[5])?),
        wit::Verdict::Defer(r) => Verdict::Defer(reply(r, "defer", &[4])?),
        wit::Verdict::Disconnect(r) => Verdict::Disconnect(reply(r, "disconnect", &[4, 5])?),
        wit::Verdict::Discard(text) => Verdict::Discard { reason: reason(text) },
        wit::Verdict::Hold(text) => Verdict::Hold { reason: reason(text) },
    };
    match Operation::from_verdict(&verdict) {
        Some(act) if !act.allowed_at(hook) => Err(format!("the verdict {} is not possible at {hook}", verdict.as_str())),
        Some(_) | None => Ok(HookAnswer::Verdict(verdict)),
    }
}

/// Converts a reply. `classes`: allowed first digits of the code for the verdict.
fn reply(reply: wit::Reply, verdict: &str, classes: &[u16]) -> Converted<Reply> {
    let class = reply.code / 100;
    if !classes.contains(&class) {
        return Err(format!("a {verdict} has the reply code {}", reply.code));
    }
    let enhanced = match reply.enhanced {
        Some(text) => text.parse().map_err(|e| format!("the reply to a {verdict}: {e}"))?,
        None => EnhancedCode::new(if class == 4 { 4 } else { 5 }, 7, 1),
    };
    if reply.text.contains(['\r', '\n', '\0']) {
        return Err(format!("the reply to a {verdict} has a line end or NUL in its text"));
    }
    let text = if reply.text.trim().is_empty() { "Refused by local policy".to_owned() } else { reply.text };
    Reply::new(reply.code, Some(enhanced), text).map_err(|e| format!("the reply to a {verdict}: {e}"))
}

/// Converts symbols. A score must be finite: a NaN or infinite score would spoil every sum.
pub(crate) fn symbols(list: Vec<wit::Symbol>, limits: &PluginLimits) -> Converted<HookAnswer> {
    if list.len() > limits.symbols_max {
        return Err(format!("{} symbols, where {} are allowed", list.len(), limits.symbols_max));
    }
    let line = |text: &str| one_line(text, limits.reason_bytes_max);
    let mut symbols = Vec::with_capacity(list.len());
    for one in list {
        if one.name.trim().is_empty() || !one.score.is_finite() {
            return Err(format!("the symbol {:?} has no name or the score {}", line(&one.name), one.score));
        }
        symbols.push(Symbol { name: line(&one.name), score: one.score, detail: one.detail.as_deref().map(line) });
    }
    Ok(HookAnswer::Symbols(symbols))
}

pub(crate) fn resolution(resolution: on_resolve::Resolution, verify: bool, limits: &PluginLimits) -> Converted<HookAnswer> {
    let resolution = match resolution {
        on_resolve::Resolution::NotMine => Resolution::NotMine,
        on_resolve::Resolution::Unknown => Resolution::Unknown,
        on_resolve::Resolution::Unavailable(why) => Resolution::Unavailable(one_line(&why, limits.reason_bytes_max)),
        on_resolve::Resolution::Targets(expansion) => {
            if expansion.targets.len() > limits.targets_max {
                return Err(format!("a resolution has {} targets", expansion.targets.len()));
            }
            if expansion.targets.is_empty() && !verify {
                return Err("a resolution has no targets".to_owned());
            }
            let targets = expansion.targets.into_iter().map(target).collect::<Converted<_>>()?;
            Resolution::Targets(Expansion { targets, sender: expansion.sender.map(address).transpose()? })
        }
    };
    Ok(HookAnswer::Resolution(resolution))
}

fn target(target: on_resolve::Target) -> Converted<ExpansionTarget> {
    let clean = |text: String, what: &str| match text.is_empty() || text.contains(char::is_control) {
        true => Err(format!("invalid {what} as a target: {text:?}")),
        false => Ok(text),
    };
    match target {
        on_resolve::Target::Address(a) => Ok(ExpansionTarget::Address(address(a)?)),
        on_resolve::Target::Command(name) => Ok(ExpansionTarget::Command(clean(name, "command")?)),
        on_resolve::Target::File(path) => Ok(ExpansionTarget::File(clean(path, "file")?)),
    }
}

pub(crate) fn dispositions(
    list: Vec<(u32, on_deliver::Disposition)>,
    asked: &[ContextRecipient],
    clock: &dyn Clock,
    limits: &PluginLimits,
) -> Converted<HookAnswer> {
    let mut all: Vec<(u32, Disposition)> = Vec::with_capacity(list.len().min(asked.len()));
    for (index, answer) in list {
        if !asked.iter().any(|r| r.index == index) || all.iter().any(|(i, _)| *i == index) {
            return Err(format!("unknown or repeated recipient index {index}"));
        }
        all.push((index, disposition(answer, clock, limits)?));
    }
    Ok(HookAnswer::Dispositions(all))
}

fn disposition(disposition: on_deliver::Disposition, clock: &dyn Clock, limits: &PluginLimits) -> Converted<Disposition> {
    use on_deliver::Disposition as Wit;
    Ok(match disposition {
        Wit::Delivered(s) | Wit::Relayed(s) | Wit::Expanded(s) => Disposition::Delivered(status(s, 2, limits)?),
        Wit::Failed(s) => Disposition::Failed(status(s, 5, limits)?),
        Wit::Deferred(delay) => {
            let not_before = delay.not_before_seconds.map(|s| clock.now() + Duration::from_secs(u64::from(s)));
            Disposition::Deferred { status: status(delay.status, 4, limits)?, not_before }
        }
    })
}

fn status(status: on_deliver::Status, class: u8, limits: &PluginLimits) -> Converted<Status> {
    let enhanced: EnhancedCode = status.enhanced.parse().map_err(|e| format!("a disposition: {e}"))?;
    if enhanced.class != class || status.code.is_some_and(|code| code / 100 != u16::from(class)) {
        return Err(format!("a disposition has the status {enhanced} where one of class {class} belongs"));
    }
    let line = |text: String| one_line(&text, limits.reason_bytes_max);
    Ok(Status { code: status.code, enhanced, remote: status.remote.map(line), text: line(status.text) })
}
