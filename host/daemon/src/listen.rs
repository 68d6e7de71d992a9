//! The SMTP listeners: each accepted connection becomes a session with intake as its host.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_config::{Config, ListenKind};
use waxwing_intake::Intake;
use waxwing_net::{AcceptSettings, Accepted, Admission, Host, SessionCounts, Shutdown, accept_loop, drive, spawn};
use waxwing_pipeline::Client;
use waxwing_smtp::server::{Answer, Question};
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Clock, Reply, Via};

use crate::serve::Bound;

const BUSY: Reply = Reply::fixed(421, (4, 3, 2), "All server ports are busy, try again later");
const TOO_MANY: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your address");

/// What the sessions of all listeners share.
pub(crate) struct Doors {
    pub(crate) intake: Arc<Intake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
}

impl Doors {
    /// Accepts from now on.
    pub(crate) fn open(self, config: &Arc<Config>, ports: Vec<Bound>) {
        let client_sessions_max = match config.smtpd_client_connection_count_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let counts = SessionCounts::new(config.smtpd_sessions_max, client_sessions_max);
        let settings = Arc::new(server_settings(config));
        let doors = Arc::new(self);
        for port in ports {
            let config = Arc::clone(config);
            let accept = AcceptSettings {
                name: "session",
                counts: Arc::clone(&counts),
                exempt: Arc::new(move |address| config.in_mynetworks(address)),
            };
            let listener: Arc<str> = port.listen.name.as_str().into();
            let via = via(port.listen.kind);
            let (doors, settings) = (Arc::clone(&doors), Arc::clone(&settings));
            drop(spawn("listener", async move {
                let shutdown = doors.shutdown.clone();
                let serve = |accepted| session(Arc::clone(&doors), Arc::clone(&settings), Arc::clone(&listener), via, accepted);
                if let Err(error) = accept_loop(port.socket, accept, shutdown, serve).await {
                    tracing::error!(listener = &*listener, %error, "the listener is closed");
                }
            }));
        }
    }
}

/// By which door mail comes that a listener takes.
pub(crate) fn via(kind: ListenKind) -> Via {
    match kind {
        ListenKind::Smtp => Via::Smtp,
        ListenKind::Submission => Via::Submission,
    }
}

pub(crate) fn server_settings(config: &Config) -> ServerSettings {
    ServerSettings {
        greeting: config.smtpd_banner.clone(),
        message_size_max: config.message_size_limit,
        recipients_max: config.smtpd_recipient_limit,
        command_line_bytes_max: config.line_length_limit,
        errors_max: config.smtpd_hard_error_limit,
        command_idle: config.smtpd_timeout,
        data_idle: config.smtpd_timeout,
        ..ServerSettings::new(config.myhostname.clone())
    }
}

fn session(
    doors: Arc<Doors>,
    settings: Arc<ServerSettings>,
    listener: Arc<str>,
    via: Via,
    accepted: Accepted,
) -> impl Future<Output = ()> + Send + 'static {
    let session = ServerSession::new(settings);
    let Accepted { stream, peer, admission, .. } = accepted;
    let (clock, shutdown) = (Arc::clone(&doors.clock), doors.shutdown.clone());
    async move {
        let refusal = match admission {
            Admission::Admitted => {
                let host = doors.intake.host(Client { peer, name: None, listener }, via);
                drive(stream, session, host, clock, shutdown).await;
                return;
            }
            Admission::TooManySessions => BUSY,
            Admission::TooManyFromClient => TOO_MANY,
        };
        tracing::warn!(target: "smtpd", client = %peer.ip(), listener = &*listener, "refused: {refusal}");
        drive(stream, session, Refusing(refusal), clock, shutdown).await;
    }
}

/// The host of a session over a limit: says so and closes.
struct Refusing(Reply);

impl Host<ServerSession> for Refusing {
    async fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Reset => Answer::Done,
            Question::Connect
            | Question::Helo { .. }
            | Question::Mail { .. }
            | Question::Rcpt { .. }
            | Question::Secured(_)
            | Question::Auth(_)
            | Question::Xclient(_)
            | Question::Command { .. }
            | Question::Data
            | Question::EndOfData => Answer::Close(self.0.clone()),
        }
    }

    async fn body(&mut self, _: Bytes) {}
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use waxwing_config::Facts;
    use waxwing_types::ManualClock;

    use super::*;

    #[test]
    fn the_session_gets_the_configured_limits() {
        let facts = Facts { hostname: "h.example".into(), root: false, exists: |_| false };
        let text = "message_size_limit = \"1MiB\"\nsmtpd_banner = \"$myhostname ready\"\nsmtpd_timeout = \"7s\"\n";
        let settings = server_settings(&Config::parse("w.toml".as_ref(), text, &facts).unwrap());
        assert_eq!((settings.message_size_max, settings.greeting.as_str()), (1 << 20, "h.example ready"));
        assert_eq!((settings.command_idle.as_secs(), settings.data_idle.as_secs()), (7, 7));
        assert_eq!((settings.hostname.as_str(), settings.errors_max, settings.recipients_max), ("h.example", 20, 1000));
    }

    #[tokio::test]
    async fn over_a_limit_the_client_hears_why() {
        let (mut client, server) = tokio::io::duplex(1024);
        let session = ServerSession::new(Arc::new(ServerSettings::new("h.example")));
        let (_trigger, shutdown) = Shutdown::new();
        let task = spawn("test", drive(server, session, Refusing(TOO_MANY), Arc::new(ManualClock::default()), shutdown));
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "421 4.7.0 Error: too many connections from your address\r\n");
        task.await.unwrap();
    }
}
