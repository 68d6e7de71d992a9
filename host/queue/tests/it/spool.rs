//! What the spool promises to intake, delivery and the operator.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{World, gone, later, message, read_all};
use bytes::Bytes;
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_spool::{DueKey, ListKey, NextState, Settlement, Spool, SpoolError, UNIT_RECIPIENTS_MAX, UnitState};
use waxwing_store::{Batch, Store, StoreOptions};
use waxwing_types::{Clock, ManualClock, QueueId, Timestamp};

const HOUR: Duration = Duration::from_secs(3600);
const EVER: Timestamp = Timestamp::from_millis(u64::MAX);

#[tokio::test]
async fn a_message_comes_is_handed_on_and_goes() {
    let world = World::new().await;
    let mut fresh = world.spool.new_units(waxwing_spool::ShardId::FIRST);
    let id = world.enqueue(2).await;
    let hint = fresh.recv().await.unwrap();
    assert_eq!((hint.unit.id, hint.unit.recipients.len(), hint.unit.attempts), (id, 2, 0));
    assert_eq!(&hint.message.header[..], b"Subject: test\r\n\r\n");
    assert_eq!(hint.message.body.in_memory().unwrap(), "hello\r\n");

    let world = world.restart().await;
    let units = world.due(world.now()).await;
    assert_eq!(units, [hint.unit]);
    let loaded = world.spool.load(id).await.unwrap();
    assert_eq!(*loaded.envelope, *hint.message.envelope);
    assert_eq!(read_all(&*loaded.body).await.unwrap(), b"hello\r\n");

    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    assert_eq!(world.spool.settle(&lease, gone(&units[0])).await.unwrap(), None);
    let world = world.restart().await;
    assert!(world.due(EVER).await.is_empty());
    assert!(matches!(world.spool.load(id).await, Err(SpoolError::NotFound)));
    assert_eq!(world.spool.stats().incoming, 0);
}

#[tokio::test]
async fn many_recipients_make_units_and_the_message_goes_with_the_last() {
    let world = World::new().await;
    let id = world.enqueue(2 * UNIT_RECIPIENTS_MAX + 1).await;
    let world = world.restart().await;
    let units = world.due(world.now()).await;
    let indexes: Vec<u32> = units.iter().flat_map(|unit| unit.recipients.iter().map(|r| r.index)).collect();
    assert_eq!(indexes, (0..101).collect::<Vec<u32>>());
    assert_eq!(units.iter().map(|unit| unit.recipients.len()).collect::<Vec<_>>(), [50, 50, 1]);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    for (n, unit) in [&units[1], &units[0], &units[2]].into_iter().enumerate() {
        assert!(world.spool.load(id).await.is_ok(), "gone before unit {n}");
        world.spool.settle(&lease, gone(unit)).await.unwrap();
    }
    assert!(matches!(world.spool.load(id).await, Err(SpoolError::NotFound)));
}

#[tokio::test]
async fn what_is_deferred_comes_again_with_its_status() {
    let world = World::new().await;
    world.enqueue(2).await;
    let unit = world.due(world.now()).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let at = world.now() + HOUR;
    let mut settle = later(&unit, at);
    settle.remaining.remove(0);
    let next = world.spool.settle(&lease, settle).await.unwrap().unwrap();
    assert_eq!((next.attempts, next.next_at, next.version), (1, at, unit.version + 1));
    assert!(world.due(world.now()).await.is_empty());
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    assert_eq!(world.spool.next_due(&lease, None).await.unwrap(), Some(at));
    let world = world.restart().await;
    assert_eq!(world.due(at).await, std::slice::from_ref(&next));
    assert_eq!(next.recipients[0].index, 1);
    assert_eq!(next.recipients[0].last_status.as_ref().unwrap().text, "no answer");
    assert_eq!((world.spool.stats().incoming, world.spool.stats().deferred), (0, 1));
}

#[tokio::test]
async fn a_unit_that_is_deferred_to_its_own_time_stays() {
    let world = World::new().await;
    world.enqueue(1).await;
    let unit = world.due(world.now()).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let next = world.spool.settle(&lease, later(&unit, unit.next_at)).await.unwrap().unwrap();
    assert_eq!(world.restart().await.due(EVER).await, [next]);
}

#[tokio::test]
async fn stale_units_and_stale_owners_change_nothing() {
    let world = World::new().await;
    world.enqueue(1).await;
    let unit = world.due(world.now()).await.remove(0);
    let old = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    assert!(lease.epoch() > old.epoch());
    assert!(matches!(world.spool.settle(&old, gone(&unit)).await, Err(SpoolError::Fenced)));
    assert!(matches!(world.spool.scan_due(&old, None, EVER, 1).await, Err(SpoolError::Fenced)));
    let next = world.spool.settle(&lease, later(&unit, world.now() + HOUR)).await.unwrap().unwrap();
    assert!(matches!(world.spool.settle(&lease, gone(&unit)).await, Err(SpoolError::Conflict)));
    let stale = Settlement { unit: waxwing_spool::Unit { version: 1, ..next.clone() }, ..gone(&next) };
    assert!(matches!(world.spool.settle(&lease, stale.clone()).await, Err(SpoolError::Conflict)));
    // The same of a unit that this process has not put.
    let world = world.restart().await;
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    assert!(matches!(world.spool.settle(&lease, stale).await, Err(SpoolError::Conflict)));
    world.spool.settle(&lease, gone(&next)).await.unwrap();
    assert!(matches!(world.spool.settle(&lease, gone(&next)).await, Err(SpoolError::Conflict)));
    // Two at once: one of them counts.
    world.enqueue(1).await;
    let unit = world.due(world.now()).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let (one, two) = tokio::join!(world.spool.settle(&lease, gone(&unit)), world.spool.settle(&lease, gone(&unit)));
    assert!(one.is_ok() && matches!(two, Err(SpoolError::Conflict)));
    assert!(lease.epoch() > 2, "epochs grow over restarts");
}

#[tokio::test]
async fn who_remains_and_what_becomes_of_them_must_agree() {
    let world = World::new().await;
    world.enqueue(1).await;
    let unit = world.due(world.now()).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let nobody = Settlement { next_state: NextState::RetryAt(EVER), ..gone(&unit) };
    assert!(matches!(world.spool.settle(&lease, nobody).await, Err(SpoolError::Invalid(_))));
    let somebody = Settlement { next_state: NextState::Removed, ..later(&unit, EVER) };
    assert!(matches!(world.spool.settle(&lease, somebody).await, Err(SpoolError::Invalid(_))));
    assert!(matches!(world.spool.enqueue(world.message(0)).await, Err(SpoolError::Invalid(_))));
}

#[tokio::test]
async fn enqueue_is_idempotent() {
    let world = World::new().await;
    let message = world.message(1);
    let (one, two) = tokio::join!(world.spool.enqueue(message.clone()), world.spool.enqueue(message.clone()));
    one.and(two).unwrap();
    let unit = world.due(world.now()).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    world.spool.settle(&lease, later(&unit, world.now() + HOUR)).await.unwrap();
    world.spool.enqueue(message).await.unwrap();
    assert_eq!(world.due(EVER).await.len(), 1, "a second enqueue must not bring a second unit");
    assert_eq!(world.spool.stats().enqueued, 1);
}

#[tokio::test]
async fn a_report_comes_in_the_step_that_settles() {
    for lost in [false, true] {
        let world = World::new().await;
        let id = world.enqueue(1).await;
        let unit = world.due(world.now()).await.remove(0);
        let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        let dsn = world.message(1);
        let dsn_id = dsn.id;
        if lost {
            world.engine.kill_after(0);
        }
        let settled = world.spool.settle(&lease, Settlement { generated: vec![dsn], ..gone(&unit) }).await;
        assert_eq!(settled.is_err(), lost);
        let world = world.restart().await;
        let ids: Vec<QueueId> = world.due(EVER).await.iter().map(|unit| unit.id).collect();
        assert_eq!(ids, [if lost { id } else { dsn_id }]);
    }
}

#[tokio::test]
async fn what_is_held_is_not_due() {
    let world = World::new().await;
    let mut fresh = world.spool.new_units(waxwing_spool::ShardId::FIRST);
    let held = waxwing_spool::NewMessage { hold: Some("quarantine".to_owned()), ..world.message(1) };
    let id = held.id;
    world.spool.enqueue(held).await.unwrap();
    world.enqueue(1).await;
    assert_ne!(fresh.recv().await.unwrap().unit.id, id, "no hint for what is held");
    let unit = world.due(EVER).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let settle = Settlement { next_state: NextState::Hold("operator".to_owned()), ..later(&unit, EVER) };
    world.spool.settle(&lease, settle).await.unwrap();
    let world = world.restart().await;
    assert!(world.due(EVER).await.is_empty());
    assert_eq!((world.spool.stats().hold, world.spool.stats().incoming), (2, 0));
    let page = world.spool.list(None, 10).await.unwrap();
    let states: Vec<&UnitState> = page.entries.iter().map(|entry| &entry.state).collect();
    assert_eq!(states, [&UnitState::Hold("quarantine".to_owned()), &UnitState::Hold("operator".to_owned())]);
    assert!(world.spool.load(id).await.is_ok());
}

#[tokio::test]
async fn scans_come_in_pages_and_in_order() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(world.enqueue(1).await);
        world.clock.advance(Duration::from_millis(1));
    }
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = world.spool.scan_due(&lease, after, world.now(), 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.due_key());
        found.extend(page.iter().map(|unit| unit.id));
    }
    assert_eq!(found, ids);
    let until = DueKey::first_at(Timestamp::from_millis(world.now().as_millis() - 5)).next_at;
    assert_eq!(world.spool.scan_due(&lease, None, until, 100).await.unwrap().len(), 3);
}

/// The cursor moves on, is stored, and what comes in below it lowers it in its own batch.
#[tokio::test]
async fn nothing_below_the_stored_cursor_is_missed() {
    let mut world = World::new().await;
    for round in 0..4_u64 {
        for _ in 0..5 {
            world.enqueue(1).await;
            world.clock.advance(Duration::from_secs(40));
        }
        let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        for unit in world.spool.scan_due(&lease, None, world.now(), 100).await.unwrap() {
            world.spool.settle(&lease, gone(&unit)).await.unwrap();
        }
        assert!(world.spool.scan_due(&lease, None, world.now(), 100).await.unwrap().is_empty());
        world.clock.advance(Duration::from_secs(600));
        world.enqueue(1).await;
        // A transaction that began long ago.
        let old = Timestamp::from_millis(world.now().as_millis() - 500_000 - round);
        let id = world.id();
        world.spool.enqueue(message(id, 1, old)).await.unwrap();
        world = world.restart().await;
        let units = world.due(world.now()).await;
        assert_eq!(units.len(), 2, "round {round}");
        assert_eq!(units[0].id, id);
        let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        for unit in units {
            world.spool.settle(&lease, gone(&unit)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_owner_who_is_behind_is_told_to_scan() {
    let world = World::with(|settings| settings.new_units_max = 2).await;
    let mut fresh = world.spool.new_units(waxwing_spool::ShardId::FIRST);
    let ids = [world.enqueue(1).await, world.enqueue(1).await, world.enqueue(1).await, world.enqueue(1).await];
    let from = world.spool.rescan_from(waxwing_spool::ShardId::FIRST).await;
    assert!(from.id == ids[2], "the first that was dropped");
    assert_eq!(world.spool.stats().new_units_dropped, 2);
    assert_eq!((fresh.recv().await.unwrap().unit.id, fresh.recv().await.unwrap().unit.id), (ids[0], ids[1]));
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let before = Some(DueKey { number: 0, id: ids[1], ..from });
    assert_eq!(world.spool.scan_due(&lease, before, EVER, 10).await.unwrap().len(), 2);
    assert!(world.spool.new_units(waxwing_spool::ShardId::FIRST).recv().await.is_none(), "there is one owner");
}

#[tokio::test]
async fn a_hint_can_be_checked_against_what_has_happened_since() {
    let world = World::new().await;
    let mut fresh = world.spool.new_units(waxwing_spool::ShardId::FIRST);
    world.enqueue(1).await;
    let unit = fresh.recv().await.unwrap().unit;
    assert_eq!(world.spool.is_current(&unit), Some(true));
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let next = world.spool.settle(&lease, later(&unit, unit.next_at)).await.unwrap().unwrap();
    assert_eq!((world.spool.is_current(&unit), world.spool.is_current(&next)), (Some(false), Some(true)));
    world.spool.settle(&lease, gone(&next)).await.unwrap();
    assert_eq!(world.spool.is_current(&next), None, "gone, or not in memory");
}

#[tokio::test]
async fn a_scan_from_the_place_before_a_unit_finds_it() {
    let world = World::new().await;
    let ids = [world.enqueue(1).await, world.enqueue(1).await];
    let units = world.due(EVER).await;
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    for (unit, left) in units.iter().zip([2, 1]) {
        let found = world.spool.scan_due(&lease, Some(unit.due_key().previous()), EVER, 10).await.unwrap();
        assert_eq!(found.len(), left);
    }
    let first = DueKey { next_at: Timestamp::from_millis(0), id: QueueId::from_u64(0), number: 0 };
    assert_eq!(first.previous(), first);
    let at = DueKey::first_at(Timestamp::from_millis(5));
    assert!(at.previous() < at && at.previous().next_at == Timestamp::from_millis(4));
    let part = DueKey { number: 3, id: ids[0], ..at };
    assert_eq!(part.previous(), DueKey { number: 2, ..part });
}

#[tokio::test]
async fn hints_hold_no_more_memory_than_allowed() {
    let world = World::with(|settings| settings.new_unit_bytes_max = 250).await;
    let mut fresh = world.spool.new_units(waxwing_spool::ShardId::FIRST);
    for _ in 0..4 {
        world.enqueue(1).await;
    }
    world.spool.rescan_from(waxwing_spool::ShardId::FIRST).await;
    let dropped = world.spool.stats().new_units_dropped;
    assert!((1..4).contains(&dropped), "{dropped}");
    for _ in 0..4 - dropped {
        fresh.recv().await.unwrap();
    }
    // Those messages are gone from memory: there is room again.
    let id = world.enqueue(1).await;
    assert_eq!(fresh.recv().await.unwrap().unit.id, id);
}

#[tokio::test]
async fn unreadable_units_are_kept_as_corrupt() {
    let world = World::new().await;
    let (first, second) = (world.enqueue(1).await, world.enqueue(1).await);
    let key = DueKey { next_at: world.now(), id: first, number: 0 };
    let due = world.store.keyspace("due").unwrap();
    let mut batch = Batch::default();
    let octets = [&key.next_at.as_millis().to_be_bytes()[..], &first.to_key(), &[0, 0]].concat();
    batch.put(&due, octets, Bytes::from_static(b"\x01garbage"));
    world.store.commit(batch).await.unwrap();
    // Found at start by one spool, and while running by the other.
    let restarted = World { engine: world.engine.fork(), ..World::new().await }.restart().await;
    for world in [restarted, world] {
        let units = world.due(EVER).await;
        assert_eq!(units.iter().map(|unit| unit.id).collect::<Vec<_>>(), [second]);
        assert_eq!((world.spool.stats().incoming, world.spool.stats().corrupt), (1, 1));
        assert_eq!(world.due(EVER).await.len(), 1);
        let page = world.spool.list(None, 10).await.unwrap();
        assert!(matches!(&page.entries[0].state, UnitState::Corrupt(_)), "{page:?}");
        assert_eq!(page.entries[0].id, first);
        assert_eq!(page.entries[0].message.as_ref().unwrap().recipients, ["r0@example.org"]);
        let shown = world.spool.show(first).await.unwrap();
        assert!(matches!(&shown.units[..], [(None, UnitState::Corrupt(_))]));
        assert_eq!(world.restart().await.spool.stats().corrupt, 1);
    }
}

#[tokio::test]
async fn unreadable_messages_are_kept_as_corrupt() {
    let world = World::new().await;
    let id = world.enqueue(1).await;
    let record = world.store.keyspace("message").unwrap();
    let mut octets = record.get(&id.to_key()).unwrap().unwrap().to_vec();
    *octets.last_mut().unwrap() ^= 1;
    let mut batch = Batch::default();
    batch.put(&record, id.to_key().to_vec(), octets.into());
    world.store.commit(batch).await.unwrap();
    let unit = world.due(EVER).await.remove(0);
    assert!(matches!(world.spool.load(id).await, Err(SpoolError::Corrupt(_))));
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let settle = Settlement { next_state: NextState::Corrupt("its CRC".to_owned()), ..later(&unit, EVER) };
    world.spool.settle(&lease, settle).await.unwrap();
    let world = world.restart().await;
    assert!(world.due(EVER).await.is_empty());
    assert_eq!(world.spool.stats().corrupt, 1);
    let shown = world.spool.show(id).await.unwrap();
    assert!(shown.envelope.is_none() && shown.units.len() == 1);
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let world = World::new().await;
    let mut expected = Vec::new();
    for n in 0..9 {
        let hold = (n < 4).then(|| "held".to_owned());
        let message = waxwing_spool::NewMessage { hold, ..world.message(1) };
        expected.push(message.id);
        world.spool.enqueue(message).await.unwrap();
        world.clock.advance(Duration::from_millis(1));
    }
    for limit in [1, 2, 3, 4, 5, 9, 100] {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = world.spool.list(after, limit).await.unwrap();
            found.extend(page.entries.iter().map(|entry| entry.id));
            pages += 1;
            assert!(page.entries.len() <= limit && pages < 20);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
    let page = world.spool.list(Some(ListKey::Due(DueKey::first_at(EVER))), 5).await.unwrap();
    assert!(page.entries.is_empty() && page.next.is_none());
    let entry = world.spool.list(None, 1).await.unwrap().entries.remove(0);
    let message = entry.message.unwrap();
    assert_eq!((message.size, message.sender.to_string().as_str()), (24, "sender@example.com"));
}

#[tokio::test]
async fn show_finds_all_units() {
    let world = World::new().await;
    let id = world.enqueue(120).await;
    let other = world.enqueue(1).await;
    let units = world.due(EVER).await;
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    world.spool.settle(&lease, later(&units[0], world.now() + HOUR)).await.unwrap();
    world
        .spool
        .settle(&lease, Settlement { next_state: NextState::Hold("x".to_owned()), ..later(&units[1], EVER) })
        .await
        .unwrap();
    let shown = world.spool.show(id).await.unwrap();
    let states: Vec<UnitState> = shown.units.iter().map(|(_, state)| state.clone()).collect();
    assert_eq!(states, [UnitState::Hold("x".to_owned()), UnitState::Incoming, UnitState::Deferred]);
    assert_eq!(shown.envelope.unwrap().recipients.len(), 120);
    assert_eq!(world.spool.show(other).await.unwrap().units.len(), 1);
    assert!(matches!(world.spool.show(QueueId::from_u64(1)).await, Err(SpoolError::NotFound)));
}

#[tokio::test]
async fn ids_grow_over_restarts() {
    let world = World::new().await;
    world.clock.advance(HOUR);
    let id = world.enqueue(1).await;
    let World { engine, files, .. } = world;
    let early = World::new().await;
    let world = World { engine, files, ..early }.restart().await;
    assert!(world.now().as_millis() << 20 < id.as_u64(), "the clock was set back");
    assert!(world.id() > id);
}

#[tokio::test]
async fn works_over_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = SpoolSettings { queue_minfree: 0, ..SpoolSettings::new(1 << 20, clock.clone()) };
    let open = || async {
        let store = Store::open(&directory.path().join("store"), &StoreOptions::new(&KEYSPACES)).unwrap();
        EmbeddedSpool::open(&store, &directory.path().join("bodies"), settings.clone()).await.unwrap()
    };
    let spool = open().await;
    let mut ids = Vec::new();
    for bytes in [10, 300_000] {
        let id = spool.next_queue_id(clock.now());
        let mut writer = spool.body_sink(id, spool.reserve_space(bytes as u64).unwrap());
        writer.write(crate::support::pattern(bytes).into()).await.unwrap();
        let body = writer.finish().await.unwrap();
        spool.enqueue(waxwing_spool::NewMessage { body, ..message(id, 1, clock.now()) }).await.unwrap();
        ids.push(id);
    }
    std::fs::write(directory.path().join("bodies").join(QueueId::from_u64(77).to_string()), "left behind").unwrap();
    drop(spool);
    let spool = open().await;
    let files = || std::fs::read_dir(directory.path().join("bodies")).unwrap().count();
    assert_eq!(files(), 1, "what nobody names is swept");
    let lease = spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    for (unit, bytes) in spool.scan_due(&lease, None, EVER, 10).await.unwrap().iter().zip([10, 300_000]) {
        let message = spool.load(unit.id).await.unwrap();
        assert_eq!(read_all(&*message.body).await.unwrap(), crate::support::pattern(bytes));
        spool.settle(&lease, gone(unit)).await.unwrap();
    }
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn what_comes_along_is_committed_in_the_same_step_and_waits_as_it_was_told() {
    let world = World::new().await;
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let wait = std::time::Duration::from_secs(600);
    let along = waxwing_spool::NewMessage { not_before: wait, ..world.message(1) };
    let (first, second) = (world.message(1), along.id);
    let message = waxwing_spool::NewMessage { attached: vec![along], ..first };
    let id = message.id;
    world.spool.enqueue(message).await.unwrap();
    assert_eq!(world.spool.stats().enqueued, 2);
    let now = world.now();
    let due = world.spool.scan_due(&lease, None, now, 10).await.unwrap();
    assert_eq!(due.iter().map(|unit| unit.id).collect::<Vec<_>>(), [id]);
    let later = world.spool.scan_due(&lease, None, now + wait, 10).await.unwrap();
    assert_eq!(later.iter().map(|unit| unit.id).collect::<Vec<_>>(), [id, second]);
    assert_eq!(later.iter().map(|unit| unit.next_at).max(), Some(now + wait));
}

#[tokio::test]
async fn each_step_of_priority_counts_as_a_second_of_waiting() {
    let world = World::new().await;
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let seconds = Duration::from_secs;
    let mut ids = Vec::new();
    for (priority, wait) in [(0, 0), (10, 0), (-10, 0), (10, 5)] {
        let message = waxwing_spool::NewMessage { priority, not_before: seconds(wait), ..world.message(1) };
        ids.push(message.id);
        world.spool.enqueue(message).await.unwrap();
    }
    let order = |units: Vec<waxwing_spool::Unit>| {
        units.iter().map(|unit| ids.iter().position(|id| *id == unit.id).unwrap()).collect::<Vec<_>>()
    };
    let now = world.now();
    assert_eq!(order(world.spool.scan_due(&lease, None, now, 10).await.unwrap()), [1, 0]);
    assert_eq!(order(world.spool.scan_due(&lease, None, now + seconds(10), 10).await.unwrap()), [1, 0, 3, 2]);
    let at = |seconds_after: u64| now + seconds(seconds_after);
    let last = world.spool.scan_due(&lease, None, at(10), 10).await.unwrap();
    assert_eq!(last[0].next_at.as_millis() + 10_000, now.as_millis());
    assert_eq!((last[2].next_at, last[3].next_at), (at(5), at(10)), "an earliest time is kept whatever the priority");
}
