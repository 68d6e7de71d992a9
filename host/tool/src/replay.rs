//! Command `waxwing replay`: recorded transactions with another version of a plugin.

mod compare;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use waxwing_config::{Config, Facts, LoadError, Plugin, PluginSource};
use waxwing_control::{RECORDING_PAGE_MAX, Request, Response};
use waxwing_pipeline::{RecordedBody, Recording};
use waxwing_types::QueueId;

use crate::component::{Builtin, Source};
use crate::queue::print_json;
use crate::rehearsal::cast::{self, PluginArgs};
use crate::rehearsal::{Cast, Rehearse, Scene};
use crate::text::{clean, count, exact_time, path, size};
use crate::{Client, ToolError};
use compare::Comparison;

/// Maximum number of recordings per command.
pub(crate) const LAST_MAX: u32 = 10_000;

/// Arguments of `waxwing replay`.
#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// Queue id of the recorded transaction
    #[arg(required_unless_present = "last")]
    id: Option<QueueId>,
    /// Replay the latest recorded transactions instead
    #[arg(long, value_name = "NUMBER", conflicts_with = "id", value_parser = clap::value_parser!(u32).range(1..=i64::from(LAST_MAX)))]
    last: Option<u32>,
    /// Component in place of the version in service; or builtin:NAME
    #[arg(long, value_name = "NEW.wasm")]
    plugin: String,
    #[command(flatten)]
    section: PluginArgs,
}

/// Fetches the recordings, simulates each, and prints the differences.
pub(crate) fn replay(
    client: &mut Client,
    args: &ReplayArgs,
    builtin: Builtin,
    simulator: &dyn Rehearse,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let recordings = match args.id {
        Some(id) => one(client, id)?,
        None => last(client, args.last.unwrap_or(1))?,
    };
    if recordings.is_empty() {
        return Err(ToolError::Rehearsal(
            "nothing is recorded; [recording] enabled = true records transactions from then on".to_owned(),
        ));
    }
    let setup = cast(running_config(client)?, args, builtin)?;
    let plugin = setup.plugin.clone();
    let test_cases: Vec<Scene> = recordings.iter().map(scene).collect();
    let results = simulator.rehearse(setup, &test_cases)?;
    let compared: Vec<Comparison> =
        recordings.iter().zip(&results).map(|(then, now)| Comparison::of(&plugin, then, now)).collect();
    for (recording, comparison) in recordings.iter().zip(&compared) {
        match json {
            true => print_json(&comparison.as_json(recording), out)?,
            false => print(recording, comparison, out)?,
        }
    }
    summary(&plugin, &recordings, &compared, json, out)
}

fn one(client: &mut Client, id: QueueId) -> Result<Vec<Recording>, ToolError> {
    let Response::Recordings { recordings, .. } = client.ask(&Request::Recording { id })? else {
        return Err(ToolError::OtherAnswer);
    };
    recordings.into_iter().map(|value| Ok(serde_json::from_value(value)?)).collect()
}

/// Fetches the latest recordings, oldest first.
fn last(client: &mut Client, wanted: u32) -> Result<Vec<Recording>, ToolError> {
    let mut all: Vec<Recording> = Vec::new();
    let mut before = None;
    loop {
        let limit = wanted.saturating_sub(u32::try_from(all.len()).unwrap_or(u32::MAX)).min(RECORDING_PAGE_MAX);
        let Response::Recordings { recordings, next } = client.ask(&Request::RecordingLast { before, limit })? else {
            return Err(ToolError::OtherAnswer);
        };
        for value in recordings {
            all.push(serde_json::from_value(value)?);
        }
        before = next;
        if before.is_none() || all.len() >= wanted as usize {
            all.reverse();
            return Ok(all);
        }
    }
}

/// Fetches the configuration of the running server, independent of the current file.
fn running_config(client: &mut Client) -> Result<Config, ToolError> {
    let Response::Config { file, text } = client.ask(&Request::ConfigShow)? else { return Err(ToolError::OtherAnswer) };
    let facts = Facts { root: false, ..Facts::from_system() };
    Ok(Config::parse(Path::new(&file), &text, &facts).map_err(LoadError::from)?)
}

/// Replaces a plugin in the server's configuration: the plugin of the given name, or else the only plugin loaded from a file.
fn cast(config: Config, args: &ReplayArgs, builtin: Builtin) -> Result<Cast, ToolError> {
    let source = Source::parse(&args.plugin);
    let is_from_file = |plugin: &&Plugin| plugin.enabled && matches!(plugin.source(), PluginSource::File(_));
    let from_files: Vec<&Plugin> = config.plugins.iter().filter(is_from_file).collect();
    let wanted = args.section.name.clone().unwrap_or_else(|| source.name());
    let name = match (config.plugins.iter().any(|plugin| plugin.name == wanted), from_files.as_slice()) {
        (true, _) => wanted,
        (false, [only]) if args.section.name.is_none() => only.name.clone(),
        (false, _) => {
            let names: Vec<&str> = config.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
            let text = format!("the server has no plugin \"{wanted}\"; give --name, one of {}", names.join(", "));
            return Err(ToolError::Rehearsal(text));
        }
    };
    cast::exchanged(&source, &PluginArgs { name: Some(name), ..args.section.clone() }, config, builtin)
}

fn scene(recording: &Recording) -> Scene {
    Scene {
        peer: recording.peer.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        client_name: recording.client_name.clone(),
        listener: recording.listener.clone(),
        via: recording.via,
        helo: recording.helo.clone(),
        esmtp: recording.esmtp,
        sender: recording.sender.clone(),
        // The server would refuse a redacted AUTH value.
        mail_parameters: recording.mail_parameters.iter().filter(|(keyword, _)| keyword != "AUTH").cloned().collect(),
        recipients: recording.recipients.clone(),
        content: recording.head.as_ref().map(|head| content(head, &recording.body)),
        at: Some(recording.at),
    }
}

/// Rebuilds the message; a placeholder line stands for a missing body.
fn content(header: &Bytes, body: &RecordedBody) -> Bytes {
    let mut out = BytesMut::from(&header[..]);
    match body {
        RecordedBody::None => {}
        RecordedBody::Whole(body) => out.extend_from_slice(body),
        RecordedBody::Redacted { size } | RecordedBody::TooLarge { size } => {
            out.extend_from_slice(format!("(redacted: {size} octets)\r\n").as_bytes());
        }
    }
    out.freeze()
}

/// Describes the missing parts of a recording.
fn left_out(recording: &Recording) -> Vec<String> {
    let body = match &recording.body {
        RecordedBody::None | RecordedBody::Whole(_) => None,
        RecordedBody::Redacted { size: octets } => Some(format!("body redacted, {}", size(*octets))),
        RecordedBody::TooLarge { size: octets } => Some(format!("body not recorded, {}", size(*octets))),
    };
    body.into_iter().chain(recording.redacted_headers.iter().map(|name| format!("{name} redacted"))).collect()
}

fn print(recording: &Recording, comparison: &Comparison, out: &mut dyn Write) -> Result<(), ToolError> {
    let to: Vec<String> = recording.recipients.iter().map(|(address, _)| path(address)).collect();
    let missing = left_out(recording);
    let missing = if missing.is_empty() { String::new() } else { format!(" [{}]", clean(&missing.join("; "))) };
    let at = exact_time(recording.at);
    writeln!(out, "{}  {at} from {} to {}{missing}", recording.id, path(&recording.sender), to.join(", "))?;
    if comparison.is_same() {
        return Ok(writeln!(out, "  same: {}", clean(&comparison.now.said()))?);
    }
    writeln!(out, "  then: {}", clean(&comparison.then.said()))?;
    writeln!(out, "  now:  {}", clean(&comparison.now.said()))?;
    comparison.differences.iter().try_for_each(|line| Ok(writeln!(out, "    {}", clean(line))?))
}

fn summary(
    plugin: &str,
    recordings: &[Recording],
    compared: &[Comparison],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let mut changes: BTreeMap<String, u64> = BTreeMap::new();
    for comparison in compared.iter().filter(|c| c.then.verdict != c.now.verdict) {
        *changes.entry(format!("{} -> {}", comparison.then.verdict, comparison.now.verdict)).or_default() += 1;
    }
    let same = compared.iter().filter(|comparison| comparison.is_same()).count();
    let redacted = recordings.iter().filter(|recording| !left_out(recording).is_empty()).count();
    if json {
        let summary = json!({
            "plugin": plugin,
            "transactions": compared.len(),
            "same": same,
            "different": compared.len() - same,
            "verdicts": changes,
            "redacted": redacted,
        });
        return print_json(&json!({ "summary": summary }), out);
    }
    let different = compared.len() - same;
    writeln!(out, "\n{plugin}: {}, {same} the same, {different} different", count(compared.len() as u64, "transaction"))?;
    changes.iter().try_for_each(|(change, n)| writeln!(out, "  {change}: {n}"))?;
    if redacted > 0 {
        writeln!(
            out,
            "Of {} a part was not recorded: a plugin that reads it may have decided otherwise.",
            count(redacted as u64, "transaction")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
