//! The loop: when it writes, what it waits for, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Recorder, TestHost, clock, host, session, willing};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use waxwing_config::SmtpConfig;
use waxwing_net::{ConnectionEnd, DriveResult, SessionHandler, Shutdown, TlsMode, drive, spawn};
use waxwing_smtp::client::{ClientAnswer, ClientJob, ClientQuestion, DisconnectReason, JobResult};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{Address, ManualClock, Recipient, ReversePath};

const GREETING: &str = "220 mx.example ESMTP Waxwing\r\n";
const HELO: &str = "HELO c.example\r\n";
const HELO_OK: &str = "250 mx.example\r\n";
const ENVELOPE: &str = "MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";
const ENVELOPE_OK: &str = "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n";

/// Starts a session over a pipe; the other end is the client's.
fn start(
    host: TestHost,
    pipe_bytes: usize,
    clock: &Arc<ManualClock>,
    shutdown: &Shutdown,
) -> (DuplexStream, JoinHandle<DriveResult>) {
    let (client, server) = duplex(pipe_bytes);
    let (clock, shutdown) = (Arc::clone(clock), shutdown.clone());
    (client, spawn("test", async move { drive(server, TlsMode::None, session(), host, clock, shutdown).await }))
}

async fn expect(client: &mut DuplexStream, text: &str) {
    let mut found = vec![0; text.len()];
    client.read_exact(&mut found).await.unwrap();
    assert_eq!(String::from_utf8(found).unwrap(), text);
}

#[tokio::test]
async fn a_pipelined_batch_leaves_in_one_write() {
    let (host, mut controls) = willing();
    let io =
        Recorder::new(&[HELO, ENVELOPE, "x\r\n.\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", "y\r\n.\r\nQUIT\r\n"]);
    let record = Arc::clone(&io.record);
    let (_trigger, shutdown) = Shutdown::new();
    let ended = drive(io, TlsMode::None, session(), host, clock(), shutdown).await;
    let writes: Vec<String> = record.lock().unwrap().writes.iter().map(|w| String::from_utf8(w.clone()).unwrap()).collect();
    let queued = "250 2.0.0 queued\r\n";
    let expected = [
        GREETING.to_owned(),
        HELO_OK.to_owned(),
        ENVELOPE_OK.to_owned(),
        format!("{queued}{ENVELOPE_OK}"),
        format!("{queued}221 2.0.0 Bye\r\n"),
    ];
    assert_eq!(writes, expected);
    assert_eq!(ended.bytes_out, expected.concat().len() as u64);
    assert_eq!(ended.end, ConnectionEnd::Closed);
    assert_eq!(controls.messages.recv().await.unwrap(), b"x\r\n");
    assert_eq!(controls.messages.recv().await.unwrap(), b"y\r\n");
}

#[tokio::test]
async fn what_is_said_is_written_before_an_answer_is_waited_for() {
    let (host, controls) = host(0, Semaphore::MAX_PERMITS);
    let (_trigger, shutdown) = Shutdown::new();
    let (mut client, task) = start(host, 4096, &clock(), &shutdown);
    // Even from a client that does not wait for 354: the replies before the open commit must not wait for it.
    client.write_all([HELO, ENVELOPE, "x\r\n.\r\nNOOP\r\n"].concat().as_bytes()).await.unwrap();
    expect(&mut client, &[GREETING, HELO_OK, ENVELOPE_OK].concat()).await;
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    controls.commits.add_permits(1);
    expect(&mut client, "250 2.0.0 queued\r\n250 2.0.0 Ok\r\n").await;
    drop(client);
    assert_eq!(task.await.unwrap().end, ConnectionEnd::Closed);
}

#[tokio::test]
async fn a_commit_is_finished_though_the_peer_has_gone() {
    let (host, mut controls) = host(0, Semaphore::MAX_PERMITS);
    let (_trigger, shutdown) = Shutdown::new();
    let (mut client, task) = start(host, 4096, &clock(), &shutdown);
    client.write_all([HELO, ENVELOPE].concat().as_bytes()).await.unwrap();
    expect(&mut client, &[GREETING, HELO_OK, ENVELOPE_OK].concat()).await;
    client.write_all(b"x\r\n.\r\n").await.unwrap();
    tokio::task::yield_now().await;
    drop(client);
    tokio::task::yield_now().await;
    assert!(!task.is_finished(), "the question is still open");
    controls.commits.add_permits(1);
    assert_eq!(controls.messages.recv().await.unwrap(), b"x\r\n");
    assert_eq!(task.await.unwrap().end, ConnectionEnd::PeerGone);
}

#[tokio::test]
async fn a_message_that_is_not_whole_is_not_committed_when_the_peer_goes() {
    let (host, mut controls) = willing();
    let (_trigger, shutdown) = Shutdown::new();
    let (mut client, task) = start(host, 4096, &clock(), &shutdown);
    client.write_all([HELO, ENVELOPE, "half a mess"].concat().as_bytes()).await.unwrap();
    expect(&mut client, &[GREETING, HELO_OK, ENVELOPE_OK].concat()).await;
    drop(client);
    task.await.unwrap();
    assert_eq!(controls.messages.recv().await, None);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_not_read_either_and_ends_by_the_deadline() {
    let (host, _controls) = willing();
    let io = Recorder::stuck("NOOP\r\n");
    let record = Arc::clone(&io.record);
    let clock = clock();
    let (_trigger, shutdown) = Shutdown::new();
    let session = drive(io, TlsMode::None, session(), host, Arc::<ManualClock>::clone(&clock), shutdown);
    let ended = with_time(session, &clock).await;
    assert_eq!(ended.end, ConnectionEnd::WriteTimeout);
    assert_eq!(record.lock().unwrap().reads, 0, "the greeting was not taken");
}

/// Has a message without end, and counts what is taken of it.
struct EndlessBody {
    taken: Arc<AtomicUsize>,
}

const PIECE: usize = 64 * 1024;

impl SessionHandler<ClientSession> for EndlessBody {
    async fn answer(&mut self, question: ClientQuestion) -> ClientAnswer {
        match question {
            ClientQuestion::Next { .. } => {
                let recipients = vec![Recipient::new(Address::new("c", "d.example").unwrap())];
                ClientAnswer::Job(ClientJob::new(1, ReversePath::Null, recipients, 1))
            }
            ClientQuestion::Body { .. } => {
                let taken = self.taken.fetch_add(PIECE, Ordering::Relaxed);
                // 256 KiB may be gathered, and one more piece is taken when the session has given up.
                assert!(taken <= 256 * 1024 + PIECE, "{taken} octets taken");
                ClientAnswer::Body { chunk: Bytes::from_static(&[b'x'; PIECE]), last: false }
            }
            ClientQuestion::Outcome(outcome) => {
                assert!(
                    matches!(outcome.result, JobResult::Disconnected { reason: DisconnectReason::TimedOut, .. }),
                    "{outcome:?}"
                );
                ClientAnswer::Done
            }
        }
    }

    async fn body(&mut self, _chunk: Bytes) {}
}

#[tokio::test]
async fn a_server_that_never_reads_bounds_what_is_taken_of_a_body() {
    let (mut server, io) = duplex(1024);
    let replies = "220 s\r\n250-s\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    server.write_all(replies.as_bytes()).await.unwrap();
    let clock = clock();
    let (_trigger, shutdown) = Shutdown::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let mut settings = ClientSettings::with_helo_name("client.example");
    let config = SmtpConfig { smtp_data_xfer_timeout: Duration::from_millis(40), ..SmtpConfig::clone(&settings.config) };
    settings.config = Arc::new(config);
    let session = ClientSession::new(Arc::new(settings));
    let host = EndlessBody { taken: Arc::clone(&taken) };
    let ended = with_time(drive(io, TlsMode::None, session, host, Arc::<ManualClock>::clone(&clock), shutdown), &clock).await;
    assert_eq!(ended.end, ConnectionEnd::WriteTimeout);
    assert!(taken.load(Ordering::Relaxed) >= 256 * 1024);
}

/// Runs `future` while time goes on.
async fn with_time<T>(future: impl Future<Output = T>, clock: &ManualClock) -> T {
    let time = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_millis(5));
        }
    };
    tokio::select! {
        done = future => done,
        () = time => unreachable!(),
    }
}

#[tokio::test]
async fn a_host_that_takes_no_body_stops_the_reading() {
    let (host, controls) = host(1, 0);
    let (_trigger, shutdown) = Shutdown::new();
    let (mut client, task) = start(host, 1024, &clock(), &shutdown);
    client.write_all([HELO, ENVELOPE].concat().as_bytes()).await.unwrap();
    expect(&mut client, &[GREETING, HELO_OK, ENVELOPE_OK].concat()).await;
    let body = vec![b'x'; 100_000];
    // The pipe holds 1024 octets and the host has one piece, at most a pipe's content too: the rest can't have left.
    let written = tokio::time::timeout(Duration::from_millis(50), async {
        let mut written = 0;
        while written < body.len() {
            written += client.write(&body[written..]).await.unwrap();
            assert!(written <= 2 * 1024, "{written} octets left though no piece was taken");
        }
    });
    assert!(written.await.is_err(), "the writer must wait");
    controls.bodies.add_permits(1_000_000);
    client.write_all(b"\r\n.\r\nQUIT\r\n").await.unwrap();
    expect(&mut client, "250 2.0.0 queued\r\n221 2.0.0 Bye\r\n").await;
    drop(client);
    assert_eq!(task.await.unwrap().end, ConnectionEnd::Closed);
}

#[tokio::test]
async fn time_is_the_clocks_not_the_timers() {
    let (host, _controls) = willing();
    let clock = clock();
    let (_trigger, shutdown) = Shutdown::new();
    let (mut client, task) = start(host, 4096, &clock, &shutdown);
    expect(&mut client, GREETING).await;
    // The timer fires after 40 ms of its own time, again and again; the clock stands still.
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.write_all(b"NOOP\r\n").await.unwrap();
    expect(&mut client, "250 2.0.0 Ok\r\n").await;
    clock.advance(Duration::from_millis(40));
    expect(&mut client, "421 4.4.2 Timeout, closing\r\n").await;
    drop(client);
    assert_eq!(task.await.unwrap().end, ConnectionEnd::Closed);
}

#[tokio::test]
async fn shutdown_ends_idle_sessions_and_waits_for_commits() {
    let (trigger, shutdown) = Shutdown::new();
    let (idle_host, _idle_controls) = willing();
    let (mut idle, idle_task) = start(idle_host, 4096, &clock(), &shutdown);
    let (busy_host, mut controls) = host(0, Semaphore::MAX_PERMITS);
    let (mut busy, busy_task) = start(busy_host, 4096, &clock(), &shutdown);
    drop(shutdown);
    expect(&mut idle, GREETING).await;
    busy.write_all([HELO, ENVELOPE].concat().as_bytes()).await.unwrap();
    expect(&mut busy, &[GREETING, HELO_OK, ENVELOPE_OK].concat()).await;
    busy.write_all(b"x\r\n.\r\n").await.unwrap();
    tokio::task::yield_now().await;
    trigger.trigger();
    expect(&mut idle, "421 4.3.2 Service shutting down, closing\r\n").await;
    drop(idle);
    assert_eq!(idle_task.await.unwrap().end, ConnectionEnd::Closed);
    assert!(!busy_task.is_finished());
    controls.commits.add_permits(1);
    expect(&mut busy, "250 2.0.0 queued\r\n421 4.3.2 Service shutting down, closing\r\n").await;
    assert_eq!(controls.messages.recv().await.unwrap(), b"x\r\n");
    drop(busy);
    trigger.all_dropped().await;
    assert!(busy_task.await.is_ok());
}
