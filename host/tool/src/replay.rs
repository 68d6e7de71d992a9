//! Command `waxwing replay`: recorded transactions with another version of a plugin.

mod comparison;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use waxwing_config::{Config, ConfigError, HostEnvironment, PluginConfig, PluginSource};
use waxwing_control::{ControlRequest, ControlResponse, RECORDING_PAGE_MAX};
use waxwing_pipeline::{RecordedBody, Recording};
use waxwing_types::QueueId;

use crate::component::{BuiltinPlugins, ComponentSource};
use crate::formatting::{format_count, format_path, format_size, format_time_millis, sanitize};
use crate::queue::print_json;
use crate::simulation::setup::{self, PluginArgs};
use crate::simulation::{Simulate, TestCase, TestSetup};
use crate::{ControlClient, ToolError};
use comparison::Comparison;

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
    client: &mut ControlClient,
    args: &ReplayArgs,
    builtin: BuiltinPlugins,
    simulator: &dyn Simulate,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let recordings = match args.id {
        Some(id) => fetch_recording(client, id)?,
        None => fetch_latest(client, args.last.unwrap_or(1))?,
    };
    if recordings.is_empty() {
        return Err(ToolError::Simulation(
            "nothing is recorded; [recording] enabled = true records transactions from then on".to_owned(),
        ));
    }
    let setup = test_setup(running_config(client)?, args, builtin)?;
    let plugin = setup.plugin.clone();
    let test_cases: Vec<TestCase> = recordings.iter().map(test_case).collect();
    let results = simulator.simulate(setup, &test_cases)?;
    let compared: Vec<Comparison> =
        recordings.iter().zip(&results).map(|(then, now)| Comparison::new(&plugin, then, now)).collect();
    for (recording, comparison) in recordings.iter().zip(&compared) {
        match json {
            true => print_json(&comparison.as_json(recording), out)?,
            false => print(recording, comparison, out)?,
        }
    }
    summary(&plugin, &recordings, &compared, json, out)
}

fn fetch_recording(client: &mut ControlClient, id: QueueId) -> Result<Vec<Recording>, ToolError> {
    let ControlResponse::Recordings { recordings, .. } = client.request(&ControlRequest::Recording { id })? else {
        return Err(ToolError::UnexpectedResponse);
    };
    recordings.into_iter().map(|value| Ok(serde_json::from_value(value)?)).collect()
}

/// Fetches the latest recordings, oldest first.
fn fetch_latest(client: &mut ControlClient, wanted: u32) -> Result<Vec<Recording>, ToolError> {
    let mut all: Vec<Recording> = Vec::new();
    let mut before = None;
    loop {
        let limit = wanted.saturating_sub(u32::try_from(all.len()).unwrap_or(u32::MAX)).min(RECORDING_PAGE_MAX);
        let ControlResponse::Recordings { recordings, next } =
            client.request(&ControlRequest::RecordingLast { before, limit })?
        else {
            return Err(ToolError::UnexpectedResponse);
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
fn running_config(client: &mut ControlClient) -> Result<Config, ToolError> {
    let ControlResponse::Config { file, text } = client.request(&ControlRequest::ConfigShow)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    let facts = HostEnvironment { is_root: false, ..HostEnvironment::from_system() };
    Ok(Config::parse(Path::new(&file), &text, &facts).map_err(ConfigError::from)?)
}

/// Replaces a plugin in the server's configuration: the plugin of the given name, or else the only plugin loaded from a file.
fn test_setup(config: Config, args: &ReplayArgs, builtin: BuiltinPlugins) -> Result<TestSetup, ToolError> {
    let source = ComponentSource::parse(&args.plugin);
    let is_from_file = |plugin: &&PluginConfig| plugin.enabled && matches!(plugin.source(), PluginSource::File(_));
    let from_files: Vec<&PluginConfig> = config.plugins.iter().filter(is_from_file).collect();
    let wanted = args.section.name.clone().unwrap_or_else(|| source.name());
    let name = match (config.plugins.iter().any(|plugin| plugin.name == wanted), from_files.as_slice()) {
        (true, _) => wanted,
        (false, [only]) if args.section.name.is_none() => only.name.clone(),
        (false, _) => {
            let names: Vec<&str> = config.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
            let text = format!("the server has no plugin \"{wanted}\"; give --name, one of {}", names.join(", "));
            return Err(ToolError::Simulation(text));
        }
    };
    setup::replacing(&source, &PluginArgs { name: Some(name), ..args.section.clone() }, config, builtin)
}

fn test_case(recording: &Recording) -> TestCase {
    TestCase {
        peer: recording.peer.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        client_name: recording.client_name.clone(),
        listener: recording.listener.clone(),
        source: recording.source,
        helo: recording.helo.clone(),
        esmtp: recording.esmtp,
        sender: recording.sender.clone(),
        // The server would refuse a redacted AUTH value.
        mail_parameters: recording.mail_parameters.iter().filter(|(keyword, _)| keyword != "AUTH").cloned().collect(),
        recipients: recording.recipients.clone(),
        content: recording.header.as_ref().map(|head| recorded_message(head, &recording.body)),
        fixed_time: Some(recording.at),
    }
}

/// Rebuilds the message; a placeholder line stands for a missing body.
fn recorded_message(header: &Bytes, body: &RecordedBody) -> Bytes {
    let mut out = BytesMut::from(&header[..]);
    match body {
        RecordedBody::None => {}
        RecordedBody::Complete(body) => out.extend_from_slice(body),
        RecordedBody::Redacted { size } | RecordedBody::TooLarge { size } => {
            out.extend_from_slice(format!("(redacted: {size} octets)\r\n").as_bytes());
        }
    }
    out.freeze()
}

/// Describes the missing parts of a recording.
fn missing_parts(recording: &Recording) -> Vec<String> {
    let body = match &recording.body {
        RecordedBody::None | RecordedBody::Complete(_) => None,
        RecordedBody::Redacted { size: octets } => Some(format!("body redacted, {}", format_size(*octets))),
        RecordedBody::TooLarge { size: octets } => Some(format!("body not recorded, {}", format_size(*octets))),
    };
    body.into_iter().chain(recording.redacted_headers.iter().map(|name| format!("{name} redacted"))).collect()
}

fn print(recording: &Recording, comparison: &Comparison, out: &mut dyn Write) -> Result<(), ToolError> {
    let to: Vec<String> = recording.recipients.iter().map(|(address, _)| format_path(address)).collect();
    let missing = missing_parts(recording);
    let missing = if missing.is_empty() { String::new() } else { format!(" [{}]", sanitize(&missing.join("; "))) };
    let at = format_time_millis(recording.at);
    writeln!(out, "{}  {at} from {} to {}{missing}", recording.id, format_path(&recording.sender), to.join(", "))?;
    if comparison.is_same() {
        return Ok(writeln!(out, "  same: {}", sanitize(&comparison.replayed.summary()))?);
    }
    writeln!(out, "  then: {}", sanitize(&comparison.recorded.summary()))?;
    writeln!(out, "  now:  {}", sanitize(&comparison.replayed.summary()))?;
    comparison.differences.iter().try_for_each(|line| Ok(writeln!(out, "    {}", sanitize(line))?))
}

fn summary(
    plugin: &str,
    recordings: &[Recording],
    compared: &[Comparison],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let mut changes: BTreeMap<String, u64> = BTreeMap::new();
    for comparison in compared.iter().filter(|c| c.recorded.verdict != c.replayed.verdict) {
        *changes.entry(format!("{} -> {}", comparison.recorded.verdict, comparison.replayed.verdict)).or_default() += 1;
    }
    let same = compared.iter().filter(|comparison| comparison.is_same()).count();
    let redacted = recordings.iter().filter(|recording| !missing_parts(recording).is_empty()).count();
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
    writeln!(out, "\n{plugin}: {}, {same} the same, {different} different", format_count(compared.len() as u64, "transaction"))?;
    changes.iter().try_for_each(|(change, n)| writeln!(out, "  {change}: {n}"))?;
    if redacted > 0 {
        writeln!(
            out,
            "Of {} a part was not recorded: a plugin that reads it may have decided otherwise.",
            format_count(redacted as u64, "transaction")
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
