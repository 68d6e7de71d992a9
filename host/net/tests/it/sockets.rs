//! Real sockets on loopback: listeners, limits, and our client against our server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::common::{clock, willing};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use waxwing_net::{
    AcceptSettings, Admission, REJECTED_SESSIONS_MAX, SessionCounts, SessionHandler, Shutdown, TlsMode, accept_loop, bind_tcp,
    connect, drive, spawn,
};
use waxwing_smtp::client::{ClientAnswer, ClientJob, ClientQuestion, JobResult};
use waxwing_smtp::server::{ServerAnswer, StepAnswer};
use waxwing_smtp::{ClientSession, ClientSettings, ServerSession, ServerSettings};
use waxwing_types::{Address, BodyType, Recipient, Reply, ReversePath};

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

/// A mail server on loopback. Its messages arrive at the receiver.
fn serve(counts: &Arc<SessionCounts>, shutdown: &Shutdown) -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = bind_tcp(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel(100);
    let settings = AcceptSettings { task_name: "test smtp", counts: Arc::clone(counts), is_exempt: Arc::new(|_| false) };
    let (session_shutdown, loop_shutdown) = (shutdown.clone(), shutdown.clone());
    let server = accept_loop(listener, settings, loop_shutdown, move |accepted| {
        let (sender, shutdown) = (sender.clone(), session_shutdown.clone());
        async move {
            let (mut host, mut controls) = willing();
            if accepted.admission != Admission::Admitted {
                host.connect = ServerAnswer::Step(StepAnswer::Close(Reply::fixed(421, (4, 7, 0), "Too many connections")));
            }
            let session = ServerSession::new(Arc::new(ServerSettings::new("mx.example")));
            drive(accepted.stream, TlsMode::None, session, host, clock(), shutdown).await;
            while let Ok(message) = controls.messages.try_recv() {
                sender.send(message).await.unwrap();
            }
        }
    });
    spawn("test accept", async move { server.await.unwrap() });
    (address, receiver)
}

/// Sends these bodies, one job each, in small pieces.
struct Sender {
    bodies: Vec<Bytes>,
    begun: usize,
    offset: usize,
    results: mpsc::Sender<JobResult>,
}

impl SessionHandler<ClientSession> for Sender {
    async fn answer(&mut self, question: ClientQuestion) -> ClientAnswer {
        match question {
            ClientQuestion::Next { .. } if self.begun < self.bodies.len() => {
                self.begun += 1;
                let recipients = vec![Recipient::new(Address::new("c", "d.example").unwrap())];
                let size = self.bodies[self.begun - 1].len() as u64;
                let job = ClientJob::new(self.begun as u64 - 1, ReversePath::Null, recipients, size);
                ClientAnswer::Job(ClientJob { body: BodyType::EightBitMime, ..job })
            }
            ClientQuestion::Next { .. } => ClientAnswer::Quit,
            ClientQuestion::Body { job } => {
                let body = &self.bodies[usize::try_from(job).unwrap()];
                let end = (self.offset + 60_000).min(body.len());
                let (chunk, last) = (body.slice(self.offset..end), end == body.len());
                self.offset = if last { 0 } else { end };
                ClientAnswer::Body { chunk, last }
            }
            ClientQuestion::Outcome(outcome) => {
                self.results.send(outcome.result).await.unwrap();
                ClientAnswer::Done
            }
        }
    }

    async fn body(&mut self, _chunk: Bytes) {}
}

#[tokio::test]
async fn our_client_sends_to_our_server() {
    let (trigger, shutdown) = Shutdown::new();
    let (address, mut received) = serve(&SessionCounts::new(10, 10), &shutdown);
    let large: Vec<u8> = (0..50_000).flat_map(|n: u32| format!(".line {n}\r\n").into_bytes()).collect();
    let bodies = vec![Bytes::from_static(b"Subject: x\r\n\r\nhello\r\n"), Bytes::from(large), Bytes::from_static(b".\r\n")];
    let stream = connect(address, None, CONNECT_TIME_MAX).await.unwrap();
    let (results, mut outcomes) = mpsc::channel(10);
    let host = Sender { bodies: bodies.clone(), begun: 0, offset: 0, results };
    let session = ClientSession::new(Arc::new(ClientSettings::with_helo_name("client.example")));
    let ended = drive(stream, TlsMode::None, session, host, clock(), shutdown.clone()).await;
    assert_eq!(ended.end, waxwing_net::ConnectionEnd::Closed);
    for body in bodies {
        assert!(received.recv().await.unwrap() == body, "the message differs");
        let JobResult::Replied(replies) = outcomes.recv().await.unwrap() else { panic!("no reply") };
        assert_eq!(replies, [Reply::fixed(250, (2, 0, 0), "queued")]);
    }
    drop(shutdown);
    trigger.trigger();
    trigger.all_dropped().await;
}

#[tokio::test]
async fn a_client_over_its_limit_hears_421_and_comes_in_when_there_is_room() {
    let (trigger, shutdown) = Shutdown::new();
    let counts = SessionCounts::new(10, 1);
    let (address, _received) = serve(&counts, &shutdown);
    let mut first = connect(address, None, CONNECT_TIME_MAX).await.unwrap();
    let mut octet = [0];
    first.read_exact(&mut octet).await.unwrap();
    let mut second = connect(address, None, CONNECT_TIME_MAX).await.unwrap();
    let mut words = String::new();
    second.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "421 4.7.0 Too many connections\r\n");
    assert_eq!(counts.admitted(), 1);
    first.write_all(b"QUIT\r\n").await.unwrap();
    first.read_to_string(&mut words).await.unwrap();
    drop(first);
    while counts.admitted() > 0 {
        tokio::task::yield_now().await;
    }
    let mut third = connect(address, None, CONNECT_TIME_MAX).await.unwrap();
    third.read_exact(&mut octet).await.unwrap();
    assert_eq!(octet, *b"2");
    drop(third);
    drop(shutdown);
    trigger.trigger();
    trigger.all_dropped().await;
}

#[test]
fn sessions_are_counted_in_all_and_by_network() {
    let counts = SessionCounts::new(4, 2);
    let admit = |address: &str, exempt| counts.admit(address.parse().unwrap(), exempt);
    let first = admit("2001:db8::1", false).unwrap();
    let second = admit("2001:db8::2", false).unwrap();
    assert_eq!((first.0, second.0), (Admission::Admitted, Admission::Admitted));
    let third = admit("2001:db8::3", false).unwrap();
    assert_eq!(third.0, Admission::TooManyFromClient);
    let exempt = admit("2001:db8::4", true).unwrap();
    let other = admit("192.0.2.1", false).unwrap();
    assert_eq!((exempt.0, other.0), (Admission::Admitted, Admission::Admitted));
    let over = admit("192.0.2.2", true).unwrap();
    assert_eq!(over.0, Admission::TooManySessions);
    drop((first, exempt));
    let back = admit("::ffff:192.0.2.1", false).unwrap();
    assert_eq!(back.0, Admission::Admitted);
    assert_eq!(admit("192.0.2.1", false).unwrap().0, Admission::TooManyFromClient);
    drop((second, third, other, over, back));
    assert_eq!(counts.admitted(), 0);
}

#[test]
fn refusals_are_counted_too() {
    let counts = SessionCounts::new(0, 0);
    let admit = || counts.admit(IpAddr::V4(Ipv4Addr::LOCALHOST), false);
    let refused: Vec<_> = (0..REJECTED_SESSIONS_MAX).map(|_| admit().unwrap()).collect();
    assert!(admit().is_none());
    drop(refused);
    assert!(admit().is_some());
}

#[test]
fn an_address_in_use_is_named() {
    let first = bind_tcp(LOOPBACK).unwrap();
    let address = first.local_addr().unwrap();
    let error = bind_tcp(address).unwrap_err();
    assert_eq!(error.address, address);
    assert!(error.to_string().starts_with(&format!("can't listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn a_connection_that_is_refused_says_so() {
    let listener = bind_tcp(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(address, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), CONNECT_TIME_MAX).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}
