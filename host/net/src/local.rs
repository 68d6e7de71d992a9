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

use crate::accept::{ACCEPT_PAUSE, AcceptSettings, Accepted, begin};
use crate::listen::LISTEN_BACKLOG;
use crate::task::Shutdown;

/// Client address of Unix socket connections: the loopback address, as in Postfix.
pub const LOCAL_CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A listening Unix socket; dropping the listener removes the socket file.
#[derive(Debug)]
pub struct LocalListener {
    socket: UnixListener,
    file: Option<SocketFile>,
}

/// Failure to listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum LocalBindError {
    /// Another server is listening on the path.
    #[error("another server answers at {}: is it running already?", .0.display())]
    Running(PathBuf),
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
pub fn bind_local(path: &Path) -> Result<LocalListener, LocalBindError> {
    let failed = |error| LocalBindError::System { path: path.to_owned(), error };
    match symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(LocalBindError::NotASocket(path.to_owned())),
        Ok(_) if is_served(path).map_err(failed)? => return Err(LocalBindError::Running(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let socket = open(path).map_err(failed)?;
    let file = SocketFile::of(path).map_err(failed)?;
    Ok(LocalListener { socket, file: Some(file) })
}

fn open(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Returns whether a server listens on the path. Never blocks; a full backlog counts as listening.
fn is_served(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}

impl LocalListener {
    /// Returns a listener for an inherited socket, whose file is never removed.
    #[must_use]
    pub fn handed(socket: UnixListener) -> Self {
        Self { socket, file: None }
    }

    /// Returns the bare socket; the file remains after the socket is closed.
    #[must_use]
    pub fn into_socket(mut self) -> UnixListener {
        if let Some(mut file) = self.file.take() {
            file.stays = true;
        }
        self.socket
    }
}

/// Socket file created by this server.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
    stays: bool,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: id_of(&symlink_metadata(path)?), stays: false })
    }
}

fn id_of(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Drop for SocketFile {
    /// Removes the file, unless another server has replaced the file. A failure for lack of permission on the
    /// directory is ignored: the next start replaces the socket.
    fn drop(&mut self) {
        let is_ours = || symlink_metadata(&self.path).is_ok_and(|found| id_of(&found) == self.id);
        if !self.stays && is_ours() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Accepts connections like [`accept_loop`](crate::accept_loop), from clients on this machine, which all have the
/// address [`UNIX_CLIENT_ADDRESS`].
pub async fn accept_local<F, T>(
    listener: LocalListener,
    settings: AcceptSettings,
    mut shutdown: Shutdown,
    serve: F,
) -> io::Result<()>
where
    F: Fn(Accepted<UnixStream>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let LocalListener { socket, file: _file } = listener;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shutdown.wait() => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(listener = settings.name, %error, "accept failed");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        begin(stream, LOCAL_CLIENT, LOCAL_CLIENT, &settings, &serve);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_only_where_nobody_answers_and_goes_with_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lmtp");
        let first = bind_local(&path).unwrap();
        assert!(matches!(bind_local(&path), Err(LocalBindError::Running(_))));
        drop(first);
        assert!(!path.exists());
        // Left behind: nobody listens.
        drop(bind_local(&path).unwrap().into_socket());
        assert!(path.exists());
        let second = bind_local(&path).unwrap();
        // Another server's by now.
        std::fs::remove_file(&path).unwrap();
        let third = bind_local(&path).unwrap();
        drop(second);
        assert!(path.exists());
        drop(third);
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(bind_local(&path), Err(LocalBindError::NotASocket(_))));
        assert!(matches!(bind_local(&dir.path().join("none/lmtp")), Err(LocalBindError::System { .. })));
    }
}
