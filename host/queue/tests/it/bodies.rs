//! Bodies: small ones inside, large ones in files, never much in memory, never on a full disk.

use crate::support::{World, gone, pattern, read_all};
use bytes::Bytes;
use waxwing_queue::{BODY_BLOCK_BYTES, BodyFiles};
use waxwing_spool::{BODY_INLINE_BYTES_MAX, NewBody, NewMessage, Settlement, Spool, SpoolError};
use waxwing_types::Timestamp;

const MIB: u64 = 1 << 20;
const EVER: Timestamp = Timestamp::from_millis(u64::MAX);

#[tokio::test]
async fn bodies_of_all_sizes_come_back() {
    let mut world = World::new().await;
    for (bytes, files) in [
        (0, 0),
        (1, 0),
        (BODY_INLINE_BYTES_MAX, 0),
        (BODY_INLINE_BYTES_MAX + 1, 1),
        (5 * BODY_BLOCK_BYTES, 1),
        (5 * BODY_BLOCK_BYTES + 1, 1),
        (3_000_000, 1),
    ] {
        let id = world.enqueue_large(bytes).await;
        world = world.restart().await;
        assert_eq!(world.files.names().unwrap().len(), files, "{bytes}");
        let message = world.spool.load(id).await.unwrap();
        assert_eq!(message.body.size(), bytes as u64);
        assert_eq!(message.body.in_memory().is_some(), files == 0);
        assert!(read_all(&*message.body).await.unwrap() == pattern(bytes), "{bytes}");
        let unit = world.due(EVER).await.remove(0);
        let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        world.spool.settle(&lease, gone(&unit)).await.unwrap();
        assert!(world.files.names().unwrap().is_empty(), "{bytes}");
    }
}

#[tokio::test]
async fn any_part_of_a_file_can_be_read() {
    let world = World::new().await;
    let bytes = 4 * BODY_BLOCK_BYTES + 100;
    let id = world.enqueue_large(bytes).await;
    let body = world.spool.load(id).await.unwrap().body;
    let all = pattern(bytes);
    for (offset, length) in [
        (0, 1),
        (1, BODY_BLOCK_BYTES),
        (BODY_BLOCK_BYTES - 1, 2),
        (BODY_BLOCK_BYTES, BODY_BLOCK_BYTES),
        (bytes - 1, 10),
        (bytes, 10),
        (bytes + 5, 10),
        (7, 0),
    ] {
        let expected = &all[offset.min(bytes)..(offset + length).min(bytes).max(offset.min(bytes))];
        assert_eq!(body.read(offset as u64, length).await.unwrap(), expected, "{length} from {offset}");
    }
}

#[tokio::test]
async fn a_broken_file_is_an_error_and_not_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let files = std::sync::Arc::new(waxwing_queue::DiskBodyFiles::open(&directory.path().join("bodies")).unwrap());
    let spool = waxwing_queue::EmbeddedSpool::open_with(&world.store, files, world.settings.clone()).await.unwrap();
    let world = World { spool, ..world };
    let id = world.enqueue_large(400_000).await;
    let path = directory.path().join("bodies").join(id.to_string());
    let mut octets = std::fs::read(&path).unwrap();
    octets[200_000] ^= 1;
    std::fs::write(&path, &octets).unwrap();
    let body = world.spool.load(id).await.unwrap().body;
    assert_eq!(body.read(0, 100_000).await.unwrap().len(), 100_000);
    assert_eq!(body.read(200_000, 10).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(read_all(&*body).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    std::fs::write(&path, &pattern(400_000)[..399_999]).unwrap();
    let body = world.spool.load(id).await.unwrap().body;
    assert_eq!(read_all(&*body).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    std::fs::remove_file(&path).unwrap();
    let body = world.spool.load(id).await.unwrap().body;
    assert_eq!(read_all(&*body).await.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_writer_holds_no_more_than_its_limit() {
    let world = World::new().await;
    let id = world.id();
    let mut writer = world.spool.body_sink(id, world.spool.reserve_space(50 * MIB).unwrap());
    let piece = Bytes::from(pattern(60_000));
    for _ in 0..50 * MIB as usize / piece.len() {
        writer.write(piece.clone()).await.unwrap();
        let held = world.spool.stats().spool_memory_bytes;
        assert!(held <= BODY_INLINE_BYTES_MAX as u64, "{held}");
    }
    let body = writer.finish().await.unwrap();
    assert_eq!(world.spool.stats().spool_memory_bytes, 0);
    let reader = body.reader();
    world.spool.enqueue(NewMessage { body, ..crate::support::message(id, 1, world.now()) }).await.unwrap();
    assert_eq!(reader.read(59_999, 2).await.unwrap(), [piece[59_999], piece[0]].as_slice());
}

#[tokio::test]
async fn bodies_become_files_when_memory_is_used_up() {
    let world = World::with(|settings| settings.spool_memory_bytes_max = 50_000).await;
    let mut bodies = Vec::new();
    for n in 1..=6_usize {
        let id = world.id();
        let mut writer = world.spool.body_sink(id, world.spool.reserve_space(0).unwrap());
        for piece in pattern(20_000).chunks(1000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
            assert!(world.spool.stats().spool_memory_bytes <= 50_000);
        }
        bodies.push((id, writer.finish().await.unwrap()));
        assert_eq!(world.files.names().unwrap().len(), n.saturating_sub(bodies.iter().filter(|b| in_memory(&b.1)).count()));
    }
    assert!(bodies.iter().any(|body| in_memory(&body.1)) && bodies.iter().any(|body| !in_memory(&body.1)));
    for (id, body) in bodies {
        world.spool.enqueue(NewMessage { body, ..crate::support::message(id, 1, world.now()) }).await.unwrap();
        let message = world.spool.load(id).await.unwrap();
        assert!(read_all(&*message.body).await.unwrap() == pattern(20_000));
    }
    assert_eq!(world.spool.stats().spool_memory_bytes, 0, "given back after the commit");
}

fn in_memory(body: &NewBody) -> bool {
    body.reader().in_memory().is_some()
}

#[tokio::test]
async fn what_no_message_takes_is_removed() {
    let world = World::new().await;
    let id = world.id();
    let first = world.write(id, 300_000).await;
    let second = world.write(id, 400_000).await;
    assert_eq!(world.files.names().unwrap().len(), 2, "a second body of the same message has a name of its own");
    // Someone who still reads it keeps it.
    let reader = first.reader();
    drop(first);
    assert!(read_all(&*reader).await.unwrap() == pattern(300_000));
    drop(reader);
    let mut writer = world.spool.body_sink(world.id(), world.spool.reserve_space(0).unwrap());
    writer.write(pattern(300_000).into()).await.unwrap();
    drop(writer);
    world.spool.enqueue(NewMessage { body: second, ..crate::support::message(id, 1, world.now()) }).await.unwrap();
    while world.files.names().unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    let world = world.restart().await;
    let message = world.spool.load(id).await.unwrap();
    assert!(read_all(&*message.body).await.unwrap() == pattern(400_000));
    let other = world.id();
    let body = world.write(world.id(), 300_000).await;
    let wrong = NewMessage { body, ..crate::support::message(other, 1, world.now()) };
    assert!(matches!(world.spool.enqueue(wrong).await, Err(SpoolError::Invalid(_))), "the body of another message");
}

/// The commit may have become durable, whatever it said: only the sweep may remove the file.
#[tokio::test]
async fn a_failed_commit_leaves_its_file_to_the_sweep() {
    let world = World::new().await;
    let id = world.id();
    let body = world.write(id, 300_000).await;
    world.engine.kill_after(0);
    let message = NewMessage { body, ..crate::support::message(id, 1, world.now()) };
    assert!(matches!(world.spool.enqueue(message).await, Err(SpoolError::Unavailable { .. })));
    tokio::task::yield_now().await;
    assert_eq!(world.files.names().unwrap().len(), 1);
    assert!(world.restart().await.files.names().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_is_unlinked_only_after_its_removal_is_synced() {
    let world = World::new().await;
    let id = world.enqueue_large(300_000).await;
    let unit = world.due(EVER).await.remove(0);
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    world.engine.kill_after(0);
    assert!(world.spool.settle(&lease, gone(&unit)).await.is_err());
    let world = world.restart().await;
    let message = world.spool.load(id).await.unwrap();
    assert!(read_all(&*message.body).await.unwrap() == pattern(300_000));
}

#[tokio::test]
async fn a_full_disk_refuses_what_comes_in_and_lets_settling_go_on() {
    let world = World::with(|settings| settings.queue_minfree = 100 * MIB).await;
    world.files.set_free_bytes(200 * MIB);
    let id = world.enqueue_large(300_000).await;
    let unit = world.due(EVER).await.remove(0);
    let ready = world.write(world.id(), 1000).await;
    let reservation = world.spool.reserve_space(10 * MIB).unwrap();

    world.files.set_free_bytes(99 * MIB);
    world.clock.advance(std::time::Duration::from_secs(1));
    let full = |result: Result<(), SpoolError>| matches!(result, Err(SpoolError::Full { .. }));
    assert!(full(world.spool.reserve_space(1).map(drop)), "at MAIL");
    let mut writer = world.spool.body_sink(world.id(), reservation);
    let written = writer.write(Bytes::from(pattern(BODY_INLINE_BYTES_MAX + 1))).await;
    assert!(full(written), "before each body file, also within what was promised");
    let message = NewMessage { body: ready.clone(), ..world.message(1) };
    assert!(full(world.spool.enqueue(message).await), "before each commit");
    assert!(full(world.spool.enqueue(world.message(1)).await), "before each commit, without a reservation");

    // A report is part of settling.
    let lease = world.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
    let settle = Settlement { generated: vec![world.message(1)], ..gone(&unit) };
    world.spool.settle(&lease, settle).await.unwrap();
    assert!(matches!(world.spool.load(id).await, Err(SpoolError::NotFound)));
    assert_eq!(world.due(EVER).await.len(), 1);

    world.files.set_free_bytes(200 * MIB);
    let message = NewMessage { body: ready, ..world.message(1) };
    world.spool.enqueue(message).await.unwrap();
    assert_eq!(world.due(EVER).await.len(), 2, "it serves again when there is room");
}

#[tokio::test]
async fn a_body_that_outgrows_its_promise_asks_for_more() {
    let world = World::with(|settings| settings.queue_minfree = 100 * MIB).await;
    world.files.set_free_bytes(101 * MIB);
    let mut writer = world.spool.body_sink(world.id(), world.spool.reserve_space(1000).unwrap());
    let mut written = 0;
    let refused = loop {
        match writer.write(Bytes::from(pattern(50_000))).await {
            Ok(()) => written += 50_000,
            Err(error) => break error,
        }
        assert!(written < 2 * MIB);
    };
    assert!(matches!(refused, SpoolError::Full { .. }));
}

#[tokio::test]
async fn large_bodies_go_through_a_writer() {
    assert!(NewBody::inline(vec![0; BODY_INLINE_BYTES_MAX].into()).is_ok());
    assert!(matches!(NewBody::inline(vec![0; BODY_INLINE_BYTES_MAX + 1].into()), Err(SpoolError::Invalid(_))));
}

#[tokio::test]
async fn what_comes_along_with_what_comes_along_needs_room_too() {
    let world = World::with(|settings| settings.queue_minfree = 100 * MIB).await;
    world.files.set_free_bytes(100 * MIB + 100_000);
    let nested = || {
        let large = NewBody::inline(pattern(200_000).into()).unwrap();
        let deepest = NewMessage { body: large, ..world.message(1) };
        let middle = NewMessage { attached: vec![deepest], ..world.message(1) };
        NewMessage { attached: vec![middle], ..world.message(1) }
    };
    assert!(matches!(world.spool.enqueue(nested()).await, Err(SpoolError::Full { .. })));
    assert_eq!(world.spool.stats().enqueued, 0);
    world.files.set_free_bytes(101 * MIB);
    world.clock.advance(std::time::Duration::from_secs(1));
    world.spool.enqueue(nested()).await.unwrap();
    assert_eq!(world.spool.stats().enqueued, 3);
}
