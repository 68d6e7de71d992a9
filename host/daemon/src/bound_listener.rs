//! Bound listeners: sockets that are open, from which nothing has been accepted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use waxwing_config::{ListenAddress, ListenerConfig};
use waxwing_net::UnixSocketListener;

use crate::privilege::RunAs;

/// A bound listener, not yet accepting.
pub(crate) struct BoundListener {
    /// Declaration in the configuration.
    pub(crate) listen: ListenerConfig,
    /// Actual address; port 0 has been replaced by a free port.
    pub(crate) address: ListenAddress,
    /// Listening socket, without accepts so far.
    pub(crate) socket: ListenSocket,
}

/// Socket of a listener.
pub(crate) enum ListenSocket {
    Inet(std::net::TcpListener),
    /// Unix socket at a path.
    Local(UnixSocketListener),
}

impl BoundListener {
    /// Binds the socket. Ports below 1024 and paths in directories of root need root privileges.
    pub(crate) fn open(listen: &ListenerConfig, owner: &RunAs) -> anyhow::Result<Self> {
        Self::try_open(listen, owner).with_context(|| format!("listener \"{}\"", listen.name))
    }

    fn try_open(listen: &ListenerConfig, owner: &RunAs) -> anyhow::Result<Self> {
        let socket = match &listen.address {
            ListenAddress::Inet(address) => ListenSocket::Inet(waxwing_net::bind_tcp(*address)?),
            ListenAddress::Unix(path) => {
                // The umask denies all others access until owner and mode are set.
                let socket = waxwing_net::bind_unix(path)?;
                owner.set_user_and_group(path, listen.user.as_deref(), listen.group.as_deref())?;
                std::fs::set_permissions(path, Permissions::from_mode(listen.socket_mode()))
                    .with_context(|| path.display().to_string())?;
                ListenSocket::Local(socket)
            }
        };
        Self::from_socket(listen, socket)
    }

    /// Wraps an existing socket, such as a socket of the supervisor.
    pub(crate) fn from_socket(listen: &ListenerConfig, socket: ListenSocket) -> anyhow::Result<Self> {
        let address = match &socket {
            ListenSocket::Inet(socket) => ListenAddress::Inet(socket.local_addr()?),
            ListenSocket::Local(_) => listen.address.clone(),
        };
        Ok(Self { listen: listen.clone(), address, socket })
    }
}
