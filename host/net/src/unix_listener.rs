//! Unix socket listeners. Access is controlled by owner and mode of the socket file.

use std::fs::{Metadata, symlink_metadata};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::accept::{ACCEPT_PAUSE, AcceptSettings, AcceptedConnection, spawn_session};
use crate::task::Shutdown;
use crate::tcp_listener::LISTEN_BACKLOG;

/// Client address of Unix socket connections: the loopback address, as in Postfix.
pub const UNIX_CLIENT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A listening Unix socket; dropping the listener removes the socket file.
#[derive(Debug)]
pub struct UnixSocketListener {
    socket: UnixListener,
    file: Option<SocketFile>,
}

/// Failure to listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum UnixBindError {
    /// Another server is listening on the path.
    #[error("another server answers at {}: is it running already?", .0.display())]
    InUse(PathBuf),
    /// The path exists and is no socket.
    #[error("{} is not a socket: choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The operating system reported an error.
    #[error("can't listen at {}: {error}", path.display())]
    System {
        /// Path of the socket.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
}

/// Binds and listens, without a runtime. A stale socket of a stopped server is replaced. The umask determines the
/// mode.
pub fn bind_unix(path: &Path) -> Result<UnixSocketListener, UnixBindError> {
    let failed = |error| UnixBindError::System { path: path.to_owned(), error };
    match symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(UnixBindError::NotASocket(path.to_owned())),
        Ok(_) if is_listening(path).map_err(failed)? => return Err(UnixBindError::InUse(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let socket = open_unix(path).map_err(failed)?;
    let file = SocketFile::from_path(path).map_err(failed)?;
    Ok(UnixSocketListener { socket, file: Some(file) })
}

fn open_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Returns whether a server listens on the path. Never blocks; a full backlog counts as listening.
fn is_listening(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

impl UnixSocketListener {
    /// Returns a listener for an inherited socket, whose file is never removed.
    #[must_use]
    pub fn from_inherited(socket: UnixListener) -> Self {
        Self { socket, file: None }
    }

    /// Returns the bare socket; the file remains after the socket is closed.
    #[must_use]
    pub fn into_socket(mut self) -> UnixListener {
        if let Some(mut file) = self.file.take() {
            file.persistent = true;
        }
        self.socket
    }
}

/// Socket file created by this server.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    file_id: (u64, u64),
    persistent: bool,
}

impl SocketFile {
    fn from_path(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file_id: file_id(&symlink_metadata(path)?), persistent: false })
    }
}

fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Drop for SocketFile {
    /// Removes the file, unless another server has replaced the file. A failure for lack of permission on the
    /// directory is ignored: the next start replaces the socket.
    fn drop(&mut self) {
        let is_ours = || symlink_metadata(&self.path).is_ok_and(|found| file_id(&found) == self.file_id);
        if !self.persistent && is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts connections like [`accept_loop`](crate::accept_loop), from clients on this machine, which all have the
/// address [`UNIX_CLIENT_ADDRESS`].
pub async fn accept_unix<F, T>(
    listener: UnixSocketListener,
    settings: AcceptSettings,
    mut shutdown: Shutdown,
    serve: F,
) -> io::Result<()>
where
    F: Fn(AcceptedConnection<UnixStream>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let UnixSocketListener { socket, file: _file } = listener;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.wait() => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(listener = settings.task_name, %error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        spawn_session(stream, UNIX_CLIENT_ADDRESS, UNIX_CLIENT_ADDRESS, &settings, &serve);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_only_where_nobody_answers_and_goes_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lmtp");
        let first = bind_unix(&path).unwrap();
        assert!(matches!(bind_unix(&path), Err(UnixBindError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        // Left behind: nobody listens.
        drop(bind_unix(&path).unwrap().into_socket());
        assert!(path.exists());
        let second = bind_unix(&path).unwrap();
        // Another server's by now.
        std::fs::remove_file(&path).unwrap();
        let third = bind_unix(&path).unwrap();
        drop(second);
        assert!(path.exists());
        drop(third);
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(bind_unix(&path), Err(UnixBindError::NotASocket(_))));
        assert!(matches!(bind_unix(&dir.path().join("none/lmtp")), Err(UnixBindError::System { .. })));
    }
}
