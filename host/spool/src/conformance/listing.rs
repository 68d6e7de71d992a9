//! Checks of the operator's view.

use super::{Bench, END_OF_TIME, SpoolHarness, deferred};
use crate::{NewMessage, SpoolError, UNIT_RECIPIENTS_MAX, UnitState};

/// Pages continue after the last entry; the last page has no next position.
pub async fn list_has_pages_with_suspended_units_first<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    for n in 0..7 {
        let hold = (n % 3 == 0).then(|| "look".to_owned());
        bench.enqueue_message(NewMessage { hold, ..bench.message(1) }).await;
    }
    let all = bench.spool().list(None, 100).await.unwrap();
    assert_eq!((all.entries.len(), all.next), (7, None));
    let held: Vec<bool> = all.entries.iter().map(|entry| matches!(entry.state, UnitState::Hold(_))).collect();
    assert_eq!(held, [true, true, true, false, false, false, false]);
    let message = all.entries.first().and_then(|entry| entry.message.as_ref()).unwrap();
    assert_eq!(message.size, b"Subject: test\r\n\r\nhello\r\n".len() as u64);
    assert_eq!(message.recipients, ["r0@example.org"]);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = bench.spool().list(after, 2).await.unwrap();
        paged.extend(page.entries);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, all.entries);
}

/// All units of a message are shown, whatever their state.
pub async fn show_has_all_units_of_a_message<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(2 * UNIT_RECIPIENTS_MAX).await;
    bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.into_iter().find(|unit| unit.id == id).unwrap();
    let lease = bench.lease(id).await;
    bench.spool().settle(&lease, deferred(&unit, END_OF_TIME)).await.unwrap();
    let detail = bench.spool().show(id).await.unwrap();
    let mut states: Vec<UnitState> = detail.units.iter().map(|(_, state)| state.clone()).collect();
    states.sort_by_key(|state| *state == UnitState::Deferred);
    assert_eq!(states, [UnitState::Incoming, UnitState::Deferred]);
    assert_eq!(detail.envelope.map(|envelope| envelope.recipients.len()), Some(2 * UNIT_RECIPIENTS_MAX));
    let unknown = bench.message(1).id;
    assert!(matches!(bench.spool().show(unknown).await, Err(SpoolError::NotFound)));
}

/// Counts follow the states, and are recovered at a restart.
pub async fn stats_count_units_by_state<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let id = bench.enqueue(1).await;
    bench.enqueue(1).await;
    bench.enqueue_message(NewMessage { hold: Some("look".to_owned()), ..bench.message(1) }).await;
    let unit = bench.due(END_OF_TIME).await.into_iter().find(|unit| unit.id == id).unwrap();
    let lease = bench.lease(id).await;
    bench.spool().settle(&lease, deferred(&unit, END_OF_TIME)).await.unwrap();
    let stats = bench.spool().stats();
    assert_eq!((stats.incoming, stats.deferred, stats.hold, stats.corrupt), (1, 1, 1, 0));
    assert_eq!((stats.enqueued, stats.settled), (3, 1));
    let stats = bench.reopen().await.spool().stats();
    assert_eq!((stats.incoming, stats.deferred, stats.hold, stats.corrupt), (1, 1, 1, 0));
}
