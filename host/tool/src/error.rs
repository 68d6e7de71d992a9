//! Errors of the commands, as sentences for the user.

use std::io;
use std::path::PathBuf;

use waxwing_accounts::{SECRET_BYTES_MAX, UserError, UserNameError};
use waxwing_config::ConfigError;
use waxwing_control::{ControlError, FrameError};

/// Reason for the failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Missing configuration: neither an option nor a default location.
    #[error("no configuration: give --config FILE (there is none at {})", tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoConfig {
        /// Default locations of the configuration.
        tried: Vec<PathBuf>,
    },
    /// Invalid or unreadable configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Connection refused, or no socket.
    #[error("no server answers at {}: {error} (is it running? --config or --socket choose another)", socket.display())]
    NoServer {
        /// Path of the control socket.
        socket: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Control socket of another user.
    #[error("the server at {} answers only root and its mail_owner", .0.display())]
    PermissionDenied(PathBuf),
    /// Connection lost during a request.
    #[error("the connection to the server at {} was lost: {error}", socket.display())]
    ConnectionLost {
        /// Path of the control socket.
        socket: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Malformed frame, probably from another version of the server.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// Response of an unexpected kind.
    #[error("unexpected response of the server; do the versions of command and server differ?")]
    UnexpectedResponse,
    /// Error response of the server.
    #[error(transparent)]
    ErrorResponse(#[from] ControlError),
    /// Failed change; the previous version stays in service.
    #[error("{0}")]
    NotChanged(String),
    /// I/O error of a file.
    #[error("{}: {error}", file.display())]
    File {
        /// Path of the file.
        file: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Component refused by the sandbox.
    #[error(transparent)]
    Plugin(#[from] waxwing_sandbox::PluginLoadError),
    /// Unreachable or unusable milter.
    #[error("{0}")]
    Milter(String),
    /// Unknown name after `builtin:`.
    #[error("no plugin \"{0}\" is built in")]
    UnknownBuiltin(String),
    /// Failure of a simulated transaction.
    #[error("{0}")]
    Simulation(String),
    /// Unexpected result of a simulated transaction.
    #[error("{0}")]
    UnexpectedResult(String),
    /// Exit of a server run by the command, with the exit code.
    #[error("the server ended; its log says why")]
    ServerEnded(u8),
    /// Failure to create a new plugin.
    #[error(transparent)]
    NewPlugin(#[from] NewPluginError),
    /// Failure to change or list users.
    #[error(transparent)]
    User(#[from] UserCommandError),
    /// Write error of the output.
    #[error("output: {0}")]
    Output(#[from] io::Error),
    /// Failure to encode or decode JSON.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl ToolError {
    /// True if the reader of the output has gone, like `head`; not worth an error message.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Reason for the failure to create a plugin or a component.
#[derive(Debug, thiserror::Error)]
pub enum NewPluginError {
    /// Invalid name of a plugin.
    #[error("{name:?} is not a valid plugin name: {reason}")]
    Name {
        /// Name given by the user.
        name: String,
        /// Violated rule for names.
        reason: String,
    },
    /// Existing target folder; nothing is overwritten.
    #[error("{} is there already; nothing was changed", .0.display())]
    Exists(PathBuf),
    /// I/O error of a file.
    #[error("{}: {error}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Core module without the plugin contract.
    #[error("{}: {reason}", module.display())]
    Component {
        /// Path of the core module.
        module: PathBuf,
        /// Error of the component builder.
        reason: String,
    },
}

/// Reason for the failure of a user command.
#[derive(Debug, thiserror::Error)]
pub enum UserCommandError {
    /// Configuration without user sources.
    #[error("{} has no user sources: add users = [\"file:/path\"] or [\"store:\"], or give --in", .0.display())]
    NoUserSource(PathBuf),
    /// Invalid value of `--in`.
    #[error("\"{0}\" is not a user source: write file:/path or store:")]
    InvalidUserSource(String),
    /// Empty or too long password, or a password with control characters.
    #[error("a password has 1 to {SECRET_BYTES_MAX} octets and no control characters")]
    InvalidPassword,
    /// Different text at the second prompt.
    #[error("the two passwords differ; nothing was changed")]
    PasswordsDiffer,
    /// Read error of the password.
    #[error("the password can't be read: {0}")]
    Input(io::Error),
    /// Failure to compute a password record.
    #[error("the password cannot be hashed: no system randomness, or an invalid cost in password_argon2_*")]
    HashFailed,
    /// Invalid name of a user.
    #[error(transparent)]
    Name(#[from] UserNameError),
    /// Failed change or listing of users.
    #[error(transparent)]
    Users(#[from] UserError),
}
