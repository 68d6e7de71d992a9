//! Command `waxwing reload`: reload of the configuration.

use std::io::Write;

use waxwing_control::{ControlRequest, ControlResponse, ReloadReport};

use crate::formatting::sanitize;
use crate::plugin::print_change;
use crate::queue::print_json;
use crate::{ControlClient, ToolError};

/// Makes the server reload the configuration and prints the changes. A refused reload is an error.
pub(crate) fn reload(client: &mut ControlClient, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let ControlResponse::Reloaded(reloaded) = client.request(&ControlRequest::Reload)? else {
        return Err(ToolError::UnexpectedResponse);
    };
    if json { print_json(&reloaded, out) } else { print(&reloaded, out) }
}

fn print(reloaded: &ReloadReport, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "{} is in service.", sanitize(&reloaded.file))?;
    for (label, listeners) in [("listens on", &reloaded.opened), ("listens no more on", &reloaded.closed)] {
        listeners.iter().try_for_each(|name| writeln!(out, "{label} {}", sanitize(name)))?;
    }
    reloaded.plugins.iter().try_for_each(|change| print_change(change, out))?;
    if !reloaded.next_start.is_empty() {
        writeln!(out, "From the next start on only: {}", sanitize(&reloaded.next_start.join(", ")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_what_waits_is_told() {
        let reloaded = ReloadReport {
            file: "/etc/w.toml".into(),
            opened: vec!["alt on 127.0.0.1:2526".into()],
            next_start: vec!["queue_directory".into(), "runtime".into()],
            ..ReloadReport::default()
        };
        let mut out = Vec::new();
        print(&reloaded, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "/etc/w.toml is in service.\nlistens on alt on 127.0.0.1:2526\nFrom the next start on only: queue_directory, runtime\n"
        );
    }
}
