//! Target `command_line`: one line of a client, without its CRLF.

use waxwing_smtp::Command;

/// Each accepted command prints as one line that is parsed as the same command.
pub fn command_line(input: &[u8]) {
    let line = input.get(..2048).unwrap_or(input);
    let Ok(command) = Command::parse(line) else { return };
    let printed = command.to_string();
    assert!(!printed.contains(['\r', '\n']), "two lines: {printed:?}");
    assert_eq!(Command::parse(printed.as_bytes()), Ok(command), "{printed:?}");
}
