//! Execution of external programs.
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;

/// Output lines that may wait between the reader threads and the consumer.
const LINES_WAITING_MAX: usize = 1024;

/// Runs a program that must succeed, with its output shown.
pub(crate) fn run_step(program: &str, arguments: &[&str]) -> Result<(), String> {
    let shown = format!("{program} {}", arguments.join(" "));
    eprintln!("+ {shown}");
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{shown}` ended with {status}")),
        Err(error) => Err(format!("`{shown}`: {error}")),
    }
}

/// Returns the standard output of a program; `None` if the program is missing or fails.
pub(crate) fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tells whether a program is found in `PATH`, `/usr/sbin` or `/sbin`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| std::path::Path::new(folder).join(program).is_file())
}

/// Runs a program, prints every output line and passes the line to `see`; returns whether the program succeeded.
pub(crate) fn run_observed(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    let (sender, lines) = mpsc::sync_channel(LINES_WAITING_MAX);
    let readers = [
        child.stdout.take().map(|pipe| forward_lines(Box::new(pipe), sender.clone())),
        child.stderr.take().map(|pipe| forward_lines(Box::new(pipe), sender.clone())),
    ];
    drop(sender);
    for line in lines {
        println!("{line}");
        see(&line);
    }
    let status = child.wait().map_err(|error| format!("wait: {error}"))?;
    for reader in readers.into_iter().flatten() {
        reader.join().map_err(|_| "a reader of the output panicked".to_owned())?;
    }
    std::io::stdout().flush().map_err(|error| format!("output: {error}"))?;
    Ok(status.success())
}

fn forward_lines(pipe: Box<dyn Read + Send>, lines: mpsc::SyncSender<String>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    })
}
