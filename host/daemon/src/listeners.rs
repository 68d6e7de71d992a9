//! SMTP and LMTP listeners: each accepted connection becomes a session, with intake as its handler.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use waxwing_admin::ListenerCertificates;
use waxwing_config::{Config, ListenerConfig};
use waxwing_intake::{GuardState, GuardedSessionHandler};
use waxwing_net::{
    AcceptSettings, AcceptedConnection, ProxySettings, SessionCounts, SessionLimits, Shutdown, ShutdownTrigger, TlsMode,
    accept_loop, accept_proxied, accept_unix, drive, spawn,
};
use waxwing_pipeline::{Metrics, SessionClient};
use waxwing_types::Clock;

use crate::bound_listener::{BoundListener, ListenSocket};
use crate::generation::{CurrentGeneration, Generation};
use crate::listener_settings::{mail_source, settings_for_client};

/// Client name for connections to a Unix socket.
const LOCAL_CLIENT_NAME: &str = "localhost";

/// All listeners, and the state shared by their sessions.
pub(crate) struct Listeners {
    generation: Arc<CurrentGeneration>,
    guard_state: Arc<GuardState>,
    shutdown: Shutdown,
    open: Mutex<Vec<OpenListener>>,
}

/// A listener in service; closes when dropped.
struct OpenListener {
    listen: ListenerConfig,
    _close: ShutdownTrigger,
}

impl Listeners {
    /// Creates the set of listeners, none of them open.
    pub(crate) fn new(generation: Arc<CurrentGeneration>, guard_state: Arc<GuardState>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self { generation, guard_state, shutdown, open: Mutex::default() })
    }

    /// Opens listeners: accepts connections from now on.
    pub(crate) fn open(self: &Arc<Self>, bound: Vec<BoundListener>) {
        for listener in bound {
            let (close, closed) = Shutdown::new();
            self.open.lock().push(OpenListener { listen: listener.listen.clone(), _close: close });
            drop(spawn("listener", Arc::clone(self).run_listener(listener, closed)));
        }
    }

    async fn run_listener(self: Arc<Self>, listener: BoundListener, mut closed: Shutdown) {
        let name: Arc<str> = listener.listen.name.as_str().into();
        let listeners = Arc::clone(&self);
        let accept = AcceptSettings {
            task_name: "session",
            counts: Arc::clone(&self.guard_state.sessions),
            is_exempt: Arc::new(move |address| listeners.generation.load().is_exempt(address)),
        };
        let serve = |accepted| run_session(self.generation.load(), &self, &name, None, accepted);
        let serve_local = |accepted| run_session(self.generation.load(), &self, &name, Some(LOCAL_CLIENT_NAME), accepted);
        let proxy = proxy_settings(&self.generation.load().config, &listener.listen);
        let shutdown = self.shutdown.clone();
        let serving = async {
            match (listener.socket, proxy) {
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

    /// Returns the configuration of the open listeners.
    pub(crate) fn open_listeners(&self) -> Vec<ListenerConfig> {
        self.open.lock().iter().map(|opened| opened.listen.clone()).collect()
    }

    /// Installs a generation for new sessions. Closes the listeners missing from the new configuration and opens `bound`; the others stay
    /// open.
    pub(crate) fn install(self: &Arc<Self>, current: Generation, bound: Vec<BoundListener>) {
        self.guard_state.sessions.set_limits(session_limits(&current.config));
        let listen = current.config.listen.clone();
        self.generation.replace(current);
        self.open.lock().retain(|opened| listen.iter().any(|wanted| is_same_socket(wanted, &opened.listen)));
        self.open(bound);
    }
}

impl ListenerCertificates for Listeners {
    fn fingerprints(&self) -> Vec<String> {
        self.generation.load().listener_tls.fingerprints()
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
        let Some(state) = current.listener_state(&listener) else { return };
        let AcceptedConnection { stream, peer, admission, .. } = accepted;
        let settings =
            settings_for_client(&current.config, &state.settings, current.authenticator.as_deref(), state.listen.kind, peer.ip());
        let session = state.guard.new_session(settings, peer, admission);
        let (tls, host) = match session.is_refused() {
            // A client over a limit must not cost a TLS handshake.
            true => (TlsMode::None, None),
            false => {
                let tls = current.listener_tls.mode_for(&listener, peer);
                (
                    tls,
                    Some(current.intake.session_handler(
                        SessionClient { peer, name: name.map(str::to_owned), listener },
                        mail_source(state.listen.kind),
                    )),
                )
            }
        };
        drop(current);
        drive(stream, tls, session, GuardedSessionHandler::new(host, shutdown.clone()), clock, shutdown).await;
    }
}
