//! Asks a running server over its control socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waxwing_control::{Frames, QueuePage, RESPONSE_BYTES_MAX, Request, Response, ServerInfo, ShownMessage, frame};
use waxwing_types::QueueId;

use crate::ToolError;

/// How long one read or write on the control socket may take: a walk over a large queue takes the server a while.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);
/// Octets of one read.
const READ_BYTES: usize = 64 * 1024;

/// A connection to a running server.
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    frames: Frames,
}

impl Client {
    /// Connects.
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

    /// Asks and waits for the answer; a [`Response::Problem`] becomes the error.
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

    /// Who answers.
    pub fn ping(&mut self) -> Result<ServerInfo, ToolError> {
        let Response::Pong(info) = self.ask(&Request::Ping)? else { return Err(ToolError::OtherAnswer) };
        Ok(info)
    }

    /// A page of the queue.
    pub fn queue_list(&mut self, after: Option<String>, limit: u32) -> Result<QueuePage, ToolError> {
        let Response::Queue(page) = self.ask(&Request::QueueList { after, limit })? else { return Err(ToolError::OtherAnswer) };
        Ok(page)
    }

    /// All about one message.
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
