//! Facts about a session and the log line written at the end of the session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use waxwing_types::{Monotonic, TlsSession};

/// Maximum bytes of the last refusal quoted in the log line.
const QUOTED_BYTES_MAX: usize = 200;

/// Reason for the end of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// Session task dropped before the session ended.
    #[default]
    Aborted,
    /// Client sent QUIT.
    Quit,
    /// Client disconnected without QUIT.
    Lost,
    /// Client exceeded a time limit.
    Timeout,
    /// Server closed the connection: limit, too many errors, or plugin verdict.
    Closed,
    /// Server is shutting down.
    Shutdown,
}

impl SessionEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "cut-off",
            Self::Quit => "quit",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Client facts known only to the session handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Host name of the client address, confirmed by forward lookup.
    pub name: Option<String>,
    /// Authenticated SASL user name.
    pub user: Option<String>,
}

/// Data of the session's log line, collected during the session.
#[derive(Debug)]
pub(super) struct SessionLog {
    pub(super) client: SocketAddr,
    pub(super) listener: Arc<str>,
    pub(super) identity: ClientIdentity,
    pub(super) helo: Option<String>,
    pub(super) tls: Option<String>,
    pub(super) messages: u64,
    pub(super) recipients: u64,
    pub(super) refused: u64,
    pub(super) octets_in: u64,
    pub(super) octets_out: u64,
    pub(super) started_at: Monotonic,
    pub(super) end: SessionEnd,
    /// Last limit that refused something to the client.
    pub(super) limit: Option<String>,
    pub(super) last_refusal: Option<String>,
}

impl SessionLog {
    pub(super) fn new(client: SocketAddr, listener: Arc<str>, began: Monotonic) -> Self {
        Self {
            client,
            listener,
            identity: ClientIdentity::default(),
            helo: None,
            tls: None,
            messages: 0,
            recipients: 0,
            refused: 0,
            octets_in: 0,
            octets_out: 0,
            started_at: began,
            end: SessionEnd::default(),
            limit: None,
            last_refusal: None,
        }
    }

    pub(super) fn record_tls(&mut self, session: &TlsSession) {
        self.tls = Some(format!("{}:{}", session.version, session.cipher));
    }

    /// Records a negative reply in wire form.
    pub(super) fn record_refusal(&mut self, reply: &[u8]) {
        self.refused += 1;
        let line = reply.split(|octet| *octet == b'\r').next().unwrap_or_default();
        let quoted = line.get(..QUOTED_BYTES_MAX).unwrap_or(line);
        self.last_refusal = Some(String::from_utf8_lossy(quoted).into_owned());
    }

    /// Writes the log line of the session.
    pub(super) fn write(&self, now: Monotonic) {
        let name = self.identity.name.as_deref().unwrap_or("unknown");
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        tracing::info!(
            target: "smtpd",
            client = %format_args!("{name}[{}]:{}", self.client.ip(), self.client.port()),
            listener = &*self.listener,
            helo = or_none(&self.helo),
            tls = or_none(&self.tls),
            sasl_username = or_none(&self.identity.user),
            messages = self.messages,
            recipients = self.recipients,
            refused = self.refused,
            octets_in = self.octets_in,
            octets_out = self.octets_out,
            seconds = %format_seconds(now.since(self.started_at)),
            end = self.end.as_str(),
            limit = or_none(&self.limit),
            last_refusal = or_none(&self.last_refusal),
            "disconnect"
        );
    }
}

fn format_seconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}
