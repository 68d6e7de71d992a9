//! The committer's promises, over engines that can be held up, fail, or lose power, and over fjall.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use waxwing_store::{Batch, Durability, Engine, KeyspaceId, LossyEngine, Op, Row, Store, StoreError, StoreOptions, Urgency};

const NEVER: Duration = Duration::from_secs(100_000);

fn options() -> StoreOptions {
    StoreOptions::new(&["a", "b"])
}

fn put(store: &Store, key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(&store.keyspace("a").unwrap(), key.to_owned(), Bytes::from(value.to_owned()));
    batch
}

fn value(store: &Store, key: &str) -> Option<String> {
    let value = store.keyspace("a").unwrap().get(key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn fjall(directory: &Path) -> Store {
    Store::open(&directory.join("store"), &options()).unwrap()
}

/// An engine whose writes wait at a gate, and fail if told so.
#[derive(Clone, Default)]
struct Gate {
    engine: LossyEngine,
    state: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    shut: bool,
    waiting: usize,
    fails: bool,
    applied: Vec<(usize, Durability)>,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.0.lock());
        self.state.1.notify_all();
    }

    /// Waits until the committer stands at the gate.
    fn reached(&self) {
        let mut state = self.state.0.lock();
        while state.waiting == 0 {
            self.state.1.wait(&mut state);
        }
    }

    fn applied(&self) -> Vec<(usize, Durability)> {
        self.state.0.lock().applied.clone()
    }
}

impl Engine for Gate {
    fn apply(&self, ops: &mut Vec<Op>, durability: Durability) -> Result<(), String> {
        let mut state = self.state.0.lock();
        state.waiting += 1;
        self.state.1.notify_all();
        while state.shut {
            self.state.1.wait(&mut state);
        }
        state.waiting -= 1;
        if state.fails {
            return Err("no space left on device".to_owned());
        }
        state.applied.push((ops.len(), durability));
        drop(state);
        self.engine.apply(ops, durability)
    }

    fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>, String> {
        self.engine.get(keyspace, key)
    }

    fn range(&self, keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>, limit: usize) -> Result<Vec<Row>, String> {
        self.engine.range(keyspace, from, to, limit)
    }

    fn last(&self, keyspace: KeyspaceId) -> Result<Option<Row>, String> {
        self.engine.last(keyspace)
    }

    fn compact(&self, keyspace: KeyspaceId) -> Result<(), String> {
        self.engine.compact(keyspace)
    }
}

fn gated(options: &StoreOptions) -> (Store, Gate) {
    let gate = Gate::default();
    (Store::with_engine(Arc::new(gate.clone()), options).unwrap(), gate)
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = fjall(directory.path());
    let mut batch = put(&store, "k", "v");
    batch.put(&store.keyspace("b").unwrap(), &b"k"[..], Bytes::from_static(b"w"));
    store.commit(batch).await.unwrap();
    let mut batch = Batch::default();
    batch.delete(&store.keyspace("b").unwrap(), &b"k"[..]);
    store.commit_lazy(batch).await.unwrap();
    drop(store);
    let store = fjall(directory.path());
    assert_eq!(value(&store, "k").as_deref(), Some("v"));
    assert!(!store.keyspace("b").unwrap().contains(b"k").unwrap());
    assert!(matches!(store.keyspace("c"), Err(StoreError::Open(_))));
}

/// Octets of all files below a directory.
fn sum(path: &Path) -> u64 {
    let size = |path: std::path::PathBuf| if path.is_dir() { sum(&path) } else { path.metadata().map_or(0, |m| m.len()) };
    std::fs::read_dir(path).unwrap().map(|entry| size(entry.unwrap().path())).sum()
}

#[tokio::test]
async fn the_space_of_removed_rows_can_be_freed() {
    let directory = tempfile::tempdir().unwrap();
    let store = fjall(directory.path());
    let keyspace = store.keyspace("a").unwrap();
    for i in 1..41u8 {
        let mut batch = Batch::default();
        // Noise: nothing makes it smaller.
        let value: Vec<u8> = (0..1u64 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8 ^ i).collect();
        batch.put(&keyspace, vec![i], Bytes::from(value));
        store.commit(batch).await.unwrap();
    }
    for i in 2..41u8 {
        let mut batch = Batch::default();
        batch.delete(&keyspace, vec![i]);
        store.commit(batch).await.unwrap();
    }
    let before = sum(&directory.path().join("store/keyspaces"));
    keyspace.compact().unwrap();
    let after = sum(&directory.path().join("store/keyspaces"));
    assert!(before > 16 << 20 && after < 4 << 20, "{before} octets before, {after} after");
    drop((keyspace, store));
    let keyspace = fjall(directory.path()).keyspace("a").unwrap();
    assert_eq!(keyspace.get(&[1]).unwrap().unwrap().len(), 1 << 20);
    assert!(!keyspace.contains(&[2]).unwrap());
}

/// All writes of a merged batch have the same sequence number in fjall.
#[tokio::test]
async fn of_two_writes_to_a_key_in_one_batch_the_later_counts() {
    let directory = tempfile::tempdir().unwrap();
    let store = fjall(directory.path());
    let keyspace = store.keyspace("a").unwrap();
    let mut batch = Batch::default();
    batch.put(&keyspace, &b"put-delete"[..], Bytes::from_static(b"1"));
    batch.delete(&keyspace, &b"put-delete"[..]);
    batch.delete(&keyspace, &b"delete-put"[..]);
    batch.put(&keyspace, &b"delete-put"[..], Bytes::from_static(b"1"));
    batch.put(&keyspace, &b"put-put"[..], Bytes::from_static(b"1"));
    batch.put(&keyspace, &b"put-put"[..], Bytes::from_static(b"2"));
    store.commit(batch).await.unwrap();
    let see = |store: &Store| ["put-delete", "delete-put", "put-put"].map(|key| value(store, key));
    let expected = [None, Some("1".to_owned()), Some("2".to_owned())];
    assert_eq!(see(&store), expected);
    drop((store, keyspace));
    assert_eq!(see(&fjall(directory.path())), expected);
}

#[tokio::test]
async fn ranges_and_last() {
    let directory = tempfile::tempdir().unwrap();
    let fjall = fjall(directory.path());
    let lossy = Store::with_engine(Arc::new(LossyEngine::default()), &options()).unwrap();
    for store in [fjall, lossy] {
        let keyspace = store.keyspace("a").unwrap();
        assert!(keyspace.last().unwrap().is_none());
        for key in ["a", "b", "c", "d"] {
            store.commit(put(&store, key, key)).await.unwrap();
        }
        let keys = |from, to, limit| {
            let rows = keyspace.range(from, to, limit).unwrap();
            rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect::<String>()
        };
        assert_eq!(keys(Bound::Unbounded, Bound::Unbounded, 3), "abc");
        assert_eq!(keys(Bound::Excluded(&b"a"[..]), Bound::Excluded(&b"d"[..]), 9), "bc");
        assert_eq!(keys(Bound::Included(&b"b"[..]), Bound::Included(&b"d"[..]), 9), "bcd");
        assert_eq!(&keyspace.last().unwrap().unwrap().0[..], b"d");
        assert!(store.keyspace("b").unwrap().last().unwrap().is_none());
    }
}

#[test]
fn a_store_has_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let _store = fjall(directory.path());
    assert!(matches!(Store::open(&directory.path().join("store"), &options()), Err(StoreError::Open(_))));
}

#[tokio::test]
async fn what_waits_is_written_as_one() {
    let (store, gate) = gated(&options());
    gate.set(|state| state.shut = true);
    let mut completions = Vec::new();
    for n in 0..20 {
        let permit = store.reserve(100).await.unwrap();
        completions.push(store.submit(permit, put(&store, &n.to_string(), "v"), Urgency::Now));
        if n == 0 {
            gate.reached();
        }
    }
    gate.set(|state| state.shut = false);
    for completion in completions {
        completion.await.unwrap();
    }
    assert_eq!(gate.applied(), [(1, Durability::Synced), (19, Durability::Synced)]);
    let stats = store.stats();
    assert_eq!((stats.batches, stats.commits), (20, 2));
}

#[tokio::test]
async fn a_merged_batch_has_a_limit() {
    let (store, gate) = gated(&StoreOptions { merged_bytes_max: 1000, ..options() });
    gate.set(|state| state.shut = true);
    let mut completions = Vec::new();
    for n in 0..6 {
        let permit = store.reserve(500).await.unwrap();
        completions.push(store.submit(permit, put(&store, &n.to_string(), &"v".repeat(400)), Urgency::Now));
        if n == 0 {
            gate.reached();
        }
    }
    gate.set(|state| state.shut = false);
    for completion in completions {
        completion.await.unwrap();
    }
    let sizes: Vec<usize> = gate.applied().iter().map(|(ops, _)| *ops).collect();
    assert_eq!(sizes, [1, 2, 2, 1]);
}

#[tokio::test]
async fn what_rides_goes_with_the_next_commit() {
    let (store, gate) = gated(&StoreOptions { lazy_delay: NEVER, ..options() });
    let permit = store.reserve(100).await.unwrap();
    let rides = store.submit(permit, put(&store, "r", "1"), Urgency::Lazy);
    store.put_unsynced(put(&store, "u", "1"));
    store.commit(put(&store, "c", "1")).await.unwrap();
    rides.await.unwrap();
    assert_eq!(gate.applied(), [(3, Durability::Synced)]);
}

#[tokio::test]
async fn what_rides_alone_goes_after_the_delay() {
    let (store, gate) = gated(&StoreOptions { lazy_delay: Duration::from_millis(1), ..options() });
    store.commit_lazy(put(&store, "r", "1")).await.unwrap();
    assert_eq!(gate.applied(), [(1, Durability::Synced)]);
}

#[tokio::test]
async fn what_is_unsynced_needs_no_sync_and_is_dropped_when_the_queue_is_full() {
    let (store, gate) = gated(&StoreOptions { lazy_delay: Duration::from_millis(1), queue_bytes_max: 4096, ..options() });
    store.put_unsynced(put(&store, "u", "1"));
    while value(&store, "u").is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(gate.applied(), [(1, Durability::Buffered)]);
    gate.set(|state| state.shut = true);
    let permit = store.reserve(100).await.unwrap();
    let first = store.submit(permit, put(&store, "c", "1"), Urgency::Now);
    gate.reached();
    for _ in 0..100 {
        store.put_unsynced(put(&store, "u", &"2".repeat(200)));
    }
    let dropped = store.stats().dropped;
    assert!(dropped > 50 && dropped < 100, "{dropped}");
    gate.set(|state| state.shut = false);
    first.await.unwrap();
}

#[tokio::test]
async fn a_full_queue_makes_writers_wait() {
    let (store, gate) = gated(&StoreOptions { queue_bytes_max: 1024, ..options() });
    gate.set(|state| state.shut = true);
    let permit = store.reserve(2000).await.unwrap();
    let first = store.submit(permit, put(&store, "1", "v"), Urgency::Now);
    let second = store.commit(put(&store, "2", "v"));
    tokio::pin!(second);
    let waits = std::future::poll_fn(|context| std::task::Poll::Ready(second.as_mut().poll(context).is_pending())).await;
    assert!(waits);
    gate.reached();
    gate.set(|state| state.shut = false);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(gate.applied().len(), 2);
}

#[tokio::test]
async fn a_failed_commit_poisons_for_good() {
    let (store, gate) = gated(&options());
    gate.set(|state| state.fails = true);
    let failed = store.commit(put(&store, "k", "v")).await;
    assert!(matches!(&failed, Err(StoreError::Poisoned(reason)) if reason.contains("no space left")), "{failed:?}");
    gate.set(|state| state.fails = false);
    assert_eq!(store.commit(put(&store, "k", "v")).await, failed, "it must not be tried again");
    assert_eq!(store.commit_lazy(put(&store, "k", "v")).await, failed);
    assert_eq!(Err(store.poisoned().await), failed);
    assert!(store.is_poisoned());
    assert!(gate.applied().is_empty());
}

#[tokio::test]
async fn a_stuck_commit_poisons_and_answers_those_who_wait() {
    let (store, gate) = gated(&StoreOptions { commit_stuck: Duration::from_millis(40), ..options() });
    gate.set(|state| state.shut = true);
    let permit = store.reserve(100).await.unwrap();
    let stuck = store.submit(permit, put(&store, "1", "v"), Urgency::Now);
    gate.reached();
    let permit = store.reserve(100).await.unwrap();
    let waiting = store.submit(permit, put(&store, "2", "v"), Urgency::Now);
    assert!(matches!(store.poisoned().await, StoreError::Poisoned(_)));
    assert!(matches!(stuck.await, Err(StoreError::Poisoned(_))));
    assert!(matches!(waiting.await, Err(StoreError::Poisoned(_))));
    // It comes back after all: too late, nothing more is written.
    gate.set(|state| state.shut = false);
    assert!(store.commit(put(&store, "3", "v")).await.is_err());
    drop(store);
    while gate.applied().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.applied().len(), 1);
}

#[tokio::test]
async fn waiters_are_woken_with_and_without_the_pump() {
    let (store, _gate) = gated(&options());
    let pump = tokio::task::JoinSet::from_iter([store.completion_dispatcher()]);
    for n in 0..50 {
        let commits = (0..20).map(|m| {
            let store = store.clone();
            async move { store.commit(put(&store, &format!("{n}.{m}"), "v")).await }
        });
        let results = tokio::task::JoinSet::from_iter(commits).join_all().await;
        assert_eq!(results, vec![Ok(()); 20]);
    }
    // The pump is dropped while someone waits.
    let waiting = store.commit(put(&store, "k", "v"));
    drop(pump);
    waiting.await.unwrap();
    store.commit(put(&store, "k", "w")).await.unwrap();
}

#[tokio::test]
async fn the_pump_ends_with_the_store() {
    let (store, _gate) = gated(&options());
    let pump = store.completion_dispatcher();
    let permit = store.reserve(100).await.unwrap();
    let completion = store.submit(permit, put(&store, "k", "v"), Urgency::Now);
    drop(store);
    pump.await;
    completion.await.unwrap();
}

#[tokio::test]
async fn closing_writes_what_waits() {
    let (store, gate) = gated(&StoreOptions { lazy_delay: NEVER, ..options() });
    let permit = store.reserve(100).await.unwrap();
    let rides = store.submit(permit, put(&store, "r", "1"), Urgency::Lazy);
    drop(store);
    rides.await.unwrap();
    assert_eq!(gate.applied().len(), 1);
}

#[tokio::test]
async fn a_power_cut_takes_only_what_was_not_acknowledged() {
    for (ack_before_sync, kept) in [(false, true), (true, false)] {
        let engine = LossyEngine::default();
        let sound = Store::with_engine(Arc::new(engine.clone()), &options()).unwrap();
        sound.commit(put(&sound, "1", "v")).await.unwrap();
        drop(sound);
        // The planted defect comes after what was synced: the power must not go before that.
        let options = StoreOptions { ack_before_sync, ..options() };
        let store = Store::with_engine(Arc::new(engine.clone()), &options).unwrap();
        engine.kill_after(0);
        let acknowledged = store.commit(put(&store, "2", "v")).await.is_ok();
        let store = Store::with_engine(Arc::new(engine.restart()), &options).unwrap();
        assert_eq!(value(&store, "1").as_deref(), Some("v"));
        assert_eq!(!acknowledged || value(&store, "2").is_some(), kept);
    }
}

/// What a crash leaves of a store in the making was never answered for, and is made anew.
#[test]
fn a_store_that_was_left_half_made_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let staged = directory.path().join("store.new");
    std::fs::create_dir_all(staged.join("keyspaces")).unwrap();
    std::fs::write(staged.join("0.jnl"), b"").unwrap();
    std::fs::write(staged.join("version"), b"").unwrap();
    drop(fjall(directory.path()));
    assert!(!staged.exists());
}

/// A directory that an administrator made, with its owner and mode, is taken; one with something in it is nobody's to remove.
#[test]
fn only_an_empty_directory_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("0.jnl"), b"").unwrap();
    assert!(matches!(Store::open(&path, &options()), Err(StoreError::Open(_))));
    std::fs::remove_file(path.join("0.jnl")).unwrap();
    drop(fjall(directory.path()));
}
