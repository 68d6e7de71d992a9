//! Command `waxwing-crash --rounds 50 [--millis 2500] [--seed N] [DIRECTORY]`: kills a spool under load repeatedly and compares the
//! contents.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use waxwing_crash::{child, rounds};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut count, mut millis, mut seed, mut directory) = (50, 2500, u64::from(std::process::id()), None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "child" => {
                let directory = PathBuf::from(value()?);
                return child::run(&directory, value()?.parse()?);
            }
            "--rounds" => count = value()?.parse()?,
            "--millis" => millis = value()?.parse()?,
            "--seed" => seed = value()?.parse()?,
            other if other.starts_with('-') => bail!("unknown option {other}"),
            other => directory = Some(PathBuf::from(other)),
        }
    }
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().join(format!("waxwing-crash-{}", std::process::id())));
    std::fs::create_dir_all(&directory)?;
    let model = rounds::kill_rounds(&std::env::current_exe()?, &directory, count, Duration::from_millis(millis), seed)?;
    println!("{count} rounds, {} enqueues and {} settlings acknowledged: none lost, none corrupt", model.enqueued, model.settled);
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
