//! Client of the control socket of a running server.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waxwing_control::{
    ControlRequest, ControlResponse, DaemonInfo, FrameReader, MessageInfo, QueuePage, RESPONSE_BYTES_MAX, encode_frame,
};
use waxwing_types::QueueId;

use crate::ToolError;

/// Timeout of a read or write on the control socket; the listing of a large queue takes the server a while.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes per read call on the socket.
const READ_BYTES: usize = 64 * 1024;

/// Connection to the control socket of a running server.
pub struct ControlClient {
    stream: UnixStream,
    socket: PathBuf,
    frames: FrameReader,
}

impl ControlClient {
    /// Connects to the control socket. Errors: `NoServer`, `PermissionDenied`.
    pub fn connect(socket: &Path) -> Result<Self, ToolError> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
            stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { stream, socket: socket.to_owned(), frames: FrameReader::new(RESPONSE_BYTES_MAX) }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(ToolError::PermissionDenied(socket.to_owned())),
            Err(error) => Err(ToolError::NoServer { socket: socket.to_owned(), error }),
        }
    }

    /// Sends a request and waits for the response; a [`ControlResponse::Error`] becomes an error.
    pub fn request(&mut self, request: &ControlRequest) -> Result<ControlResponse, ToolError> {
        self.stream.write_all(&encode_frame(request)?).map_err(|error| self.connection_lost(error))?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(response) = self.frames.next_message::<ControlResponse>()? {
                return if let ControlResponse::Error(problem) = response { Err(problem.into()) } else { Ok(response) };
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.connection_lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.frames.push(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.connection_lost(error)),
            }
        }
    }

    /// Returns version and state of the server.
    pub fn ping(&mut self) -> Result<DaemonInfo, ToolError> {
        let ControlResponse::Pong(info) = self.request(&ControlRequest::Ping)? else { return Err(ToolError::UnexpectedResponse) };
        Ok(info)
    }

    /// Fetches a page of the queue listing, starting after the cursor `after`.
    pub fn queue_list(&mut self, after: Option<String>, limit: u32) -> Result<QueuePage, ToolError> {
        let ControlResponse::Queue(page) = self.request(&ControlRequest::QueueList { after, limit })? else {
            return Err(ToolError::UnexpectedResponse);
        };
        Ok(page)
    }

    /// Fetches the details of a message, with the message header.
    pub fn queue_show(&mut self, id: QueueId) -> Result<Box<MessageInfo>, ToolError> {
        let ControlResponse::Message(message) = self.request(&ControlRequest::QueueShow { id })? else {
            return Err(ToolError::UnexpectedResponse);
        };
        Ok(message)
    }

    fn connection_lost(&self, error: io::Error) -> ToolError {
        ToolError::ConnectionLost { socket: self.socket.clone(), error }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;

    use waxwing_control::{ControlErrorKind, REQUEST_BYTES_MAX};

    use super::*;

    /// A server for one connection: it gives `answers` in turn and returns what it was asked.
    pub(crate) fn serve(socket: &Path, answers: Vec<ControlResponse>) -> std::thread::JoinHandle<Vec<ControlRequest>> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut frames = FrameReader::new(REQUEST_BYTES_MAX);
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            for answer in answers {
                while asked.len() < usize::MAX {
                    if let Some(request) = frames.next_message::<ControlRequest>().unwrap() {
                        asked.push(request);
                        break;
                    }
                    let length = stream.read(&mut buffer).unwrap();
                    frames.push(&buffer[..length]);
                }
                stream.write_all(&encode_frame(&answer).unwrap()).unwrap();
            }
            asked
        })
    }

    #[test]
    fn asks_and_hears() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let page = QueuePage { next: Some("x".into()), ..QueuePage::default() };
        let problem = ControlResponse::error(ControlErrorKind::NotFound, "no message has this id");
        let server = serve(&socket, vec![ControlResponse::Queue(page.clone()), problem, ControlResponse::Queue(page.clone())]);
        let mut client = ControlClient::connect(&socket).unwrap();
        assert_eq!(client.queue_list(None, 5).unwrap(), page);
        let error = client.queue_show(QueueId::from_u64(1)).unwrap_err();
        assert_eq!(error.to_string(), "no message has this id");
        assert!(matches!(client.ping(), Err(ToolError::UnexpectedResponse)));
        assert!(matches!(client.ping(), Err(ToolError::ConnectionLost { .. })), "the server has ended");
        let asked = server.join().unwrap();
        assert_eq!(asked.first(), Some(&ControlRequest::QueueList { after: None, limit: 5 }));
    }

    #[test]
    fn says_what_to_do_when_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = ControlClient::connect(&dir.path().join("control")) else { panic!("nobody is there") };
        assert!(error.to_string().contains("--socket"), "{error}");
    }
}
