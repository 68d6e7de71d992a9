//! The SMTP listeners: each accepted connection becomes a session with intake as its host.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use waxwing_config::{Config, Listen, ListenKind, ListenTls};
use waxwing_intake::Intake;
use waxwing_net::{
    AcceptSettings, Accepted, Admission, Host, ProxySettings, SessionCounts, Shutdown, accept_loop, accept_proxied, drive,
    drive_tls, spawn,
};
use waxwing_pipeline::{Authenticator, Client};
use waxwing_smtp::server::{Answer, Protocol, Question};
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_types::{Clock, Reply, Via};

use crate::serve::Bound;
use crate::tls::Handshakes;

const BUSY: Reply = Reply::fixed(421, (4, 3, 2), "All server ports are busy, try again later");
const TOO_MANY: Reply = Reply::fixed(421, (4, 7, 0), "Error: too many connections from your address");

/// What the sessions of all listeners share.
pub(crate) struct Doors {
    pub(crate) intake: Arc<Intake>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
}

/// What the sessions of one listener share.
struct Room {
    listener: Arc<str>,
    via: Via,
    settings: Arc<ServerSettings>,
    handshakes: Arc<Handshakes>,
}

impl Doors {
    /// Accepts from now on.
    pub(crate) fn open(self, config: &Arc<Config>, handshakes: &Arc<Handshakes>, ports: Vec<Bound>) {
        let client_sessions_max = match config.smtpd_client_connection_count_limit {
            0 => usize::MAX,
            limit => limit,
        };
        let counts = SessionCounts::new(config.smtpd_sessions_max, client_sessions_max);
        handshakes.watch(&self.shutdown);
        let doors = Arc::new(self);
        for port in ports {
            let room = Arc::new(Room {
                listener: port.listen.name.as_str().into(),
                via: via(port.listen.kind),
                settings: Arc::new(listener_settings(config, &port.listen)),
                handshakes: Arc::clone(handshakes),
            });
            let exempt = Arc::clone(config);
            let accept = AcceptSettings {
                name: "session",
                counts: Arc::clone(&counts),
                exempt: Arc::new(move |address| exempt.in_mynetworks(address)),
            };
            let proxy = proxy_settings(config, &port.listen);
            let doors = Arc::clone(&doors);
            drop(spawn("listener", async move {
                let shutdown = doors.shutdown.clone();
                let serve = |accepted| session(Arc::clone(&doors), Arc::clone(&room), accepted);
                let ended = match proxy {
                    None => accept_loop(port.socket, accept, shutdown, serve).await,
                    Some(proxy) => accept_proxied(port.socket, accept, proxy, shutdown, serve).await,
                };
                if let Err(error) = ended {
                    tracing::error!(listener = &*room.listener, %error, "the listener is closed");
                }
            }));
        }
    }
}

/// For a listener behind a proxy.
fn proxy_settings(config: &Config, listen: &Listen) -> Option<ProxySettings> {
    let networks = listen.proxy_networks.clone();
    listen.proxy.then(|| ProxySettings {
        listener: listen.name.as_str().into(),
        is_proxy: Arc::new(move |address| networks.iter().any(|network| network.contains(address))),
        time_max: config.smtpd_upstream_proxy_timeout,
    })
}

/// By which door mail comes that a listener takes.
pub(crate) fn via(kind: ListenKind) -> Via {
    match kind {
        ListenKind::Smtp => Via::Smtp,
        ListenKind::Submission => Via::Submission,
        ListenKind::Lmtp => Via::Lmtp,
    }
}

/// What is said on this listener.
fn listener_settings(config: &Config, listen: &Listen) -> ServerSettings {
    ServerSettings {
        protocol: match listen.kind {
            ListenKind::Smtp | ListenKind::Submission => Protocol::Smtp,
            ListenKind::Lmtp => Protocol::Lmtp,
        },
        starttls: config.tls_of(listen) == ListenTls::Starttls,
        tls_required: listen.tls_required,
        ..server_settings(config)
    }
}

/// With the mechanisms that this client may use.
fn for_client(settings: &Arc<ServerSettings>, authenticator: Option<&dyn Authenticator>, client: IpAddr) -> Arc<ServerSettings> {
    let Some(authenticator) = authenticator else { return Arc::clone(settings) };
    let mut own = ServerSettings::clone(settings);
    own.auth = authenticator.mechanisms(client, true);
    own.auth_plaintext = authenticator.mechanisms(client, false);
    Arc::new(own)
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

fn session(doors: Arc<Doors>, room: Arc<Room>, accepted: Accepted) -> impl Future<Output = ()> + Send + 'static {
    let Accepted { stream, peer, admission, .. } = accepted;
    let session = ServerSession::new(for_client(&room.settings, doors.authenticator.as_deref(), peer.ip()));
    let (clock, shutdown) = (Arc::clone(&doors.clock), doors.shutdown.clone());
    async move {
        let listener = Arc::clone(&room.listener);
        let tls = room.handshakes.tls(&listener, peer);
        let refusal = match admission {
            Admission::Admitted => {
                let host = doors.intake.host(Client { peer, name: None, listener }, room.via);
                drive_tls(stream, tls, session, host, clock, shutdown).await;
                return;
            }
            Admission::TooManySessions => BUSY,
            Admission::TooManyFromClient => TOO_MANY,
        };
        tracing::warn!(target: "smtpd", client = %peer.ip(), listener = &*listener, "refused: {refusal}");
        // A handshake is more than a client over a limit may cost us.
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
