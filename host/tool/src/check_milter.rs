//! `waxwing plugin check milter:…`: whether a milter is there, and what it wants.

use std::io::Write;
use std::time::Duration;

use serde_json::json;
use waxwing_milter::{Probe, ProbeError, probe};
use waxwing_types::Endpoint;

use crate::ToolError;
use crate::queue::print_json;

/// What comes before the place of a milter.
const PREFIX: &str = "milter:";
/// For connecting, and for the negotiation.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// The place of a milter, where the argument names one.
pub(crate) fn place(argument: &str) -> Option<&str> {
    argument.strip_prefix(PREFIX)
}

/// Connects, negotiates, and prints what was said. With `--json` a milter that is of no use is an object as well as an error.
pub(crate) fn check(place: &str, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let endpoint: Endpoint =
        place.parse().map_err(|error| ToolError::Milter(format!("\"{place}\" is no place of a milter: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(probe(&endpoint, PROBE_TIME));
    match (found, json) {
        (Ok(found), true) => print_json(&as_json(&endpoint, &found), out),
        (Ok(found), false) => print(&endpoint, &found, out),
        (Err(error), true) => {
            print_json(&json!({ "fits": false, "milter": endpoint.to_string(), "problem": error.to_string() }), out)?;
            Err(failed(&error))
        }
        (Err(error), false) => Err(failed(&error)),
    }
}

fn failed(error: &ProbeError) -> ToolError {
    ToolError::Milter(error.to_string())
}

fn as_json(endpoint: &Endpoint, found: &Probe) -> serde_json::Value {
    json!({
        "fits": true,
        "milter": endpoint.to_string(),
        "protocol": found.version,
        "changes": found.actions.words(),
        "steps": found.steps.words(),
        "macros": found.macros.iter().map(|(stage, names)| json!({ "stage": format!("{stage:?}"), "names": names })).collect::<Vec<_>>(),
    })
}

fn print(endpoint: &Endpoint, found: &Probe, out: &mut dyn Write) -> Result<(), ToolError> {
    let list = |words: String| if words.is_empty() { "nothing".to_owned() } else { words };
    writeln!(out, "{endpoint}: a milter, which speaks version {} of the protocol", found.version)?;
    writeln!(out, "  may      {}", list(found.actions.to_string()))?;
    writeln!(out, "  wants    {}", list(found.steps.to_string()))?;
    for (stage, names) in &found.macros {
        writeln!(out, "  macros   {stage:?}: {}", crate::text::clean(&names.join(" ")))?;
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
