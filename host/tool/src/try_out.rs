//! `waxwing plugin test`: one message through a plugin, as a server would take it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use waxwing_types::{Timestamp, Via};

use crate::ToolError;
use crate::command::Options;
use crate::component::{Builtin, Source, read_file};
use crate::queue::print_json;
use crate::rehearsal::cast::{self, PluginArgs};
use crate::rehearsal::{Ending, Rehearse, Scene, golden, report};
use crate::text::clean;

/// Octets of a message.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// The client's port, which no plugin should care about.
const CLIENT_PORT: u16 = 40_000;
/// When messages come whose report is compared with a golden file: 2027-01-15 08:00:00 UTC.
const GOLDEN_TIME: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// `waxwing plugin test`
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// The component; or builtin:NAME
    file: String,
    /// The message
    #[arg(long, value_name = "FILE")]
    eml: PathBuf,
    /// Envelope sender; empty for <>
    #[arg(long, value_name = "ADDRESS", default_value = "sender@example.org")]
    from: String,
    /// Envelope recipient; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "recipient@example.net")]
    rcpt: Vec<String>,
    /// Where the client is
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]
    client: IpAddr,
    /// The client's name by reverse lookup
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// What the client says after EHLO
    #[arg(long, value_name = "NAME", default_value = "client.example.org")]
    helo: String,
    /// The listener that it comes to
    #[arg(long, value_name = "NAME", default_value = "smtp")]
    listener: String,
    #[command(flatten)]
    plugin: PluginArgs,
    /// How it has to end; otherwise the exit code is 1
    #[arg(long, value_name = "VERDICT")]
    expect: Option<Ending>,
    /// Compare the report, without times and ids, with this file; a difference gives the exit code 1
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Write the golden file
    #[arg(long, requires = "golden")]
    update: bool,
}

/// Plays it and prints what was seen.
pub(crate) fn test(
    args: &TestArgs,
    options: &Options,
    builtin: Builtin,
    stage: &dyn Rehearse,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let source = Source::parse(&args.file);
    let cast = match &options.config {
        Some(file) => cast::among(&source, &args.plugin, file, builtin)?,
        None => cast::alone(&source, &args.plugin, &args.rcpt, builtin)?,
    };
    let plugin = cast.plugin.clone();
    let scene = scene(args)?;
    let seen = stage.rehearse(cast, std::slice::from_ref(&scene))?;
    let [seen] = seen.as_slice() else { return Err(ToolError::Rehearsal("nothing was played".to_owned())) };
    let mut json = report::as_json(&plugin, &scene, seen)?;
    if let Some(map) = json.as_object_mut() {
        map.insert("expected".to_owned(), serde_json::json!(args.expect));
    }
    match options.json {
        true => print_json(&json, out)?,
        false => report::print(&plugin, &scene, seen, out)?,
    }
    let mut unlike = Vec::new();
    if let Some(file) = &args.golden {
        let lines = golden::compare(file, &golden::steady(&json, seen.id.as_deref())?, args.update)?;
        if !lines.is_empty() {
            let lines: Vec<_> = lines.iter().map(|line| clean(line)).collect();
            unlike.push(format!("the report differs from {} (--update writes it anew):\n{}", file.display(), lines.join("\n")));
        }
    }
    if let Some(expected) = args.expect.filter(|expected| *expected != seen.ending) {
        let reply = clean(&seen.reply).into_owned();
        unlike.push(format!("expected {}, and it was {}: {reply}", expected.as_str(), seen.ending.as_str()));
    }
    if unlike.is_empty() { Ok(()) } else { Err(ToolError::NotAsExpected(unlike.join("\n"))) }
}

fn scene(args: &TestArgs) -> Result<Scene, ToolError> {
    let content = with_crlf(&read_file(&args.eml, MESSAGE_BYTES_MAX)?);
    Ok(Scene {
        peer: SocketAddr::new(args.client, CLIENT_PORT),
        client_name: args.client_name.clone(),
        listener: args.listener.clone(),
        via: Via::Smtp,
        helo: args.helo.clone(),
        esmtp: true,
        sender: args.from.clone(),
        mail_parameters: Vec::new(),
        recipients: args.rcpt.iter().map(|address| (address.clone(), Vec::new())).collect(),
        content: Some(content),
        // Dates that a plugin writes must be the same in each run that is compared.
        at: args.golden.as_ref().map(|_| GOLDEN_TIME),
    })
}

/// A message as a client sends it: files usually end their lines with LF alone.
fn with_crlf(octets: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32 + 2);
    let mut before = 0;
    for &octet in octets {
        if octet == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        before = octet;
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_crlf() {
        assert_eq!(with_crlf(b"a\nb\r\nc"), &b"a\r\nb\r\nc\r\n"[..]);
        assert_eq!(with_crlf(b""), &b""[..]);
    }
}
