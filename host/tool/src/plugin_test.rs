//! Command `waxwing plugin test`: a message through a plugin, as in a server.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use waxwing_types::{Source, Timestamp};

use crate::ToolError;
use crate::component::{BuiltinPlugins, ComponentSource, read_bounded_file};
use crate::formatting::sanitize;
use crate::options::GlobalOptions;
use crate::queue::print_json;
use crate::simulation::setup::{self, PluginArgs};
use crate::simulation::{Simulate, TestCase, TransactionOutcome, golden, report};

/// Maximum size of a test message, in bytes.
const MESSAGE_BYTES_MAX: u64 = 64 << 20;
/// Port of the simulated client.
const CLIENT_PORT: u16 = 40_000;
/// Fixed time for comparisons with a golden file: 2027-01-15 08:00:00 UTC.
const GOLDEN_TIME: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Arguments of `waxwing plugin test`.
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// Component file; or builtin:NAME
    file: String,
    /// Message file in the format of RFC 5322
    #[arg(long, value_name = "FILE")]
    eml: PathBuf,
    /// Envelope sender; empty for <>
    #[arg(long, value_name = "ADDRESS", default_value = "sender@example.org")]
    from: String,
    /// Envelope recipient; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "recipient@example.net")]
    rcpt: Vec<String>,
    /// IP address of the client
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]
    client: IpAddr,
    /// Name of the client by reverse lookup
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// Name of the client in EHLO
    #[arg(long, value_name = "NAME", default_value = "client.example.org")]
    helo: String,
    /// Name of the listener
    #[arg(long, value_name = "NAME", default_value = "smtp")]
    listener: String,
    #[command(flatten)]
    plugin: PluginArgs,
    /// Expected outcome; any other gives the exit code 1
    #[arg(long, value_name = "VERDICT")]
    expect: Option<TransactionOutcome>,
    /// Compare the report, without times and ids, with a golden file; a difference gives the exit code 1
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Write the golden file instead of a comparison
    #[arg(long, requires = "golden")]
    update: bool,
}

/// Simulates the transaction and prints the report.
pub(crate) fn run_test(
    args: &TestArgs,
    options: &GlobalOptions,
    builtin: BuiltinPlugins,
    simulator: &dyn Simulate,
    out: &mut dyn Write,
) -> Result<(), ToolError> {
    let source = ComponentSource::parse(&args.file);
    let setup = match &options.config {
        Some(file) => setup::replacing_in_file(&source, &args.plugin, file, builtin)?,
        None => setup::isolated(&source, &args.plugin, &args.rcpt, builtin)?,
    };
    let plugin = setup.plugin.clone();
    let test_case = test_case(args)?;
    let result = simulator.simulate(setup, std::slice::from_ref(&test_case))?;
    let [result] = result.as_slice() else { return Err(ToolError::Simulation("no transaction was simulated".to_owned())) };
    let mut json = report::as_json(&plugin, &test_case, result)?;
    if let Some(map) = json.as_object_mut() {
        map.insert("expected".to_owned(), serde_json::json!(args.expect));
    }
    match options.json {
        true => print_json(&json, out)?,
        false => report::print(&plugin, &test_case, result, out)?,
    }
    let mut failures = Vec::new();
    if let Some(file) = &args.golden {
        let lines = golden::compare(file, &golden::normalize(&json, result.id.as_deref())?, args.update)?;
        if !lines.is_empty() {
            let lines: Vec<_> = lines.iter().map(|line| sanitize(line)).collect();
            failures.push(format!("the report differs from {} (--update writes it anew):\n{}", file.display(), lines.join("\n")));
        }
    }
    if let Some(expected) = args.expect.filter(|expected| *expected != result.outcome) {
        let reply = sanitize(&result.reply).into_owned();
        failures.push(format!("expected {}, and it was {}: {reply}", expected.as_str(), result.outcome.as_str()));
    }
    if failures.is_empty() { Ok(()) } else { Err(ToolError::UnexpectedResult(failures.join("\n"))) }
}

fn test_case(args: &TestArgs) -> Result<TestCase, ToolError> {
    let content = with_crlf(&read_bounded_file(&args.eml, MESSAGE_BYTES_MAX)?);
    Ok(TestCase {
        peer: SocketAddr::new(args.client, CLIENT_PORT),
        client_name: args.client_name.clone(),
        listener: args.listener.clone(),
        source: Source::Smtp,
        helo: args.helo.clone(),
        esmtp: true,
        sender: args.from.clone(),
        mail_parameters: Vec::new(),
        recipients: args.rcpt.iter().map(|address| (address.clone(), Vec::new())).collect(),
        content: Some(content),
        // A fixed time makes dates written by plugins equal in each compared run.
        fixed_time: args.golden.as_ref().map(|_| GOLDEN_TIME),
    })
}

/// Converts bare LF to CRLF, as an SMTP client would, since files usually have LF line ends.
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
