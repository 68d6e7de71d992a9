//! Client of the Postfix policy delegation protocol (SMTPD_POLICY_README): a block of lines as request and as reply,
//! over persistent connections.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};
use waxwing_types::Endpoint;

/// Maximum size of a reply in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// Maximum number of idle connections.
const IDLE_CONNECTIONS_MAX: usize = 20;

/// Timeouts and retries of a policy client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyClientSettings {
    /// Timeout of a request, including the connection (`smtpd_policy_service_timeout`).
    pub timeout: Duration,
    /// Maximum number of attempts (`smtpd_policy_service_try_limit`).
    pub try_limit: usize,
    /// Delay between two attempts (`smtpd_policy_service_retry_delay`).
    pub retry_delay: Duration,
    /// Maximum idle time of a connection (`smtpd_policy_service_max_idle`).
    pub max_idle: Duration,
    /// Maximum age of a connection (`smtpd_policy_service_max_ttl`).
    pub max_ttl: Duration,
}

trait PolicyStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> PolicyStream for T {}

struct IdleConnection {
    stream: BufReader<Box<dyn PolicyStream>>,
    opened_at: Instant,
    last_used: Instant,
}

/// Client of a policy service, with a pool of idle connections.
pub struct PolicyClient {
    endpoint: Endpoint,
    settings: PolicyClientSettings,
    idle: Mutex<Vec<IdleConnection>>,
}

impl PolicyClient {
    /// Creates a client. Connections are made on demand.
    #[must_use]
    pub fn new(endpoint: Endpoint, settings: PolicyClientSettings) -> Self {
        Self { endpoint, settings, idle: Mutex::default() }
    }

    /// Sends `question`, which ends in an empty line, and returns the lines of the reply before the empty line.
    pub async fn query(&self, question: &[u8]) -> io::Result<Vec<String>> {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for number in 0..self.settings.try_limit.max(1) {
            if number > 0 {
                sleep(self.settings.retry_delay).await;
            }
            match self.try_query(question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Makes a single attempt. An idle connection closed by the service does not count as an attempt.
    async fn try_query(&self, question: &[u8]) -> io::Result<Vec<String>> {
        let deadline = Instant::now() + self.settings.timeout;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        while let Some(mut kept) = self.take_idle() {
            if let Ok(answer) = timeout_at(deadline, send_request(&mut kept.stream, question)).await.map_err(late)? {
                self.return_idle(kept);
                return Ok(answer);
            }
        }
        let stream = timeout_at(deadline, self.connect()).await.map_err(late)??;
        let made = Instant::now();
        let mut fresh = IdleConnection { stream: BufReader::new(stream), opened_at: made, last_used: made };
        let answer = timeout_at(deadline, send_request(&mut fresh.stream, question)).await.map_err(late)??;
        self.return_idle(fresh);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<Box<dyn PolicyStream>> {
        match &self.endpoint {
            Endpoint::Inet { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }

    fn take_idle(&self) -> Option<IdleConnection> {
        let mut idle = self.idle.lock();
        let now = Instant::now();
        idle.retain(|kept| {
            now.duration_since(kept.last_used) < self.settings.max_idle
                && now.duration_since(kept.opened_at) < self.settings.max_ttl
        });
        idle.pop()
    }

    fn return_idle(&self, kept: IdleConnection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(IdleConnection { last_used: Instant::now(), ..kept });
        }
    }
}

async fn send_request(stream: &mut BufReader<Box<dyn PolicyStream>>, question: &[u8]) -> io::Result<Vec<String>> {
    stream.get_mut().write_all(question).await?;
    let mut answer = Vec::new();
    let mut limited = stream.take(ANSWER_BYTES_MAX);
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end_matches(['\r', '\n']) {
            "" => return Ok(answer),
            line => answer.push(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn settings() -> PolicyClientSettings {
        let second = Duration::from_secs(1);
        PolicyClientSettings {
            timeout: second,
            try_limit: 2,
            retry_delay: Duration::ZERO,
            max_idle: second,
            max_ttl: second * 10,
        }
    }

    /// Answers `closes` questions on each connection, then closes it.
    async fn service(closes: usize) -> (Endpoint, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&connections);
        drop(crate::spawn("service", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let mut stream = BufReader::new(stream);
                for _ in 0..closes {
                    let mut line = String::new();
                    while line != "\n" {
                        line.clear();
                        if stream.read_line(&mut line).await.unwrap() == 0 {
                            break;
                        }
                    }
                    stream.get_mut().write_all(b"action=DUNNO\n\n").await.unwrap();
                }
            }
        }));
        (Endpoint::Inet { host: "127.0.0.1".into(), port }, connections)
    }

    #[tokio::test]
    async fn connections_are_kept_and_renewed() {
        let (endpoint, connections) = service(2).await;
        let asking = PolicyClient::new(endpoint, settings());
        for _ in 0..4 {
            assert_eq!(asking.query(b"request=x\n\n").await.unwrap(), ["action=DUNNO"]);
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_and_silence_a_time_out() {
        let gone = Endpoint::Inet { host: "127.0.0.1".into(), port: 1 };
        assert!(PolicyClient::new(gone, settings()).query(b"x\n\n").await.is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = Endpoint::Inet { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let settings = PolicyClientSettings { timeout: Duration::from_millis(50), try_limit: 1, ..settings() };
        let error = PolicyClient::new(silent, settings).query(b"x\n\n").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
