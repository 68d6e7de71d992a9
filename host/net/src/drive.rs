//! The one loop that drives any session over any stream.

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

use crate::outbox::Outbox;
use crate::task::Shutdown;
use crate::timer::Timer;
use crate::tls::{Handshake, Tls, TlsError, Wire};

/// Octets of one read, and so of one [`Input::Bytes`].
const READ_BYTES_MAX: usize = 64 * 1024;
/// Octets that may wait for the peer before the session gets anything more: no input, no answer.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// For the last octets to leave when the session has closed.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(10);
/// A peer that is still sending is listened to so long after we closed, so that it can read our last reply before its own
/// octets earn it a reset.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// Octets read and dropped in that time.
const LINGER_BYTES_MAX: u64 = 1024 * 1024;

thread_local! {
    /// Where reads land. The session takes what it needs before the next poll, so that one buffer serves all of a thread's
    /// sessions and an idle one holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into_boxed_slice());
}

/// Answers a session's questions and takes its bodies.
pub trait Host<S: Session>: Send {
    /// Answers the open question. It is never cancelled, neither by the peer's going away nor by the shutdown: a host
    /// that waits long watches the shutdown itself.
    fn answer(&mut self, question: S::Question) -> impl Future<Output = S::Answer> + Send;

    /// Takes a piece of a message. No more input is read until it has.
    fn body(&mut self, chunk: Bytes) -> impl Future<Output = ()> + Send;

    /// A handshake failed; the session gets its end next.
    fn handshake_failed(&mut self, _why: &TlsError) {}

    /// The connection is over. Not called if the task that drives it is dropped.
    fn ended(&mut self, _how: End) {}
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The session closed it.
    Closed,
    /// The peer was gone before the session closed.
    PeerGone,
    /// The peer did not take our octets by the session's deadline.
    PeerStuck,
}

/// What [`drive`] tells when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: End,
    /// Octets read.
    pub octets_in: u64,
    /// Octets written.
    pub octets_out: u64,
}

/// Drives `session` over `io` until it closes.
///
/// What the session sends is gathered. The loop polls an answer once before it writes, and writes before it waits for
/// anything: a pipelined batch leaves in one write, a reply never waits for the disk. While octets wait for a peer that
/// does not read, the session's deadline runs, and its [`Input::Tick`] ends the matter.
///
/// Where the session asks for it, or before all else, the connection is encrypted by `tls`. A session whose implicit handshake failed never
/// starts.
pub fn drive<S, H, IO>(
    io: IO,
    tls: Tls,
    session: S,
    host: H,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> impl Future<Output = Ended> + Send
where
    S: Session + Send,
    S::Question: Send,
    S::Answer: Send,
    H: Host<S>,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut shutdown = shutdown;
    let (first, asked) = match tls {
        Tls::None => (None, None),
        Tls::Accept { server, first: false, client } => (None, Some(Handshake::Server(server, client))),
        Tls::Accept { server, first: true, client } => (Some(Handshake::Server(server, client)), None),
        Tls::Connect(client) => (None, Some(Handshake::Client(client))),
    };
    let connection = Connection {
        io: Wire::Plain(io),
        handshake: asked,
        session,
        actions: Vec::new(),
        outbox: Outbox::default(),
        output: Output::Open,
        peer_gone_told: false,
        timer: Timer::new(clock),
        stop: Some(Box::pin(async move { shutdown.wait().await })),
        octets_in: 0,
    };
    // In a box that is made before the future: what an async function takes, it has room for twice and more.
    let mut both = Box::new((connection, host));
    async move {
        let (connection, host) = &mut *both;
        connection.run(host, first).await
    }
}

/// What becomes of octets for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Open,
    /// A write failed, or a read did.
    Broken,
    /// The deadline passed while octets waited.
    Stuck,
}

type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Connection<S: Session, IO> {
    io: Wire<IO>,
    /// What [`Action::StartTls`] means; gone once it was used.
    handshake: Option<Handshake>,
    session: S,
    actions: Vec<Action<S::Question>>,
    outbox: Outbox,
    output: Output,
    /// The session has had [`Input::Eof`].
    peer_gone_told: bool,
    timer: Timer,
    /// Gone once the session has had [`Input::Shutdown`].
    stop: Option<Stop>,
    octets_in: u64,
}

impl<S, IO> Connection<S, IO>
where
    S: Session + Send,
    S::Question: Send,
    S::Answer: Send,
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    async fn run<H: Host<S>>(&mut self, host: &mut H, first: Option<Handshake>) -> Ended {
        match first {
            None => self.step(Input::Start),
            Some(handshake) => match self.shake(handshake).await {
                Ok(session) => {
                    self.step(Input::Start);
                    self.step(Input::Secured(&session));
                }
                Err(error) => {
                    host.handshake_failed(&error);
                    self.output = Output::Broken;
                    return self.close(host).await;
                }
            },
        }
        let mut question = None;
        loop {
            let mut actions = mem::take(&mut self.actions);
            for action in actions.drain(..) {
                match action {
                    Action::Send(octets) if self.output == Output::Open => self.outbox.push(octets),
                    Action::Send(_) => {}
                    Action::WakeAt(deadline) => self.timer.set(deadline),
                    Action::Body(chunk) => self.while_writing(host.body(chunk)).await,
                    Action::Ask(asked) => question = Some(asked),
                    Action::StartTls => self.start_tls(host).await,
                    Action::Close => return self.close(host).await,
                }
            }
            if !self.actions.is_empty() {
                continue; // what the session said to the end of a handshake
            }
            self.actions = actions;
            if self.outbox.len() >= OUTPUT_BYTES_MAX {
                self.drain().await;
            } else if self.output != Output::Open && !self.peer_gone_told {
                self.peer_gone();
            } else if let Some(asked) = question.take() {
                let answer = self.while_writing(host.answer(asked)).await;
                self.step(Input::Answer(answer));
            } else if self.peer_gone_told {
                return self.close(host).await; // a session that has nothing more to say, and does not say so
            } else if self.outbox.is_empty() {
                self.wait().await;
            } else {
                self.drain().await;
            }
        }
    }

    fn step(&mut self, input: Input<'_, S::Answer>) {
        self.session.step(self.timer.now(), input, &mut self.actions);
    }

    /// The octets that wait leave in plain text; then both sides shake hands. Whatever prevents it is an end.
    async fn start_tls<H: Host<S>>(&mut self, host: &mut H) {
        self.drain().await;
        if self.output != Output::Open {
            return; // the loop tells the session, if the timer has not
        }
        let shaken = match self.handshake.take() {
            Some(handshake) => self.shake(handshake).await,
            None => Err(TlsError::None),
        };
        match shaken {
            Ok(session) => self.step(Input::Secured(&session)),
            Err(error) => {
                host.handshake_failed(&error);
                self.give_up_output(Output::Broken);
                self.peer_gone();
            }
        }
    }

    /// The shutdown ends a handshake at once: there is nothing to lose. It is on the heap so that sessions without one are small.
    async fn shake(&mut self, how: Handshake) -> Result<TlsSession, TlsError> {
        let mut shaking = Box::pin(self.io.secure(how));
        poll_fn(|cx| {
            if let Poll::Ready(shaken) = shaking.as_mut().poll(cx) {
                return Poll::Ready(shaken);
            }
            let Some(stop) = &mut self.stop else { return Poll::Pending };
            ready!(stop.as_mut().poll(cx));
            self.stop = None;
            Poll::Ready(Err(TlsError::Shutdown))
        })
        .await
    }

    fn peer_gone(&mut self) {
        self.peer_gone_told = true;
        self.step(Input::Eof);
    }

    /// Polls `future` once; if it is not ready, writes what waits while it waits.
    async fn while_writing<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            if let Poll::Ready(Err(_)) = self.outbox.poll_drain(cx, Pin::new(&mut self.io)) {
                self.give_up_output(Output::Broken);
            }
            Poll::Pending
        })
        .await
    }

    /// Writes all that waits, by the session's deadline.
    async fn drain(&mut self) {
        let output = poll_fn(|cx| match self.outbox.poll_drain(cx, Pin::new(&mut self.io)) {
            Poll::Ready(Ok(())) => Poll::Ready(Output::Open),
            Poll::Ready(Err(_)) => Poll::Ready(Output::Broken),
            Poll::Pending => self.timer.poll(cx).map(|()| Output::Stuck),
        })
        .await;
        if output != Output::Open {
            self.give_up_output(output);
        }
        if output == Output::Stuck {
            self.step(Input::Tick);
        }
    }

    fn give_up_output(&mut self, output: Output) {
        self.outbox.clear();
        self.output = output;
    }

    /// Waits for input, the deadline or the shutdown, and gives it to the session.
    async fn wait(&mut self) {
        poll_fn(|cx| {
            if self.poll_read(cx).is_ready() {
                return Poll::Ready(());
            }
            if let Some(stop) = &mut self.stop
                && stop.as_mut().poll(cx).is_ready()
            {
                self.stop = None;
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
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => self.peer_gone(),
                Ok(()) => {
                    self.octets_in += buffer.filled().len() as u64;
                    self.session.step(self.timer.now(), Input::Bytes(buffer.filled()), &mut self.actions);
                }
                Err(_) => {
                    self.give_up_output(Output::Broken);
                    self.peer_gone();
                }
            }
            Poll::Ready(())
        })
    }

    async fn close<H: Host<S>>(&mut self, host: &mut H) -> Ended {
        if self.output == Output::Open {
            let (io, outbox) = (&mut self.io, &mut self.outbox);
            let left = timeout(CLOSING_TIME_MAX, async {
                poll_fn(|cx| outbox.poll_drain(cx, Pin::new(&mut *io))).await?;
                poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await
            });
            match left.await {
                Ok(Ok(())) if !self.peer_gone_told => linger(&mut self.io).await,
                Ok(Ok(())) => {}
                Ok(Err(_)) => self.output = Output::Broken,
                Err(_) => self.output = Output::Stuck,
            }
        }
        let end = match self.output {
            Output::Open => End::Closed,
            Output::Broken => End::PeerGone,
            Output::Stuck => End::PeerStuck,
        };
        host.ended(end);
        Ended { end, octets_in: self.octets_in, octets_out: self.outbox.written() }
    }
}

/// Reads on, only if the peer is sending right now.
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
        // Whether it ends by the peer, by the limit or by the time, the connection is dropped next.
        let _ = timeout(LINGER_TIME_MAX, rest).await;
    }
}

fn poll_discard<IO: AsyncRead + Unpin>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len() as u64))
    })
}
