//! Command `waxwing plugin check milter:…`: reachability and negotiated options of a milter.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use waxwing_milter::{MilterProbe, MilterProbeError, probe_milter};
use waxwing_types::Endpoint;

use crate::ToolError;
use crate::queue::print_json;

/// Prefix of a milter address in the arguments.
const MILTER_PREFIX: &str = "milter:";
/// Timeout of connection and option negotiation.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the address of a milter argument; `None` for other arguments.
pub(crate) fn milter_address(argument: &str) -> Option<&str> {
    argument.strip_prefix(MILTER_PREFIX)
}

/// Connects, negotiates and prints the milter's options. With `--json` an unusable milter is an object as well as an error.
pub(crate) fn check(address: &str, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let endpoint: Endpoint =
        address.parse().map_err(|error| ToolError::Milter(format!("\"{address}\" is not a milter address: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = runtime.block_on(probe_milter(&endpoint, PROBE_TIMEOUT));
    match (options, json) {
        (Ok(options), true) => print_json(&as_json(&endpoint, &options), out),
        (Ok(options), false) => print(&endpoint, &options, out),
        (Err(error), true) => {
            print_json(&json!({ "fits": false, "milter": endpoint.to_string(), "problem": error.to_string() }), out)?;
            Err(to_tool_error(&error))
        }
        (Err(error), false) => Err(to_tool_error(&error)),
    }
}

fn to_tool_error(error: &MilterProbeError) -> ToolError {
    ToolError::Milter(error.to_string())
}

fn as_json(endpoint: &Endpoint, options: &MilterProbe) -> serde_json::Value {
    json!({
        "fits": true,
        "milter": endpoint.to_string(),
        "protocol": options.version,
        "changes": options.actions.words(),
        "steps": options.protocol.words(),
        "macros": options.macros.iter().map(|(stage, names)| json!({ "stage": format!("{stage:?}"), "names": names })).collect::<Vec<_>>(),
    })
}

fn print(endpoint: &Endpoint, options: &MilterProbe, out: &mut dyn Write) -> Result<(), ToolError> {
    let list = |words: String| if words.is_empty() { "nothing".to_owned() } else { words };
    writeln!(out, "{endpoint}: a milter, which speaks version {} of the protocol", options.version)?;
    writeln!(out, "  may      {}", list(options.actions.to_string()))?;
    writeln!(out, "  wants    {}", list(options.protocol.to_string()))?;
    for (stage, names) in &options.macros {
        writeln!(out, "  macros   {stage:?}: {}", crate::formatting::sanitize(&names.join(" ")))?;
    }
    writeln!(out, "\nTo use it, add to the configuration:\n\n[plugins.NAME]\nmilter = \"{endpoint}\"")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_milter_that_is_not_there_is_said_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = format!("inet:{}@127.0.0.1", listener.local_addr().unwrap().port());
        drop(listener);
        let mut out = Vec::new();
        let error = check(&place, true, &mut out).unwrap_err().to_string();
        assert!(error.starts_with(&format!("the milter at {place} cannot be reached: ")), "{error}");
        let said: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((said["fits"].as_bool(), said["problem"].as_str()), (Some(false), Some(error.as_str())));
        let error = check("tcp:1", false, &mut out).unwrap_err().to_string();
        assert!(error.contains("write it as \"inet:PORT@HOST\""), "{error}");
    }

    #[test]
    fn a_milter_that_answers_is_described() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = format!("inet:{}@127.0.0.1", listener.local_addr().unwrap().port());
        let milter = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut offer = [0; 17];
            stream.read_exact(&mut offer).unwrap();
            stream.write_all(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\x11\0\0\0\x10").unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            rest
        });
        let mut out = Vec::new();
        check(&place, false, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "{place}: a milter, which speaks version 6 of the protocol\n  may      add header fields, change header fields\n  \
                 wants    no body\n\nTo use it, add to the configuration:\n\n[plugins.NAME]\nmilter = \"{place}\"\n"
            )
        );
        assert_eq!(milter.join().unwrap(), b"\0\0\0\x01Q", "it says good-bye");
    }
}
