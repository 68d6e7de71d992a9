//! Streams and hosts that a test controls.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use waxwing_net::SessionHandler;
use waxwing_smtp::server::{DropAnswer, MessageAnswer, ServerAnswer, ServerQuestion, StepAnswer};
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{ManualClock, Reply};

/// What a [`Recorder`] did.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) reads: usize,
    pub(crate) writes: Vec<Vec<u8>>,
}

/// A stream that gives these inputs, one for each read, then the end; and notes each write.
pub(crate) struct Recorder {
    pub(crate) record: Arc<Mutex<Record>>,
    inputs: VecDeque<Vec<u8>>,
    /// Writes are never taken.
    stuck: bool,
    /// The inputs come over and over.
    endless: bool,
}

impl Recorder {
    pub(crate) fn new(inputs: &[&str]) -> Self {
        let inputs = inputs.iter().map(|text| text.as_bytes().to_vec()).collect();
        Self { record: Arc::default(), inputs, stuck: false, endless: false }
    }

    /// Sends `input` for ever and reads nothing.
    pub(crate) fn stuck(input: &str) -> Self {
        Self { stuck: true, endless: true, ..Self::new(&[input]) }
    }

    fn take(&self, octets: Vec<u8>) -> Poll<io::Result<usize>> {
        if self.stuck {
            return Poll::Pending;
        }
        let length = octets.len();
        self.record.lock().unwrap().writes.push(octets);
        Poll::Ready(Ok(length))
    }
}

impl AsyncRead for Recorder {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.record.lock().unwrap().reads += 1;
        if let Some(input) = self.inputs.pop_front() {
            buffer.put_slice(&input);
            if self.endless {
                self.inputs.push_back(input);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.take(octets.to_vec())
    }

    fn poll_write_vectored(self: Pin<&mut Self>, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.take(slices.iter().flat_map(|slice| slice.iter().copied()).collect())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A mail server's host: commits everything. It can be made to wait.
pub(crate) struct TestHost {
    /// Each whole message.
    messages: mpsc::Sender<Vec<u8>>,
    message: Vec<u8>,
    /// Each EndOfData takes one.
    commits: Arc<Semaphore>,
    /// Each piece of a body takes one.
    bodies: Arc<Semaphore>,
    pub(crate) connect: ServerAnswer,
}

pub(crate) struct Controls {
    pub(crate) messages: mpsc::Receiver<Vec<u8>>,
    pub(crate) commits: Arc<Semaphore>,
    pub(crate) bodies: Arc<Semaphore>,
}

/// A host that waits for leave to commit and to take bodies as often as these are not `Semaphore::MAX_PERMITS`.
pub(crate) fn host(commits: usize, bodies: usize) -> (TestHost, Controls) {
    let (sender, messages) = mpsc::channel(100);
    let (commits, bodies) = (Arc::new(Semaphore::new(commits)), Arc::new(Semaphore::new(bodies)));
    let host = TestHost {
        messages: sender,
        message: Vec::new(),
        commits: Arc::clone(&commits),
        bodies: Arc::clone(&bodies),
        connect: ServerAnswer::Step(StepAnswer::Ok),
    };
    (host, Controls { messages, commits, bodies })
}

pub(crate) fn willing() -> (TestHost, Controls) {
    host(Semaphore::MAX_PERMITS, Semaphore::MAX_PERMITS)
}

impl SessionHandler<ServerSession> for TestHost {
    async fn answer(&mut self, question: ServerQuestion) -> ServerAnswer {
        match question {
            ServerQuestion::Connect => self.connect.clone(),
            ServerQuestion::EndOfData => {
                self.commits.acquire().await.unwrap().forget();
                self.messages.send(std::mem::take(&mut self.message)).await.unwrap();
                ServerAnswer::Message(MessageAnswer::Committed(Reply::fixed(250, (2, 0, 0), "queued")))
            }
            ServerQuestion::Reset => ServerAnswer::Drop(DropAnswer::Done),
            ServerQuestion::Secured(_)
            | ServerQuestion::Auth(_)
            | ServerQuestion::Xclient(_)
            | ServerQuestion::Command { .. }
            | ServerQuestion::Helo { .. }
            | ServerQuestion::Mail { .. }
            | ServerQuestion::Rcpt { .. }
            | ServerQuestion::Data => ServerAnswer::Step(StepAnswer::Ok),
        }
    }

    async fn body(&mut self, chunk: Bytes) {
        self.bodies.acquire().await.unwrap().forget();
        self.message.extend_from_slice(&chunk);
    }
}

pub(crate) fn session() -> ServerSession {
    let mut settings = ServerSettings::new("mx.example");
    settings.command_idle = Duration::from_millis(40);
    settings.data_idle = Duration::from_millis(40);
    settings.junk_commands_max = u32::MAX;
    ServerSession::new(Arc::new(settings))
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::default())
}
