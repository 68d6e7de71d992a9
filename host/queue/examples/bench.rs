//! Enqueues and settles as a relay does: `bench [MESSAGES] [PRODUCERS] [BODY-BYTES] [DIRECTORY]`.
//! One reactor thread beside the committer; prints messages a second, CPU seconds for 1,000, and syncs a message.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a program to measure with")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::task::JoinSet;
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_spool::{NewMessage, NextState, Settlement, Spool};
use waxwing_store::{Store, StoreOptions};
use waxwing_testkit::RealClock;
use waxwing_types::{Address, BodyType, Clock, Envelope, Origin, Recipient, ReversePath, Source, Tags};

/// User and system time of this process, in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

async fn produce(spool: EmbeddedSpool, clock: Arc<RealClock>, messages: u64, body: Bytes) {
    for _ in 0..messages {
        let id = spool.next_queue_id(clock.now());
        let mut writer = spool.body_sink(id, spool.reserve_space(body.len() as u64).unwrap());
        writer.write(body.clone()).await.unwrap();
        let envelope = Envelope {
            sender: ReversePath::Address(Address::new("sender", "example.com").unwrap()),
            recipients: vec![Recipient::new(Address::new("recipient", "example.org").unwrap())],
            body_type: BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Source::Smtp, clock.now()),
        };
        let head = Bytes::from_static(&[b'h'; 400]);
        let body = writer.finish().await.unwrap();
        spool
            .enqueue(NewMessage {
                id,
                envelope,
                header: head,
                body,
                tags: Tags::new(),
                hold: None,
                not_before: std::time::Duration::ZERO,
                priority: 0,
                attached: Vec::new(),
            })
            .await
            .unwrap();
    }
}

async fn own(spool: EmbeddedSpool, messages: u64) {
    let lease = spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let mut fresh = spool.new_units(waxwing_spool::ShardId::FIRST);
    let mut settling = JoinSet::new();
    let mut settled = 0;
    while settled < messages {
        let units = tokio::select! {
            hint = fresh.recv() => vec![hint.unwrap().unit],
            _ = spool.rescan_from(waxwing_spool::ShardId::FIRST) => panic!("the owner fell behind: hints were dropped"),
        };
        for unit in units {
            settled += 1;
            let spool = spool.clone();
            let settle =
                Settlement { unit, remaining: Vec::new(), attempts: 1, next_state: NextState::Removed, generated: Vec::new() };
            settling.spawn(async move { spool.settle(&lease, settle).await.map(drop) });
        }
        while let Some(done) = settling.try_join_next() {
            done.unwrap().unwrap();
        }
    }
    while let Some(done) = settling.join_next().await {
        done.unwrap().unwrap();
    }
}

fn main() {
    let argument = |n: usize| std::env::args().nth(n);
    let number = |n: usize, default: u64| argument(n).map_or(default, |text| text.parse().unwrap());
    let (messages, producers, bytes) = (number(1, 50_000), number(2, 20), number(3, 4096));
    let directory = argument(4).map_or_else(|| std::env::temp_dir().join("waxwing-queue-bench"), PathBuf::from);
    drop(std::fs::remove_dir_all(&directory));
    let clock = Arc::new(RealClock::start());
    let body: Bytes = (0..bytes).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&directory.join("store"), &StoreOptions::new(&KEYSPACES)).unwrap();
        let settings = SpoolSettings::new(50 << 20, clock.clone());
        let spool = EmbeddedSpool::open(&store, &directory.join("bodies"), settings).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(store.completion_dispatcher());
        let (begun, ticks) = (Instant::now(), cpu_ticks());
        let per_producer = messages / producers;
        let mut work = JoinSet::new();
        work.spawn(own(spool.clone(), per_producer * producers));
        for _ in 0..producers {
            work.spawn(produce(spool.clone(), clock.clone(), per_producer, body.clone()));
        }
        work.join_all().await;
        let (seconds, ticks) = (begun.elapsed().as_secs_f64(), cpu_ticks() - ticks);
        let (messages, stats) = ((per_producer * producers) as f64, store.stats());
        println!(
            "{:.0} messages/s enqueued and settled, {:.4} CPU s per 1,000, {:.3} syncs per message, {:.1} batches per sync, {} hints dropped",
            messages / seconds,
            ticks as f64 / 100.0 / (messages / 1000.0),
            stats.synced_commits as f64 / messages,
            stats.batches as f64 / stats.commits as f64,
            spool.stats().new_units_dropped,
        );
        drop((spool, store));
        while tasks.join_next().await.is_some() {}
    });
    std::fs::remove_dir_all(&directory).unwrap();
}
