//! Checks of the owner's interface: order, leases, settlement, notifications, unreadable records.

use std::time::Duration;

use super::{Bench, END_OF_TIME, SpoolHarness, deferred, first_shard, removed};
use crate::{NewMessage, NextState, Settlement, ShardId, SpoolError, Unit, UnitState};

const HOUR: Duration = Duration::from_secs(3600);

/// Scans return the units in order, each page after the last key of the page before.
pub async fn due_units_come_in_order_and_in_pages<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    for _ in 0..10 {
        bench.enqueue(1).await;
        bench.advance(Duration::from_millis(10));
    }
    let spool = bench.spool();
    let mut seen = 0;
    for shard in spool.shards() {
        let lease = spool.acquire(shard).await.unwrap();
        let all = spool.scan_due(&lease, None, END_OF_TIME, 100).await.unwrap();
        assert!(all.is_sorted_by_key(Unit::due_key));
        seen += all.len();
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = spool.scan_due(&lease, after, END_OF_TIME, 3).await.unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 3);
            after = Some(last.due_key());
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
    assert_eq!(seen, 10);
    assert!(bench.due(bench.now() + HOUR).await.iter().all(|unit| unit.next_at < bench.now()));
}

/// The time of the next unit, and none behind the last.
pub async fn next_due_is_the_first_unit_behind_the_position<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue_message(NewMessage { not_before: HOUR, ..bench.message(1) }).await;
    let bench = bench.reopen().await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let lease = bench.lease(id).await;
    assert_eq!(bench.spool().next_due(&lease, None).await.unwrap(), Some(bench.now() + HOUR));
    assert_eq!(bench.spool().next_due(&lease, Some(unit.due_key())).await.unwrap(), None);
}

/// A deferred unit keeps statuses and attempts over a restart, and a unit deferred to its own time stays.
pub async fn deferred_unit_returns_with_its_status<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(2).await;
    let unit = bench.due(bench.now()).await.remove(0);
    let lease = bench.lease(id).await;
    let at = bench.now() + HOUR;
    let mut settle = deferred(&unit, at);
    settle.remaining.remove(0);
    let next = bench.spool().settle(&lease, settle).await.unwrap().unwrap();
    assert_eq!((next.attempts, next.next_at, next.version), (1, at, unit.version + 1));
    assert!(bench.due(bench.now()).await.is_empty());
    let bench = bench.reopen().await;
    assert_eq!(bench.due(at).await, std::slice::from_ref(&next));
    assert_eq!(next.recipients.first().map(|recipient| recipient.index), Some(1));
    let lease = bench.lease(id).await;
    let again = bench.spool().settle(&lease, deferred(&next, at)).await.unwrap().unwrap();
    assert_eq!(bench.reopen().await.due(END_OF_TIME).await, [again]);
}

/// DSNs and submissions are queued in the step that ends the attempt, and not if the step fails.
pub async fn settlement_is_atomic_with_generated_messages<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let lease = bench.lease(id).await;
    let invalid = Settlement { generated: vec![bench.message(1), bench.message(0)], ..removed(&unit) };
    assert!(matches!(bench.spool().settle(&lease, invalid).await, Err(SpoolError::Invalid(_))));
    let bench = bench.reopen().await;
    assert_eq!(bench.due(END_OF_TIME).await, std::slice::from_ref(&unit), "all or none");
    let lease = bench.lease(id).await;
    let submission = bench.message(1);
    let dsn = NewMessage { attached: vec![submission], ..bench.message(1) };
    let dsn_id = dsn.id;
    let settle = Settlement { generated: vec![dsn], ..removed(&unit) };
    assert_eq!(bench.spool().settle(&lease, settle).await.unwrap(), None);
    let bench = bench.reopen().await;
    let units = bench.due(END_OF_TIME).await;
    assert_eq!(units.len(), 2);
    assert!(units.iter().any(|unit| unit.id == dsn_id));
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::NotFound)));
}

/// A unit settles once per version.
pub async fn settlement_of_a_stale_unit_conflicts<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let lease = bench.lease(id).await;
    let next = bench.spool().settle(&lease, deferred(&unit, unit.next_at)).await.unwrap().unwrap();
    assert!(matches!(bench.spool().settle(&lease, removed(&unit)).await, Err(SpoolError::Conflict)));
    assert_eq!(bench.due(END_OF_TIME).await, std::slice::from_ref(&next));
    let lease = bench.lease(id).await;
    bench.spool().settle(&lease, removed(&next)).await.unwrap();
    assert!(matches!(bench.spool().settle(&lease, removed(&next)).await, Err(SpoolError::Conflict)));
    assert_ne!(bench.spool().is_current(&next), Some(true));
}

/// A unit without recipients is removed, a unit with recipients stays.
pub async fn remaining_recipients_and_next_state_must_agree<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let lease = bench.lease(id).await;
    let without = Settlement { remaining: Vec::new(), ..deferred(&unit, END_OF_TIME) };
    let with = Settlement { remaining: unit.recipients.clone(), ..removed(&unit) };
    for settle in [without, with] {
        assert!(matches!(bench.spool().settle(&lease, settle).await, Err(SpoolError::Invalid(_))));
    }
    assert_eq!(bench.due(END_OF_TIME).await, [unit]);
}

/// The epoch grows with every lease of a shard, over restarts too, and stale owners change nothing.
pub async fn later_lease_fences_earlier_leases<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let first = bench.lease(id).await;
    let second = bench.lease(id).await;
    assert!(second.epoch() > first.epoch());
    assert_eq!(first.shard(), bench.spool().shard_for(id));
    let fenced = |result: Result<(), SpoolError>| assert!(matches!(result, Err(SpoolError::Fenced)));
    fenced(bench.spool().settle(&first, removed(&unit)).await.map(drop));
    fenced(bench.spool().scan_due(&first, None, END_OF_TIME, 1).await.map(drop));
    fenced(bench.spool().next_due(&first, None).await.map(drop));
    let bench = bench.reopen().await;
    let third = bench.lease(id).await;
    assert!(third.epoch() > second.epoch());
    fenced(bench.spool().settle(&second, removed(&unit)).await.map(drop));
    assert_eq!(bench.due(END_OF_TIME).await, [unit]);
}

/// Only the shards of the list have leases, and each message belongs to one of them.
pub async fn unknown_shard_has_no_lease<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let spool = bench.spool();
    assert!(spool.shards().contains(&spool.shard_for(bench.message(1).id)));
    assert!(matches!(spool.acquire(ShardId::new(u16::MAX)).await, Err(SpoolError::Invalid(_))));
}

/// A new unit is notified with its message; a second receiver is closed.
pub async fn new_units_are_notified_once_to_one_receiver<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(2).await;
    let shard = bench.spool().shard_for(id);
    let mut new_units = bench.spool().new_units(shard);
    let mut second = bench.spool().new_units(shard);
    assert!(second.recv().await.is_none());
    let new_unit = new_units.recv().await.unwrap();
    assert_eq!((new_unit.unit.id, new_unit.unit.recipients.len(), new_unit.message.id), (id, 2, id));
    assert_eq!(&new_unit.message.header[..], b"Subject: test\r\n\r\n");
    assert_eq!(bench.due(END_OF_TIME).await, std::slice::from_ref(&new_unit.unit));
    assert_eq!(bench.spool().is_current(&new_unit.unit), Some(true));
    assert!(new_units.try_recv().is_none());
}

/// Notifications beyond the limit are replaced by a request to scan.
pub async fn dropped_notifications_request_a_rescan<H: SpoolHarness>() {
    let bench = Bench(H::open(1).await);
    let spool = bench.spool();
    let shard = first_shard(&*spool);
    let mut units = 0;
    while units < 3 {
        units += usize::from(spool.shard_for(bench.enqueue(1).await) == shard);
    }
    let lease = spool.acquire(shard).await.unwrap();
    let from = spool.rescan_from(shard).await;
    let all = spool.scan_due(&lease, None, END_OF_TIME, 10).await.unwrap();
    assert_eq!(all.get(1).map(Unit::due_key), Some(from));
    let again = spool.scan_due(&lease, Some(from.previous()), END_OF_TIME, 10).await.unwrap();
    assert_eq!(again.len(), 2);
    assert!(spool.stats().new_units_dropped >= 2);
    assert_eq!(spool.new_units(shard).recv().await.map(|new_unit| new_unit.unit), all.first().cloned());
}

/// A unit put on hold by a settlement stays with its reason.
pub async fn unit_on_hold_after_an_attempt_is_kept<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let lease = bench.lease(id).await;
    let settle = Settlement { next_state: NextState::Hold("look".to_owned()), ..deferred(&unit, END_OF_TIME) };
    let held = bench.spool().settle(&lease, settle).await.unwrap();
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.is_empty());
    let detail = bench.spool().show(id).await.unwrap();
    assert_eq!(detail.units, [(held, UnitState::Hold("look".to_owned()))]);
}

/// A message that cannot be read is an error of its own; the owner keeps its unit for the operator.
pub async fn corrupt_message_is_reported_and_kept<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let (id, other) = (bench.enqueue(1).await, bench.enqueue(1).await);
    bench.0.corrupt_message(id).await;
    let bench = bench.reopen().await;
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::Corrupt(_))));
    assert!(bench.spool().load(other).await.is_ok());
    let unit = bench.due(END_OF_TIME).await.into_iter().find(|unit| unit.id == id).unwrap();
    let lease = bench.lease(id).await;
    let settle = Settlement { next_state: NextState::Corrupt("no CRC".to_owned()), ..deferred(&unit, END_OF_TIME) };
    bench.spool().settle(&lease, settle).await.unwrap();
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.iter().all(|unit| unit.id == other));
    let detail = bench.spool().show(id).await.unwrap();
    assert_eq!(detail.envelope, None);
    assert!(matches!(detail.units.first(), Some((Some(_), UnitState::Corrupt(detail))) if detail == "no CRC"));
}

/// A unit that cannot be read is left out of the scan and kept for the operator.
pub async fn corrupt_unit_is_moved_out_of_the_schedule<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let (id, other) = (bench.enqueue(1).await, bench.enqueue(1).await);
    let unit = bench.due(END_OF_TIME).await.into_iter().find(|unit| unit.id == id).unwrap();
    bench.0.corrupt_unit(unit.due_key()).await;
    assert!(bench.due(END_OF_TIME).await.iter().all(|unit| unit.id == other));
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.iter().all(|unit| unit.id == other));
    assert!(bench.spool().load(id).await.is_ok(), "the message stays");
    let page = bench.spool().list(None, 10).await.unwrap();
    let entry = page.entries.iter().find(|entry| entry.id == id).unwrap();
    assert!(matches!(&entry.state, UnitState::Corrupt(_)) && entry.unit.is_none());
    assert_eq!(bench.spool().stats().corrupt, 1);
}
