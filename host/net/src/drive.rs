//! The drive loop, which runs any session over any stream.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use waxwing_types::{Action, Clock, Input, Session, TlsSession};

use crate::output_buffer::OutputBuffer;
use crate::task::Shutdown;
use crate::timer::DeadlineTimer;
use crate::tls::{HandshakeRole, MaybeTlsStream, TlsError, TlsMode};

/// Maximum number of bytes of a read, and of an [`Input::Bytes`].
const READ_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of unsent bytes; above the limit the session gets no input and no answer.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Timeout for sending the last bytes after the session has closed.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(10);
/// Time to read from a peer that still sends after the close. Without reading, the kernel would reset the connection
/// before the peer reads the last reply.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// Maximum number of bytes read and dropped in [`LINGER_TIME_MAX`].
const LINGER_BYTES_MAX: u64 = 1024 * 1024;

thread_local! {
    /// Read buffer. The session consumes the bytes before the next poll, so all sessions of a thread share a single
    /// buffer and an idle session holds none.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice());
}

/// Answers the questions of a session and receives message bodies.
pub trait SessionHandler<S: Session>: Send {
    /// Answers the open question. The future is never cancelled, neither by disconnection of the peer nor by the
    /// shutdown; an implementation that waits long must watch the shutdown.
    fn answer(&mut self, question: S::Question) -> impl Future<Output = S::Answer> + Send;

    /// Receives a piece of a message. No more input is read until the future completes.
    fn body(&mut self, chunk: Bytes) -> impl Future<Output = ()> + Send;

    /// Called when a TLS handshake failed, before the session gets [`Input::Eof`].
    fn handshake_failed(&mut self, _why: &TlsError) {}

    /// Called after the end of the connection; not called if the task of the connection is dropped.
    fn connection_ended(&mut self, _how: ConnectionEnd) {}
}

/// Reason for the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// Connection closed by the session.
    Closed,
    /// Connection closed by the peer before the session closed.
    PeerGone,
    /// Write not completed by the session's deadline.
    WriteTimeout,
}

/// Result of [`drive`], for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveResult {
    /// Reason for the end.
    pub end: ConnectionEnd,
    /// Number of bytes read.
    pub bytes_in: u64,
    /// Number of bytes written.
    pub bytes_out: u64,
}

/// Drives `session` over `io` until the session closes.
///
/// Output of the session is buffered. The loop polls an answer once before writing, and writes before waiting: a
/// pipelined batch leaves in a single write, and a reply never waits for the disk. While bytes wait for a peer that
/// does not read, the session's deadline runs, and [`Input::Tick`] ends the connection.
///
/// The connection is encrypted with `tls`, either at the start or on request of the session. A session never starts
/// if the implicit handshake failed.
pub fn drive<S, H, IO>(
    io: IO,
    tls: TlsMode,
    session: S,
    host: H,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> impl Future<Output = DriveResult> + Send
where
    S: Session + Send,
    S::Question: Send,
    S::Answer: Send,
    H: SessionHandler<S>,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut shutdown = shutdown;
    let (implicit, requested) = match tls {
        TlsMode::None => (None, None),
        TlsMode::Accept { server, implicit: false, client } => (None, Some(HandshakeRole::Server(server, client))),
        TlsMode::Accept { server, implicit: true, client } => (Some(HandshakeRole::Server(server, client)), None),
        TlsMode::Connect(client) => (None, Some(HandshakeRole::Client(client))),
    };
    let connection = DrivenConnection {
        io: MaybeTlsStream::Plain(io),
        handshake: requested,
        session,
        actions: Vec::new(),
        output_buffer: OutputBuffer::default(),
        output_state: OutputState::Open,
        eof_delivered: false,
        timer: DeadlineTimer::new(clock),
        shutdown_signal: Some(Box::pin(async move { shutdown.wait().await })),
        bytes_in: 0,
    };
    // Boxed before the future is created: an async function reserves at least twice the space of an argument.
    let mut parts = Box::new((connection, host));
    async move {
        let (connection, host) = &mut *parts;
        connection.run(host, implicit).await
    }
}

/// State of the output to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutputState {
    Open,
    /// Failure of a write or a read.
    Broken,
    /// Deadline passed while bytes were unsent.
    TimedOut,
}

type ShutdownSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

struct DrivenConnection<S: Session, IO> {
    io: MaybeTlsStream<IO>,
    /// Handshake for [`Action::StartTls`]; `None` after use.
    handshake: Option<HandshakeRole>,
    session: S,
    actions: Vec<Action<S::Question>>,
    output_buffer: OutputBuffer,
    output_state: OutputState,
    /// Whether the session has received [`Input::Eof`].
    eof_delivered: bool,
    timer: DeadlineTimer,
    /// Shutdown signal; `None` after the session has received [`Input::Shutdown`].
    shutdown_signal: Option<ShutdownSignal>,
    bytes_in: u64,
}

impl<S, IO> DrivenConnection<S, IO>
where
    S: Session + Send,
    S::Question: Send,
    S::Answer: Send,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn run<H: SessionHandler<S>>(&mut self, host: &mut H, implicit: Option<HandshakeRole>) -> DriveResult {
        match implicit {
            None => self.step(Input::Start),
            Some(handshake) => match self.perform_handshake(handshake).await {
                Ok(session) => {
                    self.step(Input::Start);
                    self.step(Input::Secured(&session));
                }
                Err(error) => {
                    host.handshake_failed(&error);
                    self.output_state = OutputState::Broken;
                    return self.close(host).await;
                }
            },
        }
        let mut question = None;
        loop {
            let mut actions = mem::take(&mut self.actions);
            for action in actions.drain(..) {
                match action {
                    Action::Send(octets) if self.output_state == OutputState::Open => self.output_buffer.push(octets),
                    Action::Send(_) => {}
                    Action::WakeAt(deadline) => self.timer.set(deadline),
                    Action::Body(chunk) => self.poll_while_writing(host.body(chunk)).await,
                    Action::Ask(new) => question = Some(new),
                    Action::StartTls => self.start_tls(host).await,
                    Action::Close => return self.close(host).await,
                }
            }
            if !self.actions.is_empty() {
                continue; // output of the session after a handshake
            }
            self.actions = actions;
            if self.output_buffer.len() >= OUTPUT_BYTES_MAX {
                self.write_all().await;
            } else if self.output_state != OutputState::Open && !self.eof_delivered {
                self.deliver_eof();
            } else if let Some(open) = question.take() {
                let answer = self.poll_while_writing(host.answer(open)).await;
                self.step(Input::Answer(answer));
            } else if self.eof_delivered {
                return self.close(host).await; // no further output, but no close either
            } else if self.output_buffer.is_empty() {
                self.wait().await;
            } else {
                self.write_all().await;
            }
        }
    }

    fn step(&mut self, input: Input<'_, S::Answer>) {
        self.session.step(self.timer.now(), input, &mut self.actions);
    }

    /// Writes the buffered output in plain text, then performs the handshake. Any failure ends the connection.
    async fn start_tls<H: SessionHandler<S>>(&mut self, host: &mut H) {
        self.write_all().await;
        if self.output_state != OutputState::Open {
            return; // the loop notifies the session, unless the timer has
        }
        let result = match self.handshake.take() {
            Some(handshake) => self.perform_handshake(handshake).await,
            None => Err(TlsError::NotConfigured),
        };
        match result {
            Ok(session) => self.step(Input::Secured(&session)),
            Err(error) => {
                host.handshake_failed(&error);
                self.discard_output(OutputState::Broken);
                self.deliver_eof();
            }
        }
    }

    /// Performs the handshake; aborted at once by the shutdown, since no data can be lost. Boxed to keep sessions
    /// without TLS small.
    async fn perform_handshake(&mut self, role: HandshakeRole) -> Result<TlsSession, TlsError> {
        let mut handshake = Box::pin(self.io.handshake(role));
        poll_fn(|cx| {
            if let Poll::Ready(result) = handshake.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            let Some(stop) = &mut self.shutdown_signal else { return Poll::Pending };
            ready!(stop.as_mut().poll(cx));
            self.shutdown_signal = None;
            Poll::Ready(Err(TlsError::Shutdown))
        })
        .await
    }

    fn deliver_eof(&mut self) {
        self.eof_delivered = true;
        self.step(Input::Eof);
    }

    /// Polls `future` once; while the future is pending, writes buffered output.
    async fn poll_while_writing<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            if let Poll::Ready(Err(_)) = self.output_buffer.poll_write_all(cx, Pin::new(&mut self.io)) {
                self.discard_output(OutputState::Broken);
            }
            Poll::Pending
        })
        .await
    }

    /// Writes all buffered output, until the session's deadline.
    async fn write_all(&mut self) {
        let output = poll_fn(|cx| match self.output_buffer.poll_write_all(cx, Pin::new(&mut self.io)) {
            Poll::Ready(Ok(())) => Poll::Ready(OutputState::Open),
            Poll::Ready(Err(_)) => Poll::Ready(OutputState::Broken),
            Poll::Pending => self.timer.poll(cx).map(|()| OutputState::TimedOut),
        })
        .await;
        if output != OutputState::Open {
            self.discard_output(output);
        }
        if output == OutputState::TimedOut {
            self.step(Input::Tick);
        }
    }

    fn discard_output(&mut self, output: OutputState) {
        self.output_buffer.clear();
        self.output_state = output;
    }

    /// Waits for input, the deadline or the shutdown, and passes the event to the session.
    async fn wait(&mut self) {
        poll_fn(|cx| {
            if self.poll_read(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(stop) = &mut self.shutdown_signal
                && stop.as_mut().poll(cx).is_ready()
            {
                self.shutdown_signal = None;
                self.step(Input::Shutdown);
                return Poll::Ready(());
            }
            ready!(self.timer.poll(cx));
            self.step(Input::Tick);
            Poll::Ready(())
        })
        .await;
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        READ_BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => self.deliver_eof(),
                Ok(()) => {
                    self.bytes_in += buffer.filled().len() as u64;
                    self.session.step(self.timer.now(), Input::Bytes(buffer.filled()), &mut self.actions);
                }
                Err(_) => {
                    self.discard_output(OutputState::Broken);
                    self.deliver_eof();
                }
            }
            Poll::Ready(())
        })
    }

    async fn close<H: SessionHandler<S>>(&mut self, host: &mut H) -> DriveResult {
        if self.output_state == OutputState::Open {
            let (io, outbox) = (&mut self.io, &mut self.output_buffer);
            let sent = timeout(CLOSING_TIME_MAX, async {
                poll_fn(|cx| outbox.poll_write_all(cx, Pin::new(&mut *io))).await?;
                poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await
            });
            match sent.await {
                Ok(Ok(())) if !self.eof_delivered => linger(&mut self.io).await,
                Ok(Ok(())) => {}
                Ok(Err(_)) => self.output_state = OutputState::Broken,
                Err(_) => self.output_state = OutputState::TimedOut,
            }
        }
        let end = match self.output_state {
            OutputState::Open => ConnectionEnd::Closed,
            OutputState::Broken => ConnectionEnd::PeerGone,
            OutputState::TimedOut => ConnectionEnd::WriteTimeout,
        };
        host.connection_ended(end);
        DriveResult { end, bytes_in: self.bytes_in, bytes_out: self.output_buffer.written() }
    }
}

/// Discards further input, only if the peer is sending at this moment.
async fn linger<IO: AsyncRead + Unpin>(io: &mut IO) {
    let first = poll_fn(|cx| Poll::Ready(poll_discard(io, cx))).await;
    let Poll::Ready(Ok(read)) = first else { return };
    let rest = async {
        let mut octets = read;
        while octets < LINGER_BYTES_MAX {
            match poll_fn(|cx| poll_discard(io, cx)).await {
                Ok(0) | Err(_) => return,
                Ok(read) => octets += read,
            }
        }
    };
    if read > 0 {
        // The connection is dropped in any case: end of input, byte limit or timeout.
        let _ = timeout(LINGER_TIME_MAX, rest).await;
    }
}

fn poll_discard<IO: AsyncRead + Unpin>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
    READ_BUFFER.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len() as u64))
    })
}
