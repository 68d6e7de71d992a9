//! Client of the control socket of a running server.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waxwing_control::{Frames, QueuePage, RESPONSE_BYTES_MAX, Request, Response, ServerInfo, ShownMessage, frame};
use waxwing_types::QueueId;

use crate::ToolError;

/// Timeout of a read or write on the control socket; the listing of a large queue takes the server a while.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes per read call on the socket.
const READ_BYTES: usize = 64 * 1024;

/// Connection to the control socket of a running server.
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    frames: Frames,
}

impl Client {
    /// Connects to the control socket. Errors: `NoServer`, `PermissionDenied`.
    pub fn connect(socket: &Path) -> Result<Self, ToolError> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
            stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self { stream, socket: socket.to_owned(), frames: Frames::new(RESPONSE_BYTES_MAX) }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(ToolError::NotAllowed(socket.to_owned())),
            Err(error) => Err(ToolError::NoServer { socket: socket.to_owned(), error }),
        }
    }

    /// Sends a request and waits for the response; a [`Response::Problem`] becomes an error.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ToolError> {
        self.stream.write_all(&frame(request)?).map_err(|error| self.broke_off(error))?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if let Some(response) = self.frames.take::<Response>()? {
                return if let Response::Problem(problem) = response { Err(problem.into()) } else { Ok(response) };
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.broke_off(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => self.frames.push(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broke_off(error)),
            }
        }
    }

    /// Returns version and state of the server.
    pub fn ping(&mut self) -> Result<ServerInfo, ToolError> {
        let Response::Pong(info) = self.ask(&Request::Ping)? else { return Err(ToolError::OtherAnswer) };
        Ok(info)
    }

    /// Fetches a page of the queue listing, starting after the cursor `after`.
    pub fn queue_list(&mut self, after: Option<String>, limit: u32) -> Result<QueuePage, ToolError> {
        let Response::Queue(page) = self.ask(&Request::QueueList { after, limit })? else { return Err(ToolError::OtherAnswer) };
        Ok(page)
    }

    /// Fetches the details of a message, with the message header.
    pub fn queue_show(&mut self, id: QueueId) -> Result<Box<ShownMessage>, ToolError> {
        let Response::Message(message) = self.ask(&Request::QueueShow { id })? else { return Err(ToolError::OtherAnswer) };
        Ok(message)
    }

    fn broke_off(&self, error: io::Error) -> ToolError {
        ToolError::BrokeOff { socket: self.socket.clone(), error }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::net::UnixListener;

    use waxwing_control::{ProblemKind, REQUEST_BYTES_MAX};

    use super::*;

    /// A server for one connection: it gives `answers` in turn and returns what it was asked.
    pub(crate) fn serve(socket: &Path, answers: Vec<Response>) -> std::thread::JoinHandle<Vec<Request>> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut frames = Frames::new(REQUEST_BYTES_MAX);
            let mut asked = Vec::new();
            let mut buffer = [0; 512];
            for answer in answers {
                while asked.len() < usize::MAX {
                    if let Some(request) = frames.take::<Request>().unwrap() {
                        asked.push(request);
                        break;
                    }
                    let length = stream.read(&mut buffer).unwrap();
                    frames.push(&buffer[..length]);
                }
                stream.write_all(&frame(&answer).unwrap()).unwrap();
            }
            asked
        })
    }

    #[test]
    fn asks_and_hears() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control");
        let page = QueuePage { next: Some("x".into()), ..QueuePage::default() };
        let problem = Response::problem(ProblemKind::NotFound, "no message has this id");
        let server = serve(&socket, vec![Response::Queue(page.clone()), problem, Response::Queue(page.clone())]);
        let mut client = Client::connect(&socket).unwrap();
        assert_eq!(client.queue_list(None, 5).unwrap(), page);
        let error = client.queue_show(QueueId::from_u64(1)).unwrap_err();
        assert_eq!(error.to_string(), "no message has this id");
        assert!(matches!(client.ping(), Err(ToolError::OtherAnswer)));
        assert!(matches!(client.ping(), Err(ToolError::BrokeOff { .. })), "the server has ended");
        let asked = server.join().unwrap();
        assert_eq!(asked.first(), Some(&Request::QueueList { after: None, limit: 5 }));
    }

    #[test]
    fn says_what_to_do_when_nobody_answers() {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = Client::connect(&dir.path().join("control")) else { panic!("nobody is there") };
        assert!(error.to_string().contains("--socket"), "{error}");
    }
}
