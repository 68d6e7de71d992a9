//! Child process that runs the workload and is killed.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_store::{Store, StoreOptions};
use waxwing_testkit::RealClock;

use crate::workload::{Active, Workload};

/// Small memtables, so that kills also hit flushes and compactions.
fn options() -> StoreOptions {
    StoreOptions { memtable_bytes: 2 << 20, ..StoreOptions::new(&KEYSPACES) }
}

/// Opens the spool in the directory.
pub async fn open(directory: &Path) -> Result<EmbeddedSpool> {
    let store = Store::open(&directory.join("store"), &options())?;
    let settings = SpoolSettings { queue_minfree: 0, ..SpoolSettings::new(1 << 20, Arc::new(RealClock::start())) };
    Ok(EmbeddedSpool::open(&store, &directory.join("bodies"), settings).await?)
}

/// Runs the workload and reports on standard output, until killed or until `messages` messages are processed.
pub fn run(directory: &Path, messages: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let spool = open(directory).await?;
        let report = Arc::new(|line: String| {
            // A single write per line: bytes accepted by a pipe survive the kill.
            let mut out = std::io::stdout().lock();
            drop(out.write_all(format!("{line}\n").as_bytes()));
            drop(out.flush());
        });
        let clock = Arc::new(RealClock::start());
        Workload { spool, report, clock, messages, active: Active::default() }.run().await?;
        Ok(())
    })
}
