//! The small tables of the file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::kind::{Choice, Count, FilePath, Flag, ListOf, Maybe, Size, Socket, Span, Text, Words};
use crate::listener::{FileMode, ListenAddress, ListenPlace};
use crate::network::{Network, NetworkText};
use crate::section::section;
use crate::tls::{ClientCertificates, ListenTls, TlsProtocols};

section! {
    /// A listener.
    pub struct Listen (table, reader) {
        /// Name of the listener, as plugins and logs know it; required.
        name: String [Text] = String::new();
        /// Address and port to listen on, or the path of a socket; required.
        address: ListenAddress [ListenPlace] = ListenAddress::Inet(SocketAddr::from(([127, 0, 0, 1], 0)));
        /// Who connects: other servers, users who submit mail, or servers that hand over mail for good (LMTP).
        kind: ListenKind [Choice<ListenKind>] = ListenKind::Smtp;
        /// When connections are encrypted.
        tls: Option<ListenTls> [Maybe<Choice<ListenTls>>] = None, derived "\"starttls\" if there are smtpd_tls_chain_files, except at a path";
        /// Mail is taken only over encrypted connections.
        tls_required: bool [Flag] = false;
        /// The oldest version of TLS on this listener.
        tls_protocols: Option<TlsProtocols> [Maybe<Choice<TlsProtocols>>] = None, derived "smtpd_tls_protocols";
        /// Whether clients are asked for a certificate, and served without one that smtpd_tls_CAfile vouches for.
        client_certificates: ClientCertificates [Choice<ClientCertificates>] = ClientCertificates::None;
        /// Connections come from a proxy, and begin with a PROXY header (version 1 or 2) that names the client.
        proxy: bool [Flag] = false;
        /// The proxies; every other connection is closed.
        proxy_networks: Vec<Network> [ListOf<NetworkText>] = Vec::new();
        /// Mode of the socket at a path: who may write to it may connect.
        mode: Option<u32> [Maybe<FileMode>] = None, derived "\"0660\"";
        /// User to whom the socket at a path belongs.
        user: Option<String> [Maybe<Text>] = None, derived "the user of the server";
        /// Group to which the socket at a path belongs.
        group: Option<String> [Maybe<Text>] = None, derived "the group of the server";
    }
}

impl Listen {
    /// Other servers, to every IPv4 address of this one.
    pub(crate) fn smtp() -> Self {
        Self {
            name: "smtp".to_owned(),
            address: ListenAddress::Inet(SocketAddr::from(([0, 0, 0, 0], 25))),
            kind: ListenKind::Smtp,
            tls: None,
            tls_required: false,
            tls_protocols: None,
            client_certificates: ClientCertificates::None,
            proxy: false,
            proxy_networks: Vec::new(),
            mode: None,
            user: None,
            group: None,
        }
    }
}

/// Who connects to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenKind {
    /// Other servers.
    Smtp,
    /// Users who submit mail.
    Submission,
    /// Servers that want an answer for each recipient (RFC 2033).
    Lmtp,
}

impl Words for ListenKind {
    const FORM: &'static str = "\"smtp\", \"submission\" or \"lmtp\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("smtp", Self::Smtp), ("submission", Self::Submission), ("lmtp", Self::Lmtp)];
}

section! {
    /// The socket of the commands that talk to a running server.
    pub struct Control (table, reader) {
        /// Path of the control socket; none: it is made in queue_directory.
        socket: Option<PathBuf> [Maybe<FilePath>] = None, derived "queue_directory/control";
    }
}

section! {
    /// How names are looked up.
    pub struct Dns (table, reader) {
        /// Name servers; empty: those of the system.
        servers: Vec<SocketAddr> [ListOf<Socket>] = Vec::new();
        /// How long one name server may take to answer.
        timeout: Duration [Span<100>] = Duration::from_secs(5);
        /// How often a question is asked in all.
        attempts: usize [Count<usize, 1, 10>] = 2;
    }
}

section! {
    /// The log.
    pub struct Log (table, reader) {
        /// The least important lines that are written.
        level: LogLevel [Choice<LogLevel>] = LogLevel::Info;
        /// File to append to; none: standard error.
        file: Option<PathBuf> [Maybe<FilePath>] = None;
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something needs attention.
    Warn,
    /// What happens to each message.
    Info,
    /// What happens inside.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, level)| *level == self).map_or("info", |(word, _)| word)
    }
}

impl Words for LogLevel {
    const FORM: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug), ("trace", Self::Trace)];
}

section! {
    /// Threads.
    pub struct Runtime (table, reader) {
        /// Threads that run sessions, hooks and deliveries; one is fastest on machines with two cores.
        workers: usize [Count<usize, 1, 256>] = 1;
    }
}

section! {
    /// What clients said, kept for `waxwing replay`.
    pub struct Recording (table, reader) {
        /// Record each transaction.
        enabled: bool [Flag] = false;
        /// How long a recording is kept.
        age_max: Duration [Span<1000>] = Duration::from_secs(7 * 86_400);
        /// Octets of recordings that are kept; the oldest go first.
        bytes_max: u64 [Size<{ 1 << 20 }>] = 64 << 20;
        /// Leave out the bodies of messages.
        redact_body: bool [Flag] = true;
        /// Header fields whose values are left out.
        redact_headers: Vec<String> [ListOf<Text>] = ["Authorization", "Cookie"].map(String::from).to_vec();
    }
}

section! {
    /// What is remembered of each transaction for `waxwing trace`.
    pub struct Trace (table, reader) {
        /// Octets of traces that are kept; the oldest go first.
        bytes_max: u64 [Size<{ 1 << 20 }>] = 64 << 20;
        /// How long a trace is kept.
        age_max: Duration [Span<60_000>] = Duration::from_secs(7 * 86_400);
    }
}

/// What becomes of a message that is refused after it was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanRefusal {
    /// Into the hold queue.
    #[default]
    Hold,
    /// Thrown away.
    Discard,
}

impl Words for ScanRefusal {
    const FORM: &'static str = "\"hold\" or \"discard\"";
    const WORDS: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("discard", Self::Discard)];
}
