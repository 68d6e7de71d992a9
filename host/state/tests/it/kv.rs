//! Stores of plugins: what is kept, counted, shown and forgotten.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waxwing_pipeline::{KvError, KvStore};
use waxwing_state::{KV_ENTRY_OVERHEAD_BYTES, KV_KEY_BYTES_MAX, KV_KEYSPACE, KV_SCAN_BYTES_MAX, KV_VALUE_BYTES_MAX, KvStores};
use waxwing_store::{Batch, Store, StoreOptions};
use waxwing_types::ManualClock;

const MAX: u64 = 64 << 20;
const SECOND: Duration = Duration::from_secs(1);

struct Opened {
    store: Store,
    kv: KvStores,
    clock: Arc<ManualClock>,
}

fn open(path: &Path) -> Opened {
    let store = Store::open(&path.join("store"), &StoreOptions::new(&[KV_KEYSPACE])).unwrap();
    let clock = Arc::new(ManualClock::default());
    let kv = KvStores::open(&store, Arc::clone(&clock) as _).unwrap();
    Opened { store, kv, clock }
}

impl Opened {
    async fn set(&self, key: &str, value: &str, ttl: Option<Duration>) -> Result<(), KvError> {
        self.kv.set("p", MAX, key.as_bytes(), value.as_bytes(), ttl).await
    }

    async fn get(&self, key: &str) -> Option<String> {
        self.kv.get("p", key.as_bytes()).await.unwrap().map(|value| String::from_utf8(value).unwrap())
    }

    async fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let pairs = self.kv.scan("p", prefix.as_bytes(), after.map(str::as_bytes), limit).await.unwrap();
        pairs.into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
    }

    /// Everything handed in so far is in the database.
    async fn flush(&self) {
        self.store.commit(Batch::default()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_set_is_seen_at_once_and_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    {
        let opened = open(home.path());
        opened.set("a", "1", None).await.unwrap();
        assert_eq!(opened.get("a").await.as_deref(), Some("1"));
        opened.set("a", "2", None).await.unwrap();
        opened.set("b", "", None).await.unwrap();
        opened.set("c", "3", None).await.unwrap();
        opened.kv.delete("p", b"c").await.unwrap();
        opened.kv.delete("p", b"never").await.unwrap();
        assert_eq!(opened.get("c").await, None);
        assert_eq!(opened.keys("", None, 10).await, ["a", "b"]);
    }
    let opened = open(home.path());
    assert_eq!(opened.get("a").await.as_deref(), Some("2"));
    assert_eq!(opened.get("b").await.as_deref(), Some(""));
    assert_eq!(opened.get("c").await, None);
}

#[tokio::test]
async fn no_namespace_sees_another() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    for (namespace, key) in [("p", "qx"), ("pq", "x"), ("", "pqx")] {
        opened.kv.set(namespace, MAX, key.as_bytes(), namespace.as_bytes(), None).await.unwrap();
    }
    for settled in [false, true] {
        if settled {
            opened.flush().await;
        }
        assert_eq!(opened.get("qx").await.as_deref(), Some("p"));
        assert_eq!(opened.keys("", None, 10).await, ["qx"]);
        assert_eq!(opened.kv.get("pq", b"qx").await.unwrap(), None);
    }
    assert!(matches!(opened.kv.get(&"n".repeat(65), b"x").await, Err(KvError::Unavailable(_))));
}

#[tokio::test]
async fn a_pair_is_gone_when_its_time_is_over() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    opened.set("short", "1", Some(SECOND)).await.unwrap();
    opened.set("long", "2", Some(SECOND * 60)).await.unwrap();
    opened.set("ever", "3", None).await.unwrap();
    opened.clock.advance(Duration::from_millis(999));
    assert_eq!(opened.get("short").await.as_deref(), Some("1"));
    opened.clock.advance(Duration::from_millis(1));
    assert_eq!(opened.get("short").await, None);
    assert_eq!(opened.keys("", None, 10).await, ["ever", "long"]);
    let before = opened.kv.bytes("p");
    opened.flush().await;
    assert_eq!(opened.kv.sweep().await.unwrap(), 1);
    assert_eq!(opened.kv.bytes("p"), before - KV_ENTRY_OVERHEAD_BYTES - 6);
    assert_eq!(opened.kv.sweep().await.unwrap(), 0);
    assert_eq!(opened.get("long").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_sweep_goes_on_where_it_stopped_and_spares_what_was_set_anew() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    for n in 0..1200 {
        opened.set(&format!("{n:04}"), "x", Some(SECOND)).await.unwrap();
    }
    opened.flush().await;
    opened.clock.advance(SECOND);
    opened.set("0700", "new", None).await.unwrap();
    assert_eq!(opened.kv.sweep().await.unwrap(), 1199);
    opened.flush().await;
    assert_eq!(opened.keys("", None, 10).await, ["0700"]);
    assert_eq!(opened.kv.bytes("p"), KV_ENTRY_OVERHEAD_BYTES + 7);
}

#[tokio::test]
async fn a_namespace_has_a_limit_that_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    // Room for two pairs of a key and a value of one octet.
    let max = 2 * (KV_ENTRY_OVERHEAD_BYTES + 2);
    let opened = open(home.path());
    let set =
        async |opened: &Opened, key: &str, value: &str| opened.kv.set("p", max, key.as_bytes(), value.as_bytes(), None).await;
    set(&opened, "a", "1").await.unwrap();
    set(&opened, "b", "1").await.unwrap();
    assert_eq!(set(&opened, "c", "").await, Err(KvError::Full));
    assert_eq!(opened.kv.add("p", max, b"c", 1, None).await, Err(KvError::Full));
    set(&opened, "a", "2").await.unwrap();
    assert_eq!(set(&opened, "a", "22").await, Err(KvError::Full));
    assert_eq!(opened.get("a").await.as_deref(), Some("2"), "a refused write changes nothing");
    drop(opened);
    let opened = open(home.path());
    assert_eq!(set(&opened, "c", "").await, Err(KvError::Full), "what an earlier run left is counted");
    // A limit that was lowered lets a pair become smaller.
    opened.kv.set("p", 1, b"a", b"", None).await.unwrap();
    opened.kv.delete("p", b"b").await.unwrap();
    set(&opened, "c", "3").await.unwrap();
    opened.kv.set("other", max, b"a", b"1", None).await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    let (key, value) = (vec![b'k'; KV_KEY_BYTES_MAX], vec![b'v'; KV_VALUE_BYTES_MAX]);
    opened.kv.set("p", MAX, &key, &value, None).await.unwrap();
    let longer = vec![b'k'; KV_KEY_BYTES_MAX + 1];
    assert_eq!(opened.kv.set("p", MAX, &longer, b"", None).await, Err(KvError::TooLarge));
    assert_eq!(opened.kv.get("p", &longer).await, Err(KvError::TooLarge));
    assert_eq!(opened.kv.set("p", MAX, b"k", &vec![0; KV_VALUE_BYTES_MAX + 1], None).await, Err(KvError::TooLarge));
    assert_eq!(opened.kv.get("p", &key).await.unwrap(), Some(value));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn numbers_are_added_without_loss() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let kv = opened.kv.clone();
            tokio::runtime::Handle::current().spawn(async move {
                for _ in 0..50 {
                    kv.add("p", MAX, b"n", 1, Some(SECOND)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(opened.kv.add("p", MAX, b"n", -1, Some(SECOND * 99)).await, Ok(399));
    // The time is that of the first; after it the number begins anew.
    opened.clock.advance(SECOND);
    assert_eq!(opened.kv.add("p", MAX, b"n", 5, None).await, Ok(5));
    opened.set("text", "no number", None).await.unwrap();
    assert_eq!(opened.kv.add("p", MAX, b"text", i64::MAX, None).await, Ok(i64::MAX));
    assert_eq!(opened.kv.add("p", MAX, b"text", 1, None).await, Ok(i64::MAX), "a number has an end");
}

#[tokio::test]
async fn a_scan_goes_in_order_over_what_is_written_and_what_is_under_way() {
    let home = tempfile::tempdir().unwrap();
    let opened = open(home.path());
    for key in ["a", "ba", "bc", "be", "c"] {
        opened.set(key, "stored", None).await.unwrap();
    }
    opened.flush().await;
    opened.set("bb", "new", None).await.unwrap();
    opened.kv.delete("p", b"bc").await.unwrap();
    assert_eq!(opened.keys("b", None, 10).await, ["ba", "bb", "be"]);
    assert_eq!(opened.keys("b", None, 2).await, ["ba", "bb"]);
    assert_eq!(opened.keys("b", Some("bb"), 10).await, ["be"]);
    assert_eq!(opened.keys("b", Some("a"), 10).await, ["ba", "bb", "be"]);
    assert_eq!(opened.keys("b", Some("c"), 10).await, Vec::<String>::new());
    assert_eq!(opened.keys("b", None, 0).await, Vec::<String>::new());
    for n in 0..3 {
        opened.kv.set("p", MAX, format!("z{n}").as_bytes(), &vec![0; KV_SCAN_BYTES_MAX / 2 + 1], None).await.unwrap();
    }
    assert_eq!(opened.keys("z", None, 10).await, ["z0", "z1"], "a scan has a limit of octets");
}
