//! Checks of bodies and of the space for them.

use bytes::Bytes;

use super::{Bench, END_OF_TIME, SpoolHarness, pattern, read_body, removed};
use crate::{BODY_INLINE_BYTES_MAX, NewBody, NewMessage, Settlement, SpoolError};

const MIB: u64 = 1 << 20;

/// Bodies below and above the inline limit come back unchanged, before the commit and after a restart.
pub async fn bodies_of_all_sizes_are_read_back<H: SpoolHarness>() {
    let mut bench = Bench::<H>::new().await;
    for bytes in [0, 1, BODY_INLINE_BYTES_MAX, BODY_INLINE_BYTES_MAX + 1, 1_000_000] {
        let message = bench.message(1);
        let body = bench.write_body(message.id, bytes).await;
        assert!(read_body(&*body.reader()).await.unwrap() == pattern(bytes), "{bytes} before the commit");
        let id = bench.enqueue_message(NewMessage { body, ..message }).await;
        bench = bench.reopen().await;
        let message = bench.spool().load(id).await.unwrap();
        assert_eq!(message.body.size(), bytes as u64);
        assert!(read_body(&*message.body).await.unwrap() == pattern(bytes), "{bytes}");
        let unit = bench.due(END_OF_TIME).await.remove(0);
        let lease = bench.lease(id).await;
        bench.spool().settle(&lease, removed(&unit)).await.unwrap();
    }
}

/// Any part can be read; parts end with the body.
pub async fn body_is_readable_in_parts<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let message = bench.message(1);
    let body = bench.write_body(message.id, 300_000).await;
    let id = bench.enqueue_message(NewMessage { body, ..message }).await;
    let (body, all) = (bench.spool().load(id).await.unwrap().body, pattern(300_000));
    for (offset, length) in [(0, 1), (1, 65_536), (65_535, 2), (299_999, 10), (300_000, 10), (300_005, 10), (7, 0)] {
        let expected = all.get(offset.min(all.len())..(offset + length).clamp(offset.min(all.len()), all.len())).unwrap();
        assert_eq!(body.read(offset as u64, length).await.unwrap(), expected, "{length} from {offset}");
    }
}

/// A message may have several bodies before the commit; a body of another message is refused.
pub async fn large_body_belongs_to_its_message<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let message = bench.message(1);
    let first = bench.write_body(message.id, 300_000).await;
    let second = bench.write_body(message.id, 400_000).await;
    drop(first);
    let id = bench.enqueue_message(NewMessage { body: second, ..message }).await;
    let body = bench.spool().load(id).await.unwrap().body;
    assert!(read_body(&*body).await.unwrap() == pattern(400_000));
    let foreign = bench.write_body(bench.message(1).id, 300_000).await;
    let wrong = NewMessage { body: foreign, ..bench.message(1) };
    assert!(matches!(bench.spool().enqueue(wrong).await, Err(SpoolError::Invalid(_))));
}

/// Bodies beyond [`BODY_INLINE_BYTES_MAX`] need a sink.
pub async fn inline_bodies_have_a_limit<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    let body = NewBody::inline(vec![b'x'; BODY_INLINE_BYTES_MAX].into()).unwrap();
    let id = bench.enqueue_message(NewMessage { body, ..bench.message(1) }).await;
    assert_eq!(bench.spool().load(id).await.unwrap().body.size(), BODY_INLINE_BYTES_MAX as u64);
    assert!(matches!(NewBody::inline(vec![0; BODY_INLINE_BYTES_MAX + 1].into()), Err(SpoolError::Invalid(_))));
    let stored = crate::store_body(&*bench.spool(), id, vec![b'y'; BODY_INLINE_BYTES_MAX + 1].into()).await.unwrap();
    assert_eq!(stored.size(), BODY_INLINE_BYTES_MAX as u64 + 1);
}

/// Without space new mail is refused at every step, and settlements with their DSNs still pass.
pub async fn full_engine_refuses_new_mail_and_settles<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    bench.0.set_free_bytes(100 * MIB);
    let id = bench.enqueue(1).await;
    let unit = bench.due(END_OF_TIME).await.remove(0);
    let reservation = bench.spool().reserve_space(10 * MIB).unwrap();
    bench.0.set_free_bytes(0);
    bench.advance(std::time::Duration::from_secs(1));
    let is_full = |result: Result<(), SpoolError>| matches!(result, Err(SpoolError::Full { .. }));
    assert!(is_full(bench.spool().reserve_space(1).map(drop)), "at MAIL");
    let mut sink = bench.spool().body_sink(bench.message(1).id, reservation);
    assert!(is_full(sink.write(Bytes::from(pattern(BODY_INLINE_BYTES_MAX + 1))).await), "a large body");
    assert!(sink.finish().await.is_err(), "an incomplete body is never finished");
    assert!(is_full(bench.spool().enqueue(bench.message(1)).await), "at the commit");
    let lease = bench.lease(id).await;
    let settle = Settlement { generated: vec![bench.message(1)], ..removed(&unit) };
    bench.spool().settle(&lease, settle).await.unwrap();
    assert_eq!(bench.due(END_OF_TIME).await.len(), 1);
    bench.0.set_free_bytes(100 * MIB);
    bench.advance(std::time::Duration::from_secs(1));
    bench.enqueue(1).await;
}

/// Reserved space is not available to others until the reservation ends.
pub async fn reservation_counts_until_dropped<H: SpoolHarness>() {
    let bench = Bench::<H>::new().await;
    bench.0.set_free_bytes(50 * MIB);
    bench.advance(std::time::Duration::from_secs(1));
    let mut first = bench.spool().reserve_space(30 * MIB).unwrap();
    assert_eq!(first.size_hint(), 30 * MIB);
    assert!(matches!(bench.spool().reserve_space(30 * MIB), Err(SpoolError::Full { .. })));
    assert!(matches!(first.extend_to(60 * MIB), Err(SpoolError::Full { .. })));
    drop(first);
    bench.advance(std::time::Duration::from_secs(1));
    bench.spool().reserve_space(30 * MIB).unwrap();
}
