//! SMTP and LMTP listeners: each accepted connection becomes a session, with intake as its handler.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use waxwing_config::{Config, ForbidBareNewline, Listen, ListenKind, ListenTls};
use waxwing_intake::{Door, DoorSettings, DoorShared, GuardedHost, Intake};
use waxwing_net::{
    AcceptSettings, Accepted, ProxySettings, SessionCounts, SessionLimits, Shutdown, ShutdownTrigger, Tls, accept_local,
    accept_loop, accept_proxied, drive, spawn,
};
use waxwing_pipeline::{Authenticator, Client, Generated, Metrics, Prepared, Submit, SubmitError};
use waxwing_smtp::ServerSettings;
use waxwing_smtp::server::{BareNewline, Protocol};
use waxwing_types::{Clock, Via};

use crate::serve::{Bound, ListenSocket};
use crate::tls::Handshakes;

/// Client name for connections to a Unix socket.
const LOCAL_NAME: &str = "localhost";

/// Configuration and services of new sessions. A reload replaces the whole value; open sessions keep the old generation.
pub(crate) struct Current {
    pub(crate) config: Arc<Config>,
    pub(crate) intake: Arc<Intake>,
    authenticator: Option<Arc<dyn Authenticator>>,
    handshakes: Arc<Handshakes>,
    /// State of each listener, in the order of the configuration.
    rooms: Vec<Room>,
}

/// Settings and session guard of a listener within a generation.
struct Room {
    listen: Listen,
    settings: Arc<ServerSettings>,
    door: Arc<Door>,
}

/// All listeners, and the state shared by their sessions.
pub(crate) struct Doors {
    current: ArcSwap<Current>,
    shared: Arc<DoorShared>,
    shutdown: Shutdown,
    open: Mutex<Vec<Opened>>,
}

/// A listener in service; closes when dropped.
struct Opened {
    listen: Listen,
    _close: ShutdownTrigger,
}

impl Current {
    /// Builds a generation from a configuration and the intake for this configuration.
    pub(crate) fn new(
        config: &Arc<Config>,
        intake: Arc<Intake>,
        authenticator: Option<Arc<dyn Authenticator>>,
        handshakes: Arc<Handshakes>,
        shared: &Arc<DoorShared>,
    ) -> Self {
        let room = |listen: &Listen| {
            let settings = DoorSettings::of(config, via(listen.kind));
            let door = Arc::new(Door::new(settings, Arc::clone(shared), listen.name.as_str().into()));
            Room { listen: listen.clone(), settings: Arc::new(listener_settings(config, listen)), door }
        };
        let rooms = config.listen.iter().map(room).collect();
        Self { config: Arc::clone(config), intake, authenticator, handshakes, rooms }
    }

    /// Tells whether a client is exempt from the limits of the accept loop (`smtpd_client_event_limit_exceptions`).
    fn is_exempt(&self, client: IpAddr) -> bool {
        self.config.smtpd_client_event_limit_exceptions.iter().any(|network| network.contains(client))
    }

    fn room(&self, name: &str) -> Option<&Room> {
        self.rooms.iter().find(|room| room.listen.name == name)
    }
}

impl Doors {
    /// Creates the set of listeners, none of them open.
    pub(crate) fn new(current: Current, shared: Arc<DoorShared>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(current), shared, shutdown, open: Mutex::default() })
    }

    /// Opens listeners: accepts connections from now on.
    pub(crate) fn open(self: &Arc<Self>, ports: Vec<Bound>) {
        for port in ports {
            let (close, closed) = Shutdown::new();
            self.open.lock().push(Opened { listen: port.listen.clone(), _close: close });
            drop(spawn("listener", Arc::clone(self).listen(port, closed)));
        }
    }

    async fn listen(self: Arc<Self>, port: Bound, mut closed: Shutdown) {
        let name: Arc<str> = port.listen.name.as_str().into();
        let listeners = Arc::clone(&self);
        let accept = AcceptSettings {
            name: "session",
            counts: Arc::clone(&self.shared.sessions),
            exempt: Arc::new(move |address| listeners.current.load().is_exempt(address)),
        };
        let serve = |accepted| session(self.current.load_full(), &self, &name, None, accepted);
        let serve_local = |accepted| session(self.current.load_full(), &self, &name, Some(LOCAL_NAME), accepted);
        let proxy = proxy_settings(&self.current.load().config, &port.listen);
        let shutdown = self.shutdown.clone();
        let serving = async {
            match (port.socket, proxy) {
                (ListenSocket::Inet(socket), None) => accept_loop(socket, accept, shutdown, serve).await,
                (ListenSocket::Inet(socket), Some(proxy)) => accept_proxied(socket, accept, proxy, shutdown, serve).await,
                (ListenSocket::Local(socket), _) => accept_local(socket, accept, shutdown, serve_local).await,
            }
        };
        tokio::select! {
            ended = serving => {
                if let Err(error) = ended {
                    tracing::error!(listener = &*name, %error, "the listener is closed");
                }
            }
            () = closed.wait() => {}
        }
    }

    /// Returns the intake for new sessions.
    pub(crate) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.current.load().intake)
    }

    /// Returns the SHA-256 fingerprints of the certificates in use, the default certificate first.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.current.load().handshakes.fingerprints()
    }

    /// Returns the configuration of the open listeners.
    pub(crate) fn listeners(&self) -> Vec<Listen> {
        self.open.lock().iter().map(|opened| opened.listen.clone()).collect()
    }

    /// Installs a generation for new sessions. Closes the listeners missing from the new configuration and opens `ports`; the others stay
    /// open.
    pub(crate) fn replace(self: &Arc<Self>, current: Current, ports: Vec<Bound>) {
        self.shared.sessions.set_limits(session_limits(&current.config));
        let listen = current.config.listen.clone();
        self.current.store(Arc::new(current));
        self.open.lock().retain(|opened| listen.iter().any(|wanted| is_same_socket(wanted, &opened.listen)));
        self.open(ports);
    }
}

/// Mail generated by the server passes through the intake in force.
#[async_trait]
impl Submit for Doors {
    async fn prepare(&self, mail: Generated) -> Result<Prepared, SubmitError> {
        self.intake().prepare(mail).await
    }
}

/// Tells whether two listener declarations can share a socket: same name, same address.
pub(crate) fn is_same_socket(one: &Listen, other: &Listen) -> bool {
    one.name == other.name && one.address == other.address
}

/// Creates the guard state shared by all listeners of the process.
pub(crate) fn shared(config: &Config, metrics: Arc<dyn Metrics>, clock: &Arc<dyn Clock>) -> Arc<DoorShared> {
    DoorShared::new(SessionCounts::with(session_limits(config)), metrics, Arc::clone(clock))
}

fn session_limits(config: &Config) -> SessionLimits {
    let client_sessions_max = match config.smtpd_client_connection_count_limit {
        0 => usize::MAX,
        limit => limit,
    };
    let prefix = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
    SessionLimits {
        network_sessions_max: match config.smtpd_network_limit_factor {
            0 => usize::MAX,
            factor => client_sessions_max.saturating_mul(factor as usize),
        },
        network_prefix_v4: prefix(config.smtpd_network_prefix_ipv4),
        network_prefix_v6: prefix(config.smtpd_network_prefix_ipv6),
        ..SessionLimits::new(config.smtpd_sessions_max, client_sessions_max)
    }
}

/// Returns the PROXY protocol settings of a listener behind a proxy.
fn proxy_settings(config: &Config, listen: &Listen) -> Option<ProxySettings> {
    let networks = listen.proxy_networks.clone();
    listen.proxy.then(|| ProxySettings {
        listener: listen.name.as_str().into(),
        is_proxy: Arc::new(move |address| networks.iter().any(|network| network.contains(address))),
        time_max: config.smtpd_upstream_proxy_timeout,
    })
}

/// Maps the kind of a listener to the source of its mail.
pub(crate) fn via(kind: ListenKind) -> Via {
    match kind {
        ListenKind::Smtp => Via::Smtp,
        ListenKind::Submission => Via::Submission,
        ListenKind::Lmtp => Via::Lmtp,
    }
}

/// Builds the SMTP settings of a listener.
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

/// Adds the settings that depend on the client: SASL mechanisms, XCLIENT and the bare newline exclusion.
fn for_client(
    config: &Config,
    settings: &Arc<ServerSettings>,
    authenticator: Option<&dyn Authenticator>,
    kind: ListenKind,
    client: IpAddr,
) -> Arc<ServerSettings> {
    let xclient = config.smtpd_authorized_xclient_hosts.iter().any(|network| network.contains(client));
    let bare_newline = config.smtpd_forbid_bare_newline_exclusions.iter().any(|network| network.contains(client));
    let mechanisms = |tls| authenticator.map(|all| all.mechanisms(client, tls)).unwrap_or_default();
    let (auth, auth_plaintext) = (mechanisms(true), mechanisms(false));
    // Submission requires authentication, except for clients in `mynetworks`.
    let auth_required = kind == ListenKind::Submission && !config.in_mynetworks(client);
    if auth.is_empty() && auth_plaintext.is_empty() && !auth_required && !xclient && !bare_newline {
        return Arc::clone(settings);
    }
    let mut client_settings = ServerSettings { xclient, auth, auth_plaintext, auth_required, ..ServerSettings::clone(settings) };
    if bare_newline {
        client_settings.bare_newline = BareNewline::No;
    }
    Arc::new(client_settings)
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
        bare_newline: match config.smtpd_forbid_bare_newline {
            ForbidBareNewline::Reject => BareNewline::Reject,
            ForbidBareNewline::Normalize => BareNewline::Normalize,
            ForbidBareNewline::No => BareNewline::No,
        },
        prdr: config.smtpd_prdr,
        ..ServerSettings::new(config.myhostname.clone())
    }
}

/// Runs the session of an accepted connection. `name`: client name known without a DNS lookup.
fn session<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    current: Arc<Current>,
    listeners: &Arc<Doors>,
    listener: &Arc<str>,
    name: Option<&'static str>,
    accepted: Accepted<S>,
) -> impl Future<Output = ()> + Send + use<S> {
    let (clock, shutdown, listener) = (Arc::clone(&listeners.shared.clock), listeners.shutdown.clone(), Arc::clone(listener));
    async move {
        // A reload has closed the listener since the connection was accepted.
        let Some(room) = current.room(&listener) else { return };
        let Accepted { stream, peer, admission, .. } = accepted;
        let settings = for_client(&current.config, &room.settings, current.authenticator.as_deref(), room.listen.kind, peer.ip());
        let session = room.door.session(settings, peer, admission);
        let (tls, host) = match session.is_refused() {
            // A client over a limit must not cost a TLS handshake.
            true => (Tls::None, None),
            false => {
                let tls = current.handshakes.tls(&listener, peer);
                (tls, Some(current.intake.host(Client { peer, name: name.map(str::to_owned), listener }, via(room.listen.kind))))
            }
        };
        drop(current);
        drive(stream, tls, session, GuardedHost::new(host, shutdown.clone()), clock, shutdown).await;
    }
}

#[cfg(test)]
mod tests {
    use waxwing_config::Facts;

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
}
