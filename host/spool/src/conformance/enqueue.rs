//! Checks of enqueueing: durability, division into units, placement.

use std::time::Duration;

use super::{Bench, END_OF_TIME, SpoolHarness, read_body, removed};
use crate::{NewMessage, SpoolError, UNIT_RECIPIENTS_MAX, Unit};

/// A message is complete after reopening, and goes with its unit.
pub async fn enqueued_message_survives_reopening<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let message = bench.message(2);
    let (envelope, header) = (message.envelope.clone(), message.header.clone());
    let id = bench.enqueue_message(message).await;
    let bench = bench.reopen().await;
    let unit = bench.due(bench.now()).await.remove(0);
    assert_eq!((unit.id, unit.recipients.len(), unit.attempts), (id, 2, 0));
    let loaded = bench.spool().load(id).await.unwrap();
    assert_eq!((&*loaded.envelope, &loaded.header), (&envelope, &header));
    assert_eq!(read_body(&*loaded.body).await.unwrap(), b"hello\r\n");
    let lease = bench.lease(id).await;
    assert_eq!(bench.spool().settle(&lease, removed(&unit)).await.unwrap(), None);
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.is_empty());
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::NotFound)));
}

/// A retry under the same id adds nothing.
pub async fn enqueue_is_idempotent_while_the_message_is_queued<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let message = bench.message(UNIT_RECIPIENTS_MAX + 1);
    bench.enqueue_message(message.clone()).await;
    bench.enqueue_message(message.clone()).await;
    assert_eq!(bench.due(END_OF_TIME).await.len(), 2);
    let bench = bench.reopen().await;
    bench.enqueue_message(message).await;
    assert_eq!(bench.due(END_OF_TIME).await.len(), 2);
    let stats = bench.spool().stats();
    assert_eq!((stats.incoming, stats.deferred), (2, 0));
}

/// Units have at most [`UNIT_RECIPIENTS_MAX`] recipients; the message goes with the last unit, in any order.
pub async fn recipients_are_divided_into_units<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(2 * UNIT_RECIPIENTS_MAX + 1).await;
    let bench = bench.reopen().await;
    let mut units = bench.due(bench.now()).await;
    let indexes: Vec<u32> = units.iter().flat_map(|unit| unit.recipients.iter().map(|r| r.index)).collect();
    assert_eq!(indexes, (0..101).collect::<Vec<u32>>());
    assert_eq!(units.iter().map(|unit| unit.recipients.len()).collect::<Vec<_>>(), [50, 50, 1]);
    let lease = bench.lease(id).await;
    units.swap(0, 1);
    for unit in &units {
        assert!(bench.spool().load(id).await.is_ok(), "removed before unit {}", unit.number);
        bench.spool().settle(&lease, removed(unit)).await.unwrap();
    }
    assert!(matches!(bench.spool().load(id).await, Err(SpoolError::NotFound)));
}

/// Attached messages of attached messages belong to the same step, with their own times.
pub async fn attached_messages_are_committed_together<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let wait = Duration::from_secs(600);
    let deepest = NewMessage { not_before: wait, ..bench.message(1) };
    let middle = NewMessage { attached: vec![deepest], ..bench.message(1) };
    let message = NewMessage { attached: vec![middle], ..bench.message(1) };
    bench.enqueue_message(message).await;
    let bench = bench.reopen().await;
    assert_eq!(bench.due(bench.now()).await.len(), 2);
    let all = bench.due(bench.now() + wait).await;
    assert_eq!(all.len(), 3);
    assert_eq!(all.iter().map(|unit| unit.next_at).max(), Some(bench.now() + wait));
    let invalid = NewMessage { attached: vec![bench.message(0)], ..bench.message(1) };
    assert!(matches!(bench.spool().enqueue(invalid).await, Err(SpoolError::Invalid(_))));
    assert_eq!(bench.due(END_OF_TIME).await.len(), 3, "all or none");
}

/// A message without recipients, or with a header block beyond the limit, is refused.
pub async fn invalid_messages_are_refused<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    assert!(matches!(bench.spool().enqueue(bench.message(0)).await, Err(SpoolError::Invalid(_))));
    let long = NewMessage { header: vec![b'x'; crate::HEADER_BLOCK_BYTES_MAX + 1].into(), ..bench.message(1) };
    assert!(matches!(bench.spool().enqueue(long).await, Err(SpoolError::Invalid(_))));
    assert!(bench.due(END_OF_TIME).await.is_empty());
}

/// A message put on hold by intake is listed and not due.
pub async fn held_message_is_not_due<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue_message(NewMessage { hold: Some("quarantine".to_owned()), ..bench.message(1) }).await;
    let bench = bench.reopen().await;
    assert!(bench.due(END_OF_TIME).await.is_empty());
    let page = bench.spool().list(None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    let entry = page.entries.first().unwrap();
    assert_eq!((entry.id, &entry.state), (id, &crate::UnitState::Hold("quarantine".to_owned())));
    assert_eq!(bench.spool().stats().hold, 1);
}

/// Each step of priority counts as a second of waiting; no priority causes an attempt before `not_before`.
pub async fn priority_and_earliest_time_order_the_units<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    bench.advance(Duration::from_secs(3600));
    let mut ids = Vec::new();
    for (priority, wait) in [(0, 0), (10, 0), (-10, 0), (10, 5)] {
        let message = NewMessage { priority, not_before: Duration::from_secs(wait), ..bench.message(1) };
        ids.push(bench.enqueue_message(message).await);
    }
    let order = |mut units: Vec<Unit>| {
        units.sort_by_key(Unit::due_key);
        units.iter().map(|unit| ids.iter().position(|id| *id == unit.id).unwrap()).collect::<Vec<_>>()
    };
    let now = bench.now();
    assert_eq!(order(bench.due(now).await), [1, 0]);
    let all = bench.due(now + Duration::from_secs(10)).await;
    let at = |id: usize| all.iter().find(|unit| ids.get(id) == Some(&unit.id)).unwrap().next_at;
    assert_eq!(at(1) + Duration::from_secs(10), now);
    assert_eq!((at(3), at(2)), (now + Duration::from_secs(5), now + Duration::from_secs(10)));
    assert_eq!(order(all), [1, 0, 3, 2]);
}

/// No queue id is used twice, even if the clock stands still over the restart.
pub async fn queue_ids_grow_across_reopening<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let first = bench.enqueue(1).await;
    let second = bench.enqueue(1).await;
    assert!(second > first);
    let bench = bench.reopen().await;
    assert!(bench.spool().next_queue_id(bench.now()) > second);
}
