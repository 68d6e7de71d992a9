//! Parent process: kills the child, reopens the spool and compares.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child;
use crate::content::TestRng;
use crate::model::Model;

/// Way to end a child process.
#[derive(Clone, Copy, Debug)]
pub enum ChildEnd<'a> {
    /// SIGKILL after the given time.
    Kill(Duration),
    /// Abort at the nth pass of the named crash point.
    CrashPoint(&'a str, u64),
}

/// Runs a child to the end and feeds the report lines to the model.
pub fn run_child(program: &Path, directory: &Path, messages: u64, end: ChildEnd<'_>, model: &mut Model) -> Result<ExitStatus> {
    let mut command = Command::new(program);
    command.arg("child").arg(directory).arg(messages.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    if let ChildEnd::CrashPoint(point, nth) = end {
        command.env("WAXWING_CRASH_POINT", point).env("WAXWING_CRASH_AFTER", nth.to_string());
    }
    let mut running = command.spawn()?;
    let out = running.stdout.take().context("there is no pipe")?;
    let reader = std::thread::spawn(move || -> std::io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut out = BufReader::new(out);
        let mut line = String::new();
        // A line truncated by the kill does not count as reported.
        while out.read_line(&mut line)? > 0 && line.ends_with('\n') {
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        Ok(lines)
    });
    if let ChildEnd::Kill(after) = end {
        std::thread::sleep(after);
        running.kill()?;
    }
    let status = running.wait()?;
    let lines = reader.join().expect("the reader panicked")?;
    lines.iter().try_for_each(|line| model.apply_line(line))?;
    Ok(status)
}

/// Opens the spool and compares the contents with the model.
pub fn verify(directory: &Path, model: &mut Model) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let spool = child::open(directory).await?;
        let names = std::fs::read_dir(directory.join("bodies"))?;
        let names = names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        model.verify(&spool, names.collect::<std::io::Result<BTreeSet<String>>>()?).await
    })
}

/// Kills a child at a random time, repeatedly on the same store.
pub fn kill_rounds(program: &Path, directory: &Path, rounds: u32, longest: Duration, seed: u64) -> Result<Model> {
    let mut model = Model::default();
    let mut dice = TestRng::new(seed);
    for round in 1..=rounds {
        let after = Duration::from_millis(100 + dice.below(longest.as_millis() as u64));
        let status = run_child(program, directory, u64::MAX, ChildEnd::Kill(after), &mut model)?;
        ensure!(status.code().is_none(), "the child ended by itself: {status}");
        verify(directory, &mut model).with_context(|| format!("round {round}, killed after {after:?}, seed {seed}"))?;
        println!(
            "round {round}: killed after {} ms; acknowledged so far {} enqueues, {} settlings; {} messages in the spool",
            after.as_millis(),
            model.enqueued,
            model.settled,
            model.len()
        );
    }
    Ok(model)
}
