//! No acknowledged message is lost, whatever ends the process.

use std::path::Path;
use std::time::Duration;

use waxwing_crash::CRASH_POINTS;
use waxwing_crash::model::Model;
use waxwing_crash::power_cut::{Defect, SimulatedDisk, power_cut};
use waxwing_crash::rounds::{ChildEnd, kill_rounds, run_child, verify};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_waxwing-crash"))
}

#[test]
fn kills_at_random_times_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let model = kill_rounds(program(), directory.path(), 10, Duration::from_millis(500), 20_261_124).unwrap();
    assert!(model.enqueued > 0 && model.settled > 0, "the children did nothing");
}

/// A store is made by many steps, and a process that is killed between any two of them must find its way at the next start.
#[test]
fn kills_at_the_first_start_leave_a_store_that_opens() {
    for after in (0..120).step_by(3) {
        let (directory, mut model) = (tempfile::tempdir().unwrap(), Model::default());
        run_child(program(), directory.path(), u64::MAX, ChildEnd::Kill(Duration::from_millis(after)), &mut model).unwrap();
        verify(directory.path(), &mut model).unwrap_or_else(|error| panic!("killed after {after} ms: {error:#}"));
    }
}

#[test]
fn an_end_at_any_named_place_loses_nothing() {
    for point in CRASH_POINTS {
        let directory = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        for nth in [1, 7, 20] {
            let end = ChildEnd::CrashPoint(point, nth);
            let status = run_child(program(), directory.path(), 3000, end, &mut model).unwrap();
            assert!(!status.success() && status.code().is_none(), "{point} was not passed {nth} times: {status}");
            verify(directory.path(), &mut model).unwrap_or_else(|error| panic!("{point}, pass {nth}: {error:#}"));
        }
    }
}

/// Without a crash the workload ends by itself: the end at a named place is what ended the others.
#[test]
fn a_workload_that_is_left_alone_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let status = run_child(program(), directory.path(), 300, ChildEnd::CrashPoint("nowhere", 1), &mut model).unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(model.enqueued, 300);
    verify(directory.path(), &mut model).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing_acknowledged() {
    let (mut disk, mut model) = (SimulatedDisk::default(), Model::default());
    for syncs in (1..60).step_by(3) {
        power_cut(&mut disk, &mut model, syncs, Defect::None).await.unwrap().unwrap();
    }
    assert!(model.enqueued > 0 && model.settled > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_answers_before_its_sync_is_found_out() {
    // The batch that is lost may be one that nobody had been answered for: several cuts, of which one must show.
    let mut found = Vec::new();
    for syncs in [3, 10, 20, 30, 40, 50] {
        let compared =
            power_cut(&mut SimulatedDisk::default(), &mut Model::default(), syncs, Defect::AckBeforeSync).await.unwrap();
        found.extend(compared.err().map(|error| error.to_string()));
    }
    assert!(found.iter().any(|text| text.contains("acknowledged")), "no loss was noticed: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_files_that_are_not_synced_are_found_out() {
    // At the moment of a cut there may be no large body in the queue: several cuts, of which one must show.
    let mut found = Vec::new();
    for syncs in [60, 80, 100, 120] {
        let compared =
            power_cut(&mut SimulatedDisk::default(), &mut Model::default(), syncs, Defect::FilesNotSynced).await.unwrap();
        found.extend(compared.err().map(|error| format!("{error:#}")));
    }
    assert!(found.iter().any(|text| text.contains("not found") || text.contains("body files")), "no loss was noticed: {found:?}");
}
