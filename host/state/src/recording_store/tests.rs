use waxwing_store::StoreOptions;
use waxwing_types::{ManualClock, QueueIdGenerator};

use super::*;
use crate::recording_codec::tests::recording;

struct Bench {
    recordings: Arc<RecordingStore>,
    clock: Arc<ManualClock>,
    ids: QueueIdGenerator,
    task: tokio::task::JoinHandle<Result<(), TraceError>>,
    dir: tempfile::TempDir,
}

fn open(dir: tempfile::TempDir, bytes_max: u64, age_max: Duration) -> Bench {
    let store = Store::open(dir.path(), &StoreOptions::new(&[RECORDING_KEYSPACE])).unwrap();
    let clock = Arc::new(ManualClock::default());
    let limits = RecordingConfig { enabled: true, bytes_max, age_max, redact_body: true, redact_headers: Vec::new() };
    let (recordings, waiting) = RecordingStore::open(&store, limits, Arc::clone(&clock) as _).unwrap();
    let task = tokio::task::spawn_local(Arc::clone(&recordings).run(waiting));
    Bench { recordings, clock, ids: QueueIdGenerator::default(), task, dir }
}

impl Bench {
    async fn record(&self) -> QueueId {
        let id = self.ids.next(self.clock.now());
        self.recordings.record(recording(&id.to_string()));
        self.recordings.flush().await.unwrap();
        id
    }

    fn last(&self, limit: usize) -> Vec<String> {
        self.recordings.last(None, limit, u64::MAX).unwrap().recordings.into_iter().map(|r| r.id).collect()
    }
}

async fn local<F: std::future::Future>(future: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(future).await
}

#[tokio::test]
async fn finds_one_and_the_last_ones_page_by_page() {
    local(async {
        let bench = open(tempfile::tempdir().unwrap(), u64::MAX, Duration::MAX);
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(bench.record().await);
        }
        let one = bench.recordings.get(ids[2]).unwrap();
        assert_eq!(one.recordings[0].id, ids[2].to_string());
        assert_eq!(bench.last(2), [ids[4].to_string(), ids[3].to_string()]);
        let page = bench.recordings.last(None, 3, 1).unwrap();
        assert_eq!((page.recordings.len(), page.next), (1, Some(ids[4])), "one that is larger than a page is given alone");
        let rest = bench.recordings.last(page.next, 9, u64::MAX).unwrap();
        assert_eq!((rest.recordings.len(), rest.next), (4, None));
        assert_eq!(bench.recordings.get(QueueId::from_u64(7)).unwrap(), RecordingPage::default());
    })
    .await;
}

#[tokio::test]
async fn the_oldest_go_when_there_are_too_many_octets() {
    local(async {
        let bench = open(tempfile::tempdir().unwrap(), 1000, Duration::MAX);
        let mut ids = Vec::new();
        for _ in 0..20 {
            ids.push(bench.record().await.to_string());
        }
        let kept = bench.last(100);
        assert!(bench.recordings.bytes() <= 1000 && !kept.is_empty() && kept.len() < 20, "{}", kept.len());
        assert_eq!(kept.last(), ids.get(20 - kept.len()));
    })
    .await;
}

#[tokio::test]
async fn old_ones_are_not_shown_and_go() {
    local(async {
        let bench = open(tempfile::tempdir().unwrap(), u64::MAX, Duration::from_secs(60));
        let old = bench.record().await;
        bench.clock.advance(Duration::from_secs(50));
        let young = bench.record().await;
        bench.clock.advance(Duration::from_secs(11));
        assert_eq!(bench.recordings.get(old).unwrap(), RecordingPage::default());
        assert_eq!(bench.last(9), [young.to_string()]);
        bench.recordings.sweep();
        bench.recordings.flush().await.unwrap();
        assert_eq!(bench.recordings.rows.get(&old.to_key()).unwrap(), None, "it is gone from the disk");
    })
    .await;
}

#[tokio::test]
async fn a_new_run_finds_what_is_there() {
    local(async {
        let bench = open(tempfile::tempdir().unwrap(), u64::MAX, Duration::MAX);
        let id = bench.record().await;
        let bytes = bench.recordings.bytes();
        let Bench { recordings, task, dir, .. } = bench;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        drop(recordings);
        let bench = open(dir, u64::MAX, Duration::MAX);
        bench.recordings.flush().await.unwrap();
        assert_eq!((bench.last(5), bench.recordings.bytes()), (vec![id.to_string()], bytes));
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_when_too_many_end_at_once() {
    local(async {
        let bench = open(tempfile::tempdir().unwrap(), u64::MAX, Duration::MAX);
        for _ in 0..RECORDING_QUEUE_MAX + 10 {
            let id = bench.ids.next(bench.clock.now());
            bench.recordings.record(recording(&id.to_string()));
        }
        assert_eq!(bench.recordings.dropped(), 10);
        bench.recordings.flush().await.unwrap();
        assert_eq!(bench.last(1000).len(), RECORDING_QUEUE_MAX);
    })
    .await;
}
