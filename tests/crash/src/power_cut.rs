//! Power cut: all unsynced data of the store and of the body files is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use waxwing_queue::{BodyFiles, EmbeddedSpool, KEYSPACES, LossyBodyFiles, SpoolSettings};
use waxwing_store::{LossyEngine, Store, StoreOptions};
use waxwing_testkit::RealClock;

use crate::model::Model;
use crate::workload::{Active, Workload};

/// Injected defect that the comparison must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// No defect, as in production.
    None,
    /// Committer answers before the sync.
    AckBeforeSync,
    /// Body files are not synced before a record refers to a file.
    FilesNotSynced,
}

/// Simulated disk with store and body files.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    engine: LossyEngine,
    files: LossyBodyFiles,
}

/// Runs the workload until the power is cut in the sync after `syncs` syncs, and compares the remaining data with the model: the inner
/// result.
pub async fn power_cut(disk: &mut SimulatedDisk, model: &mut Model, syncs: u64, defect: Defect) -> Result<Result<()>> {
    let spool = open(disk, defect).await?;
    disk.engine.kill_after(syncs);
    if defect == Defect::FilesNotSynced {
        disk.files.ignore_syncs();
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    let report = {
        let lines = lines.clone();
        Arc::new(move |line: String| lines.lock().push(line))
    };
    let clock = Arc::new(RealClock::start());
    let ended = Workload { spool, report, clock, messages: u64::MAX, active: Active::default() }.run().await;
    anyhow::ensure!(ended.is_err(), "the power was never cut");
    let lines = std::mem::take(&mut *lines.lock());
    lines.iter().try_for_each(|line| model.apply_line(line))?;
    *disk = SimulatedDisk { engine: disk.engine.restart(), files: disk.files.restart() };
    let spool = open(disk, Defect::None).await?;
    let names: BTreeSet<String> = disk.files.names()?.into_iter().collect();
    Ok(model.verify(&spool, names).await)
}

async fn open(disk: &SimulatedDisk, defect: Defect) -> Result<EmbeddedSpool> {
    let options = StoreOptions { ack_before_sync: defect == Defect::AckBeforeSync, ..StoreOptions::new(&KEYSPACES) };
    let store = Store::with_engine(Arc::new(disk.engine.clone()), &options)?;
    let settings = SpoolSettings { queue_minfree: 0, ..SpoolSettings::new(1 << 20, Arc::new(RealClock::start())) };
    Ok(EmbeddedSpool::open_with(&store, Arc::new(disk.files.clone()), settings).await?)
}
