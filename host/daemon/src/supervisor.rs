//! Supervisor interface of systemd: notifications (sd_notify(3)) and inherited sockets (sd_listen_fds(3)). Without a supervisor all calls
//! are no-ops.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use listenfd::ListenFd;
use waxwing_config::{ListenAddress, ListenerConfig};
use waxwing_net::{Shutdown, UnixSocketListener};

use crate::bound_listener::ListenSocket;

/// Inherited sockets examined at most.
const SOCKETS_MAX: usize = 256;

/// Notification socket of the supervisor.
pub(crate) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Watchdog interval of the supervisor.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(crate) fn from_env() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        let name = std::env::var_os("NOTIFY_SOCKET").map(OsStringExt::into_vec).unwrap_or_default();
        Self { socket: Self::open(&name).ok(), watchdog }
    }

    /// Opens the socket: a path, or after `@` a name in the abstract namespace.
    fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name {
            [] => return Err(io::ErrorKind::NotFound.into()),
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    }

    /// Reports readiness, at startup or after a reload.
    pub(crate) fn ready(&self) {
        self.notify("READY=1");
    }

    /// Reports the start of a reload; [`Self::ready`] must follow.
    pub(crate) fn reloading(&self) {
        self.notify("RELOADING=1");
    }

    /// Reports the start of the shutdown.
    pub(crate) fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    fn notify(&self, text: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, state = text, "notifying the supervisor failed");
        }
    }

    /// Sends watchdog notifications at half the required interval, until shutdown.
    pub(crate) async fn send_watchdog(&self, mut shutdown: Shutdown) {
        let Some(period) = self.watchdog else { return };
        self.notify("WATCHDOG=1");
        while shutdown.sleep(period / 2).await {
            self.notify("WATCHDOG=1");
        }
    }
}

/// Inherited sockets not yet claimed by a listener.
pub(crate) struct InheritedSockets(Vec<(String, InheritedSocket)>);

/// An inherited socket.
enum InheritedSocket {
    Inet(TcpListener),
    Unix(UnixListener),
}

impl InheritedSocket {
    /// Address of the socket, if available.
    fn address(&self) -> Option<ListenAddress> {
        match self {
            Self::Inet(socket) => socket.local_addr().ok().map(ListenAddress::Inet),
            Self::Unix(socket) => Some(ListenAddress::Unix(socket.local_addr().ok()?.as_pathname()?.to_owned())),
        }
    }
}

impl InheritedSockets {
    /// Reads `LISTEN_FDS`, `LISTEN_PID` and the socket names in `LISTEN_FDNAMES`.
    pub(crate) fn from_env() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut fds = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..fds.len().min(SOCKETS_MAX) {
            let name = names.next().unwrap_or_default();
            // A descriptor that is no TCP socket stays in the list and is tried as a Unix socket.
            if let Ok(Some(socket)) = fds.take_tcp_listener(at) {
                socket.set_nonblocking(true)?;
                sockets.push((name, InheritedSocket::Inet(socket)));
            } else if let Some(socket) = fds.take_unix_listener(at)? {
                socket.set_nonblocking(true)?;
                sockets.push((name, InheritedSocket::Unix(socket)));
            }
        }
        Ok(Self(sockets))
    }

    /// Claims the socket for a listener, by name or else by address.
    pub(crate) fn take(&mut self, listen: &ListenerConfig) -> Option<ListenSocket> {
        let by_name = self.0.iter().position(|(name, _)| *name == listen.name);
        let by_address = || self.0.iter().position(|(_, socket)| socket.address().is_some_and(|a| a == listen.address));
        let at = by_name.or_else(by_address)?;
        Some(match self.0.swap_remove(at).1 {
            InheritedSocket::Inet(socket) => ListenSocket::Inet(socket),
            InheritedSocket::Unix(socket) => ListenSocket::Local(UnixSocketListener::from_inherited(socket)),
        })
    }

    /// Returns the unclaimed sockets as `name (address)`.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        let shown = |(name, socket): &(String, InheritedSocket)| match socket.address() {
            Some(address) => format!("{name} ({address})"),
            None => name.clone(),
        };
        self.0.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_supervisor_hears_us_at_a_path_and_by_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstracted = format!("waxwing-test-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(abstracted.as_bytes()).unwrap()).unwrap();
        for (name, socket) in [(path.display().to_string(), at_path), (format!("@{abstracted}"), by_name)] {
            let supervisor = Supervisor { socket: Supervisor::open(name.as_bytes()).ok(), watchdog: None };
            supervisor.ready();
            supervisor.reloading();
            supervisor.stopping();
            assert_eq!([heard(&socket), heard(&socket), heard(&socket)], ["READY=1", "RELOADING=1", "STOPPING=1"]);
        }
        Supervisor { socket: None, watchdog: None }.ready();
    }

    #[tokio::test]
    async fn the_watchdog_is_told_until_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let watchdog = Some(Duration::from_millis(10));
        let supervisor = Supervisor { socket: Supervisor::open(path.as_os_str().as_bytes()).ok(), watchdog };
        let (trigger, shutdown) = Shutdown::new();
        let told = waxwing_net::spawn("test", async move { supervisor.send_watchdog(shutdown).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        trigger.trigger();
        told.await.unwrap();
        assert_eq!([heard(&socket), heard(&socket)], ["WATCHDOG=1", "WATCHDOG=1"]);
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_name_or_address() {
        let socket = || InheritedSocket::Inet(TcpListener::bind("127.0.0.1:0").unwrap());
        let (one, two, three) = (socket(), socket(), socket());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lmtp");
        let four = InheritedSocket::Unix(UnixListener::bind(&path).unwrap());
        let listen =
            |name: &str, address: &ListenAddress| ListenerConfig { name: name.into(), address: address.clone(), ..example() };
        let taken = |handed: &mut InheritedSockets, name, address| {
            let bound =
                crate::bound_listener::BoundListener::from_socket(&example(), handed.take(&listen(name, address))?).unwrap();
            Some(bound.address)
        };
        let (a, b) = (one.address().unwrap(), two.address().unwrap());
        let mut handed =
            InheritedSockets(vec![(String::new(), one), ("mx".into(), two), ("other".into(), three), (String::new(), four)]);
        assert_eq!(taken(&mut handed, "mx", &a), Some(b), "the name counts first");
        assert_eq!(taken(&mut handed, "smtp", &a), Some(a.clone()));
        assert_eq!(taken(&mut handed, "smtp", &a), None);
        assert!(matches!(handed.take(&listen("lmtp", &ListenAddress::Unix(path.clone()))), Some(ListenSocket::Local(_))));
        assert!(path.exists(), "it is the supervisor's");
        assert!(handed.unclaimed().len() == 1 && handed.unclaimed()[0].starts_with("other (127.0.0.1:"));
    }

    fn example() -> ListenerConfig {
        let facts = waxwing_config::HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| false };
        waxwing_config::Config::parse("w.toml".as_ref(), "", &facts).unwrap().listen.remove(0)
    }
}
