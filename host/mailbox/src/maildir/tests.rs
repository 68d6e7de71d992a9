use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use waxwing_types::{ManualClock, MemoryBody};

use super::*;

/// A body that is made as it is read, and can fail.
struct MadeBody {
    size: u64,
    fails_at: u64,
    largest_read: AtomicUsize,
}

impl MadeBody {
    fn new(size: u64, fails_at: u64) -> Self {
        Self { size, fails_at, largest_read: AtomicUsize::new(0) }
    }
}

/// 7 divides no power of two, so that CRLF falls on every border.
fn byte_at(offset: u64) -> u8 {
    b"abcde\r\n"[(offset % 7) as usize]
}

#[async_trait]
impl BodyRead for MadeBody {
    fn size(&self) -> u64 {
        self.size
    }

    fn in_memory(&self) -> Option<&Bytes> {
        None
    }

    async fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        self.largest_read.fetch_max(length, Ordering::Relaxed);
        if offset >= self.fails_at {
            return Err(io::Error::other("lost"));
        }
        let end = (offset + length as u64).min(self.size);
        Ok((offset..end).map(byte_at).collect::<Vec<u8>>().into())
    }
}

fn store() -> MaildirStore {
    MaildirStore::new("mx/1:example", Arc::new(ManualClock::default()), 2)
}

fn files(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_message_lands_in_new_with_lf_line_ends() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("example/user");
    let body = MemoryBody::new(Bytes::from_static(b"one\r\n.two\r\n\xe4\rx"));
    let head = Bytes::from_static(b"Subject: s\r\n\r\n");
    let store = store();
    let delivered = store.deliver(&maildir, Bytes::from_static(b"Return-Path: <>\r\n"), head, &body).await.unwrap();
    let content = std::fs::read(&delivered.path).unwrap();
    assert_eq!(content, b"Return-Path: <>\nSubject: s\n\none\n.two\n\xe4\rx");
    let name = delivered.path.file_name().unwrap().to_str().unwrap();
    assert!(name.ends_with(&format!(",S={},W={}", content.len(), content.len() + 5)), "{name}");
    assert!(name.contains(".mx\\0571\\072example,"), "{name}");
    assert_eq!(files(&maildir.join("new")), std::slice::from_ref(&delivered.path));
    assert_eq!((files(&maildir.join("tmp")).len(), files(&maildir.join("cur")).len()), (0, 0));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir.path().join("example")), mode(&maildir), mode(&maildir.join("cur"))), (0o700, 0o700, 0o700));
    assert_eq!(mode(&delivered.path), 0o600);
    let second = store.deliver(&maildir, Bytes::new(), Bytes::new(), &MemoryBody::default()).await.unwrap();
    assert_ne!(second.path, delivered.path, "the clock stood still, the names differ");
    assert_eq!(std::fs::metadata(&second.path).unwrap().len(), 0);
}

#[tokio::test]
async fn a_large_body_streams() {
    let dir = tempfile::tempdir().unwrap();
    let body = MadeBody::new(3 << 20, u64::MAX);
    let delivered = store().deliver(dir.path(), Bytes::new(), Bytes::from_static(b"A: b\r\n\r\n"), &body).await.unwrap();
    let wire: Vec<u8> = (0..body.size).map(byte_at).collect();
    let text = String::from_utf8([&b"A: b\r\n\r\n"[..], &wire].concat()).unwrap();
    assert!(std::fs::read(&delivered.path).unwrap() == text.replace("\r\n", "\n").into_bytes());
    assert!(body.largest_read.load(Ordering::Relaxed) <= CHUNK_BYTES);
}

#[tokio::test]
async fn a_failure_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("box");
    let lost = store().deliver(&maildir, Bytes::new(), Bytes::new(), &MadeBody::new(3 << 20, 1 << 20)).await;
    assert!(matches!(lost, Err(MaildirError::Body(_))), "{lost:?}");
    assert_eq!((files(&maildir.join("tmp")).len(), files(&maildir.join("new")).len()), (0, 0));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let blocked = store().deliver(&file, Bytes::new(), Bytes::new(), &MadeBody::new(1 << 20, u64::MAX)).await;
    assert!(matches!(&blocked, Err(MaildirError::File { path, .. }) if path.starts_with(&file)), "{blocked:?}");
}

#[tokio::test]
async fn a_delivery_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("box");
    let store = store();
    let (pieces, received) = mpsc::channel(1);
    let permit = Arc::clone(&store.writers).acquire_owned().await.unwrap();
    let (path, name) = (maildir.clone(), store.unique_name());
    let write = blocking(permit, move || write_stream(&path, name, &[b"x"], received));
    let give_up = async move {
        pieces.send(BodyChunk::Data(Bytes::from_static(b"half of it"))).await.unwrap();
        drop(pieces);
    };
    let (written, ()) = tokio::join!(write, give_up);
    assert!(matches!(written, Err(MaildirError::Stopped)), "{written:?}");
    assert_eq!((files(&maildir.join("tmp")).len(), files(&maildir.join("new")).len()), (0, 0));
}

#[tokio::test]
async fn many_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store();
    let body = MemoryBody::new(Bytes::from_static(b"x\r\n"));
    let one = || store.deliver(dir.path(), Bytes::new(), Bytes::new(), &body);
    let (a, b, c, d, e) = tokio::join!(one(), one(), one(), one(), one());
    for result in [a, b, c, d, e] {
        result.unwrap();
    }
    assert_eq!(files(&dir.path().join("new")).len(), 5);
    assert_eq!(store.writers.available_permits(), 2);
}
