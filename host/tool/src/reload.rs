//! Command `waxwing reload`: reload of the configuration.

use std::io::Write;

use waxwing_control::{Reloaded, Request, Response};

use crate::plugin::print_change;
use crate::queue::print_json;
use crate::text::clean;
use crate::{Client, ToolError};

/// Makes the server reload the configuration and prints the changes. A refused reload is an error.
pub(crate) fn reload(client: &mut Client, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let Response::Reloaded(reloaded) = client.ask(&Request::Reload)? else { return Err(ToolError::OtherAnswer) };
    if json { print_json(&reloaded, out) } else { print(&reloaded, out) }
}

fn print(reloaded: &Reloaded, out: &mut dyn Write) -> Result<(), ToolError> {
    writeln!(out, "{} is in service.", clean(&reloaded.file))?;
    for (label, listeners) in [("listens on", &reloaded.opened), ("listens no more on", &reloaded.closed)] {
        listeners.iter().try_for_each(|name| writeln!(out, "{label} {}", clean(name)))?;
    }
    reloaded.plugins.iter().try_for_each(|change| print_change(change, out))?;
    if !reloaded.next_start.is_empty() {
        writeln!(out, "From the next start on only: {}", clean(&reloaded.next_start.join(", ")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_what_waits_is_told() {
        let reloaded = Reloaded {
            file: "/etc/w.toml".into(),
            opened: vec!["alt on 127.0.0.1:2526".into()],
            next_start: vec!["queue_directory".into(), "runtime".into()],
            ..Reloaded::default()
        };
        let mut out = Vec::new();
        print(&reloaded, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "/etc/w.toml is in service.\nlistens on alt on 127.0.0.1:2526\nFrom the next start on only: queue_directory, runtime\n"
        );
    }
}
