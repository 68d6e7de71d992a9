//! Stores of earlier versions stay readable: a whole store of each is a fixture, written once.
//!
//! `v1` has message records without recipient targets. With `WAXWING_ADD_FIXTURES` a missing store is written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_spool::{NewMessage, NextState, Settlement, ShardId, Spool, Unit, UnitState};
use waxwing_store::{Store, StoreOptions};
use waxwing_types::{Clock, ManualClock, QueueId, Tags, Timestamp};

use crate::support::{later, message, read_all};

const EVER: Timestamp = Timestamp::from_millis(u64::MAX);
/// Octets of a body that is a file.
const LARGE_BODY_BYTES: usize = 270_000;

/// Ids of the stored messages: plain, with many recipients, with a body file, deferred, on hold.
const IDS: [QueueId; 5] = [
    QueueId::from_u64(1_800_000_000_000 << 20),
    QueueId::from_u64((1_800_000_000_000 << 20) + 1),
    QueueId::from_u64((1_800_000_000_000 << 20) + 2),
    QueueId::from_u64((1_800_000_000_000 << 20) + 3),
    QueueId::from_u64((1_800_000_000_000 << 20) + 4),
];

fn fixture(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stores").join(version)
}

fn large_body() -> Bytes {
    b"a line of a large body\r\n".repeat(LARGE_BODY_BYTES / 24).into()
}

async fn open(path: &Path, clock: &Arc<ManualClock>) -> (Store, EmbeddedSpool) {
    let settings = SpoolSettings { queue_minfree: 0, ..SpoolSettings::new(1 << 20, clock.clone()) };
    let store = Store::open(&path.join("store"), &StoreOptions::new(&KEYSPACES)).unwrap();
    let spool = EmbeddedSpool::open(&store, &path.join("bodies"), settings).await.unwrap();
    (store, spool)
}

/// Writes the messages of a fixture.
async fn write_store(path: &Path) {
    let clock = Arc::new(ManualClock::default());
    let now = clock.now();
    let (_store, spool) = open(path, &clock).await;
    let [plain, many, large, deferred, held] = IDS;
    let tags = Tags::from([("score".to_owned(), "0.5".to_owned())]);
    spool.enqueue(NewMessage { tags, ..message(plain, 2, now) }).await.unwrap();
    spool.enqueue(message(many, 51, now)).await.unwrap();
    let body = waxwing_spool::store_body(&spool, large, large_body()).await.unwrap();
    spool.enqueue(NewMessage { body, ..message(large, 1, now) }).await.unwrap();
    spool.enqueue(message(deferred, 2, now)).await.unwrap();
    spool.enqueue(NewMessage { hold: Some("quarantine".to_owned()), ..message(held, 1, now) }).await.unwrap();
    let lease = spool.acquire(ShardId::FIRST).await.unwrap();
    let units = spool.scan_due(&lease, None, EVER, 10).await.unwrap();
    let unit = units.iter().find(|unit| unit.id == deferred).unwrap();
    let mut settle: Settlement = later(unit, now + Duration::from_secs(3600));
    settle.remaining.remove(0);
    assert!(matches!(settle.next_state, NextState::RetryAt(_)));
    spool.settle(&lease, settle).await.unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn store_of_version_1_is_read_completely() {
    let kept = fixture("v1");
    if std::env::var_os("WAXWING_ADD_FIXTURES").is_some() && !kept.exists() {
        write_store(&kept).await;
    }
    let directory = tempfile::tempdir().unwrap();
    copy_tree(&kept, directory.path());
    // Empty directories are not under version control.
    for keyspace in std::fs::read_dir(directory.path().join("store/keyspaces")).unwrap() {
        std::fs::create_dir_all(keyspace.unwrap().path().join("tables")).unwrap();
    }
    let clock = Arc::new(ManualClock::default());
    let (_store, spool) = open(directory.path(), &clock).await;
    let now = clock.now();
    let [plain, many, large, deferred, held] = IDS;

    for (id, recipients) in [(plain, 2), (many, 51), (large, 1), (deferred, 2), (held, 1)] {
        let loaded = spool.load(id).await.unwrap();
        assert_eq!(*loaded.envelope, message(id, recipients, now).envelope, "{id}");
        assert_eq!(&loaded.header[..], b"Subject: test\r\n\r\n");
        let body = if id == large { large_body() } else { Bytes::from_static(b"hello\r\n") };
        assert!(read_all(&*loaded.body).await.unwrap() == body, "{id}");
    }
    assert_eq!(spool.load(plain).await.unwrap().tags.get("score").map(String::as_str), Some("0.5"));

    let lease = spool.acquire(ShardId::FIRST).await.unwrap();
    let due: Vec<Unit> = spool.scan_due(&lease, None, EVER, 10).await.unwrap();
    let keys: Vec<(QueueId, u16, u32)> = due.iter().map(|unit| (unit.id, unit.number, unit.attempts)).collect();
    assert_eq!(keys, [(plain, 0, 0), (many, 0, 0), (many, 1, 0), (large, 0, 0), (deferred, 0, 1)]);
    let last = due.last().unwrap();
    assert_eq!(last.next_at, now + Duration::from_secs(3600));
    assert_eq!(last.recipients[0].last_status.as_ref().unwrap().text, "no answer");
    let detail = spool.show(held).await.unwrap();
    assert!(matches!(&detail.units[..], [(Some(_), UnitState::Hold(reason))] if reason == "quarantine"));
    assert!(spool.next_queue_id(now) > held);

    for unit in due {
        spool.settle(&lease, crate::support::gone(&unit)).await.unwrap();
    }
    assert_eq!((spool.stats().incoming, spool.stats().deferred, spool.stats().hold), (0, 0, 1));
}
