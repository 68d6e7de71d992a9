//! SMTP and LMTP listeners: each accepted connection becomes a session, with intake as its handler.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use waxwing_config::{Config, ForbidBareNewline, ListenerConfig, ListenerKind, ListenerTlsMode};
use waxwing_intake::{Guard, GuardSettings, GuardState, GuardedSessionHandler, Intake};
use waxwing_net::{
    AcceptSettings, AcceptedConnection, ProxySettings, SessionCounts, SessionLimits, Shutdown, ShutdownTrigger, TlsMode,
    accept_loop, accept_proxied, accept_unix, drive, spawn,
};
use waxwing_pipeline::{Authenticator, InternalMessage, Metrics, PreparedMessage, SessionClient, Submit, SubmitError};
use waxwing_smtp::ServerSettings;
use waxwing_smtp::server::{BareNewline, Protocol};
use waxwing_types::{Clock, Source};

use crate::run::{BoundListener, ListenSocket};
use crate::tls::ListenerTls;

/// Client name for connections to a Unix socket.
const LOCAL_CLIENT_NAME: &str = "localhost";

/// Configuration and services of new sessions. A reload replaces the whole value; open sessions keep the old generation.
pub(crate) struct Generation {
    pub(crate) config: Arc<Config>,
    pub(crate) intake: Arc<Intake>,
    authenticator: Option<Arc<dyn Authenticator>>,
    listener_tls: Arc<ListenerTls>,
    /// State of each listener, in the order of the configuration.
    listener_states: Vec<ListenerState>,
}

/// Settings and session guard of a listener within a generation.
struct ListenerState {
    listen: ListenerConfig,
    settings: Arc<ServerSettings>,
    guard: Arc<Guard>,
}

/// All listeners, and the state shared by their sessions.
pub(crate) struct Listeners {
    generation: ArcSwap<Generation>,
    guard_state: Arc<GuardState>,
    shutdown: Shutdown,
    open: Mutex<Vec<OpenListener>>,
}

/// A listener in service; closes when dropped.
struct OpenListener {
    listen: ListenerConfig,
    _close: ShutdownTrigger,
}

impl Generation {
    /// Builds a generation from a configuration and the intake for this configuration.
    pub(crate) fn new(
        config: &Arc<Config>,
        intake: Arc<Intake>,
        authenticator: Option<Arc<dyn Authenticator>>,
        handshakes: Arc<ListenerTls>,
        shared: &Arc<GuardState>,
    ) -> Self {
        let room = |listen: &ListenerConfig| {
            let settings = GuardSettings::from_config(config, mail_source(listen.kind));
            let guard = Arc::new(Guard::new(settings, Arc::clone(shared), listen.name.as_str().into()));
            ListenerState { listen: listen.clone(), settings: Arc::new(listener_settings(config, listen)), guard }
        };
        let rooms = config.listen.iter().map(room).collect();
        Self { config: Arc::clone(config), intake, authenticator, listener_tls: handshakes, listener_states: rooms }
    }

    /// Tells whether a client is exempt from the limits of the accept loop (`smtpd_client_event_limit_exceptions`).
    fn is_exempt(&self, client: IpAddr) -> bool {
        self.config.guard.smtpd_client_event_limit_exceptions.iter().any(|network| network.contains(client))
    }

    fn listener_state(&self, name: &str) -> Option<&ListenerState> {
        self.listener_states.iter().find(|room| room.listen.name == name)
    }
}

impl Listeners {
    /// Creates the set of listeners, none of them open.
    pub(crate) fn new(current: Generation, shared: Arc<GuardState>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { generation: ArcSwap::from_pointee(current), guard_state: shared, shutdown, open: Mutex::default() })
    }

    /// Opens listeners: accepts connections from now on.
    pub(crate) fn open(self: &Arc<Self>, ports: Vec<BoundListener>) {
        for port in ports {
            let (close, closed) = Shutdown::new();
            self.open.lock().push(OpenListener { listen: port.listen.clone(), _close: close });
            drop(spawn("listener", Arc::clone(self).run_listener(port, closed)));
        }
    }

    async fn run_listener(self: Arc<Self>, port: BoundListener, mut closed: Shutdown) {
        let name: Arc<str> = port.listen.name.as_str().into();
        let listeners = Arc::clone(&self);
        let accept = AcceptSettings {
            task_name: "session",
            counts: Arc::clone(&self.guard_state.sessions),
            is_exempt: Arc::new(move |address| listeners.generation.load().is_exempt(address)),
        };
        let serve = |accepted| run_session(self.generation.load_full(), &self, &name, None, accepted);
        let serve_local = |accepted| run_session(self.generation.load_full(), &self, &name, Some(LOCAL_CLIENT_NAME), accepted);
        let proxy = proxy_settings(&self.generation.load().config, &port.listen);
        let shutdown = self.shutdown.clone();
        let serving = async {
            match (port.socket, proxy) {
                (ListenSocket::Inet(socket), None) => accept_loop(socket, accept, shutdown, serve).await,
                (ListenSocket::Inet(socket), Some(proxy)) => accept_proxied(socket, accept, proxy, shutdown, serve).await,
                (ListenSocket::Local(socket), _) => accept_unix(socket, accept, shutdown, serve_local).await,
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
        Arc::clone(&self.generation.load().intake)
    }

    /// Returns the SHA-256 fingerprints of the certificates in use, the default certificate first.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        self.generation.load().listener_tls.fingerprints()
    }

    /// Returns the configuration of the open listeners.
    pub(crate) fn open_listeners(&self) -> Vec<ListenerConfig> {
        self.open.lock().iter().map(|opened| opened.listen.clone()).collect()
    }

    /// Installs a generation for new sessions. Closes the listeners missing from the new configuration and opens `ports`; the others stay
    /// open.
    pub(crate) fn install(self: &Arc<Self>, current: Generation, ports: Vec<BoundListener>) {
        self.guard_state.sessions.set_limits(session_limits(&current.config));
        let listen = current.config.listen.clone();
        self.generation.store(Arc::new(current));
        self.open.lock().retain(|opened| listen.iter().any(|wanted| is_same_socket(wanted, &opened.listen)));
        self.open(ports);
    }
}

/// Mail generated by the server passes through the intake in force.
#[async_trait]
impl Submit for Listeners {
    async fn prepare(&self, mail: InternalMessage) -> Result<PreparedMessage, SubmitError> {
        self.intake().prepare(mail).await
    }
}

/// Tells whether two listener declarations can share a socket: same name, same address.
pub(crate) fn is_same_socket(one: &ListenerConfig, other: &ListenerConfig) -> bool {
    one.name == other.name && one.address == other.address
}

/// Creates the guard state shared by all listeners of the process.
pub(crate) fn new_guard_state(config: &Config, metrics: Arc<dyn Metrics>, clock: &Arc<dyn Clock>) -> Arc<GuardState> {
    GuardState::new(SessionCounts::with_limits(session_limits(config)), metrics, Arc::clone(clock))
}

fn session_limits(config: &Config) -> SessionLimits {
    let client_sessions_max = match config.guard.smtpd_client_connection_count_limit {
        0 => usize::MAX,
        limit => limit,
    };
    let prefix = |bits: u32| u8::try_from(bits).unwrap_or(u8::MAX);
    SessionLimits {
        network_sessions_max: match config.guard.smtpd_network_limit_factor {
            0 => usize::MAX,
            factor => client_sessions_max.saturating_mul(factor as usize),
        },
        network_prefix_v4: prefix(config.guard.smtpd_network_prefix_ipv4),
        network_prefix_v6: prefix(config.guard.smtpd_network_prefix_ipv6),
        ..SessionLimits::new(config.guard.smtpd_sessions_max, client_sessions_max)
    }
}

/// Returns the PROXY protocol settings of a listener behind a proxy.
fn proxy_settings(config: &Config, listen: &ListenerConfig) -> Option<ProxySettings> {
    let networks = listen.proxy_networks.clone();
    listen.proxy.then(|| ProxySettings {
        listener: listen.name.as_str().into(),
        is_proxy: Arc::new(move |address| networks.iter().any(|network| network.contains(address))),
        time_max: config.tls.smtpd_upstream_proxy_timeout,
    })
}

/// Maps the kind of a listener to the source of its mail.
pub(crate) fn mail_source(kind: ListenerKind) -> Source {
    match kind {
        ListenerKind::Smtp => Source::Smtp,
        ListenerKind::Submission => Source::Submission,
        ListenerKind::Lmtp => Source::Lmtp,
    }
}

/// Builds the SMTP settings of a listener.
fn listener_settings(config: &Config, listen: &ListenerConfig) -> ServerSettings {
    ServerSettings {
        protocol: match listen.kind {
            ListenerKind::Smtp | ListenerKind::Submission => Protocol::Smtp,
            ListenerKind::Lmtp => Protocol::Lmtp,
        },
        starttls: config.listener_tls(listen) == ListenerTlsMode::Starttls,
        tls_required: listen.tls_required,
        ..server_settings(config)
    }
}

/// Adds the settings that depend on the client: SASL mechanisms, XCLIENT and the bare newline exclusion.
fn settings_for_client(
    config: &Config,
    settings: &Arc<ServerSettings>,
    authenticator: Option<&dyn Authenticator>,
    kind: ListenerKind,
    client: IpAddr,
) -> Arc<ServerSettings> {
    let xclient = config.smtpd.smtpd_authorized_xclient_hosts.iter().any(|network| network.contains(client));
    let bare_newline = config.smtpd.smtpd_forbid_bare_newline_exclusions.iter().any(|network| network.contains(client));
    let mechanisms = |tls| authenticator.map(|all| all.mechanisms(client, tls)).unwrap_or_default();
    let (auth, auth_plaintext) = (mechanisms(true), mechanisms(false));
    // Submission requires authentication, except for clients in `mynetworks`.
    let auth_required = kind == ListenerKind::Submission && !config.is_in_mynetworks(client);
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
        greeting: config.smtpd.smtpd_banner.clone(),
        message_size_max: config.smtpd.message_size_limit,
        recipients_max: config.smtpd.smtpd_recipient_limit,
        command_line_bytes_max: config.smtpd.line_length_limit,
        errors_max: config.smtpd.smtpd_hard_error_limit,
        command_idle: config.smtpd.smtpd_timeout,
        data_idle: config.smtpd.smtpd_timeout,
        bare_newline: match config.smtpd.smtpd_forbid_bare_newline {
            ForbidBareNewline::Reject => BareNewline::Reject,
            ForbidBareNewline::Normalize => BareNewline::Normalize,
            ForbidBareNewline::No => BareNewline::No,
        },
        prdr: config.smtpd.smtpd_prdr,
        ..ServerSettings::new(config.general.myhostname.clone())
    }
}

/// Runs the session of an accepted connection. `name`: client name known without a DNS lookup.
fn run_session<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    current: Arc<Generation>,
    listeners: &Arc<Listeners>,
    listener: &Arc<str>,
    name: Option<&'static str>,
    accepted: AcceptedConnection<S>,
) -> impl Future<Output = ()> + Send + use<S> {
    let (clock, shutdown, listener) =
        (Arc::clone(&listeners.guard_state.clock), listeners.shutdown.clone(), Arc::clone(listener));
    async move {
        // A reload has closed the listener since the connection was accepted.
        let Some(room) = current.listener_state(&listener) else { return };
        let AcceptedConnection { stream, peer, admission, .. } = accepted;
        let settings =
            settings_for_client(&current.config, &room.settings, current.authenticator.as_deref(), room.listen.kind, peer.ip());
        let session = room.guard.new_session(settings, peer, admission);
        let (tls, host) = match session.is_refused() {
            // A client over a limit must not cost a TLS handshake.
            true => (TlsMode::None, None),
            false => {
                let tls = current.listener_tls.mode_for(&listener, peer);
                (
                    tls,
                    Some(current.intake.session_handler(
                        SessionClient { peer, name: name.map(str::to_owned), listener },
                        mail_source(room.listen.kind),
                    )),
                )
            }
        };
        drop(current);
        drive(stream, tls, session, GuardedSessionHandler::new(host, shutdown.clone()), clock, shutdown).await;
    }
}

#[cfg(test)]
mod tests {
    use waxwing_config::HostEnvironment;

    use super::*;

    #[test]
    fn the_session_gets_the_configured_limits() {
        let facts = HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| false };
        let text = "message_size_limit = \"1MiB\"\nsmtpd_banner = \"$myhostname ready\"\nsmtpd_timeout = \"7s\"\n";
        let settings = server_settings(&Config::parse("w.toml".as_ref(), text, &facts).unwrap());
        assert_eq!((settings.message_size_max, settings.greeting.as_str()), (1 << 20, "h.example ready"));
        assert_eq!((settings.command_idle.as_secs(), settings.data_idle.as_secs()), (7, 7));
        assert_eq!((settings.hostname.as_str(), settings.errors_max, settings.recipients_max), ("h.example", 20, 1000));
    }
}
