//! Server side of the control socket: accepts clients, reads requests, writes responses.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use waxwing_control::{
    ControlErrorKind, ControlRequest, ControlResponse, FrameError, FrameReader, REQUEST_BYTES_MAX, encode_frame,
};
use waxwing_net::{Shutdown, UnixBindError, bind_unix, spawn};

use crate::handler::ControlHandler;

/// Clients served at the same time; further clients wait.
const CLIENTS_MAX: usize = 8;
/// Longest silence of a client, and longest time to write a response.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
/// Bytes read from the socket at once.
const READ_BYTES: usize = 4096;
/// Pause after a failed accept, for instance for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Error when the control socket is created.
#[derive(Debug, thiserror::Error)]
pub enum ControlSocketError {
    /// The path is not usable, or another server listens there.
    #[error("control socket: {0}")]
    Bind(#[from] UnixBindError),
    /// The operating system refused to set the permissions.
    #[error("control socket {}: {error}", path.display())]
    System {
        /// Path of the control socket.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
}

/// Binds the control socket with mode 0600, owned by the current user; replaces the stale socket of a server that has ended.
pub fn bind(path: &Path) -> Result<UnixListener, ControlSocketError> {
    let failed = |error| ControlSocketError::System { path: path.to_owned(), error };
    let listener = bind_unix(path)?.into_socket();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves clients until shutdown.
pub async fn serve(listener: UnixListener, handler: Arc<dyn ControlHandler>, mut shutdown: Shutdown) -> io::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let permits = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.wait() => return Ok(()),
        };
        match accepted {
            Ok((stream, _)) => {
                let (handler, shutdown) = (Arc::clone(&handler), shutdown.clone());
                spawn("control", async move {
                    if let Err(error) = serve_client(stream, &*handler, shutdown).await {
                        tracing::debug!(%error, "control socket: client connection failed");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the control socket failed");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve_client(
    mut stream: tokio::net::UnixStream,
    handler: &dyn ControlHandler,
    mut shutdown: Shutdown,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        tracing::warn!(uid, "refused a client of the control socket");
        return send_response(&mut stream, &ControlResponse::error(ControlErrorKind::Denied, "only root and mail_owner may ask"))
            .await;
    }
    let mut frames = FrameReader::new(REQUEST_BYTES_MAX);
    let mut buffer = [0; READ_BYTES];
    loop {
        match frames.next_message::<ControlRequest>() {
            Ok(Some(request)) => send_response(&mut stream, &handler.handle(request).await).await?,
            Ok(None) => {
                let read = tokio::select! {
                    read = timeout(CLIENT_IDLE, stream.read(&mut buffer)) => read.unwrap_or(Ok(0))?,
                    () = shutdown.wait() => 0,
                };
                match buffer.get(..read) {
                    Some([]) | None => return Ok(()),
                    Some(octets) => frames.push(octets),
                }
            }
            Err(error @ FrameError::Malformed(_)) => {
                send_response(&mut stream, &ControlResponse::error(ControlErrorKind::BadRequest, error.to_string())).await?;
            }
            Err(error @ FrameError::TooLong(_)) => {
                return send_response(&mut stream, &ControlResponse::error(ControlErrorKind::BadRequest, error.to_string()))
                    .await;
            }
        }
    }
}

async fn send_response(stream: &mut tokio::net::UnixStream, response: &ControlResponse) -> io::Result<()> {
    let line = match encode_frame(response) {
        Ok(line) => line,
        Err(error) => {
            encode_frame(&ControlResponse::error(ControlErrorKind::Failed, error.to_string())).map_err(io::Error::other)?
        }
    };
    timeout(CLIENT_IDLE, stream.write_all(&line)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use waxwing_tool::ControlClient;

    use super::*;

    struct Parrot;

    #[async_trait]
    impl ControlHandler for Parrot {
        async fn handle(&self, request: ControlRequest) -> ControlResponse {
            if request == ControlRequest::ConfigShow {
                return ControlResponse::Config { file: "f".into(), text: "x".repeat(200_000) };
            }
            ControlResponse::error(ControlErrorKind::NotFound, format!("{request:?}"))
        }
    }

    fn start(path: &Path) -> (waxwing_net::ShutdownTrigger, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = bind(path).unwrap();
        let (trigger, shutdown) = Shutdown::new();
        (trigger, spawn("test", serve(listener, Arc::new(Parrot), shutdown)))
    }

    #[tokio::test]
    async fn answers_one_client_after_the_other_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let (trigger, server) = start(&path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asked = path.clone();
        tokio::task::spawn_blocking(move || {
            for _ in 0..2 * CLIENTS_MAX {
                let mut client = ControlClient::connect(&asked).unwrap();
                let ControlResponse::Config { text, .. } = client.request(&ControlRequest::ConfigShow).unwrap() else { panic!() };
                assert_eq!(text.len(), 200_000);
                assert_eq!(client.request(&ControlRequest::PluginList).unwrap_err().to_string(), "PluginList");
            }
        })
        .await
        .unwrap();
        trigger.trigger();
        server.await.unwrap().unwrap();
        trigger.all_dropped().await;
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_a_flood_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let (_trigger, _server) = start(&path);
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"hello\n{\"ask\":\"config-show\"}\n").await.unwrap();
        let mut frames = FrameReader::new(waxwing_control::RESPONSE_BYTES_MAX);
        let mut seen = Vec::new();
        let mut buffer = vec![0; 4096];
        while seen.len() < 2 {
            let length = stream.read(&mut buffer).await.unwrap();
            frames.push(&buffer[..length]);
            seen.extend(frames.next_message::<ControlResponse>().unwrap());
        }
        assert!(matches!(&seen[0], ControlResponse::Error(problem) if problem.kind == ControlErrorKind::BadRequest));
        assert!(matches!(&seen[1], ControlResponse::Config { .. }));
        let flood = vec![b'x'; REQUEST_BYTES_MAX + READ_BYTES];
        // The server may close before it has taken all.
        let _ = stream.write_all(&flood).await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        let mut frames = FrameReader::new(waxwing_control::RESPONSE_BYTES_MAX);
        frames.push(&rest);
        let told = frames.next_message::<ControlResponse>().unwrap();
        assert!(matches!(told, Some(ControlResponse::Error(problem)) if problem.kind == ControlErrorKind::BadRequest));
    }

    #[tokio::test]
    async fn a_running_server_is_not_pushed_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let listener = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ControlSocketError::Bind(UnixBindError::InUse(_)))));
        drop(listener);
        bind(&path).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(matches!(bind(&file), Err(ControlSocketError::Bind(UnixBindError::NotASocket(_)))));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
