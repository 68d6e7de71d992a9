//! Why a command failed, in sentences for the person who typed it.

use std::io;
use std::path::PathBuf;

use crate::new::NewError;
use crate::user::UserCommandError;
use waxwing_config::LoadError;
use waxwing_control::{FrameError, Problem};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Neither an option nor a usual place names a configuration.
    #[error("no configuration: give --config FILE (there is none at {})", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoConfig {
        /// The usual places.
        tried: Vec<PathBuf>,
    },
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(#[from] LoadError),
    /// Nobody answers.
    #[error("no server answers at {}: {error} (is it running? --config or --socket choose another)", socket.display())]
    NoServer {
        /// The control socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The socket is another user's.
    #[error("the server at {} answers only root and its mail_owner", .0.display())]
    NotAllowed(PathBuf),
    /// The conversation broke off.
    #[error("the server at {} broke off: {error}", socket.display())]
    BrokeOff {
        /// The control socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The server speaks another language: another version?
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The server answered something else than what was asked.
    #[error("the server gave an answer to another question; is it of another version?")]
    OtherAnswer,
    /// The server said no.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// A change was not made; what is in service is what was.
    #[error("{0}")]
    NotChanged(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A plugin would not be loaded.
    #[error(transparent)]
    Plugin(#[from] waxwing_sandbox::LoadError),
    /// A milter is not there, or of no use.
    #[error("{0}")]
    Milter(String),
    /// `builtin:` with a name that is not.
    #[error("no plugin \"{0}\" is built in")]
    NoBuiltin(String),
    /// A transaction could not be played.
    #[error("{0}")]
    Rehearsal(String),
    /// It was played, and what was seen is not what was expected.
    #[error("{0}")]
    NotAsExpected(String),
    /// A server that this command ran ended by itself, with this exit code.
    #[error("the server ended; its log says why")]
    ServerEnded(u8),
    /// A new plugin cannot be made.
    #[error(transparent)]
    New(#[from] NewError),
    /// Users can't be changed or listed.
    #[error(transparent)]
    User(#[from] UserCommandError),
    /// The output went away or failed.
    #[error("output: {0}")]
    Output(#[from] io::Error),
    /// What is printed cannot be JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl ToolError {
    /// The reader of the output has gone, as `head` does: nothing to complain about.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
