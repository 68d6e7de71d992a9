//! Tables of the file with few keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::listener::{FileModeValue, ListenAddress, ListenAddressValue};
use crate::network::{Network, NetworkValue};
use crate::section::section;
use crate::tls::{ClientCertificateMode, ListenerTlsMode, TlsProtocols};
use crate::value::{
    BoolValue, ByteSize, DurationValue, EnumValue, IntegerValue, ListOf, OptionalValue, PathValue, SocketAddrValue, StringEnum,
    TextValue,
};

section! {
    /// A listener for SMTP or LMTP.
    pub struct ListenerConfig (table, reader) {
        /// Name of the listener in logs and for plugins; required.
        name: String [TextValue] = String::new();
        /// Address and port, or the path of a Unix socket; required.
        address: ListenAddress [ListenAddressValue] = ListenAddress::Inet(SocketAddr::from(([127, 0, 0, 1], 0)));
        /// Kind of clients: other servers ("smtp"), users who submit mail ("submission"), or servers that deliver
        /// mail by LMTP ("lmtp").
        kind: ListenerKind [EnumValue<ListenerKind>] = ListenerKind::Smtp;
        /// TLS mode of the listener.
        tls: Option<ListenerTlsMode> [OptionalValue<EnumValue<ListenerTlsMode>>] = None, derived "\"starttls\" if there are smtpd_tls_chain_files, except at a path";
        /// Accept mail only over encrypted connections.
        tls_required: bool [BoolValue] = false;
        /// Oldest TLS version of this listener.
        tls_protocols: Option<TlsProtocols> [OptionalValue<EnumValue<TlsProtocols>>] = None, derived "smtpd_tls_protocols";
        /// Policy for client certificates: not requested, requested, or required from an authority in
        /// smtpd_tls_CAfile.
        client_certificates: ClientCertificateMode [EnumValue<ClientCertificateMode>] = ClientCertificateMode::None;
        /// Expect a PROXY header (version 1 or 2) with the address of the client at the start of each connection.
        proxy: bool [BoolValue] = false;
        /// Networks of the proxies; all other connections are closed.
        proxy_networks: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
        /// Mode of a Unix socket; connecting requires write permission.
        mode: Option<u32> [OptionalValue<FileModeValue>] = None, derived "\"0660\"";
        /// Owner of a Unix socket.
        user: Option<String> [OptionalValue<TextValue>] = None, derived "the user of the server";
        /// Group of a Unix socket.
        group: Option<String> [OptionalValue<TextValue>] = None, derived "the group of the server";
    }
}

impl ListenerConfig {
    /// Returns the default listener: port 25 on all IPv4 addresses.
    pub(crate) fn default_smtp() -> Self {
        Self {
            name: "smtp".to_owned(),
            address: ListenAddress::Inet(SocketAddr::from(([0, 0, 0, 0], 25))),
            kind: ListenerKind::Smtp,
            tls: None,
            tls_required: false,
            tls_protocols: None,
            client_certificates: ClientCertificateMode::None,
            proxy: false,
            proxy_networks: Vec::new(),
            mode: None,
            user: None,
            group: None,
        }
    }
}

/// Kind of clients of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// Other mail servers.
    Smtp,
    /// Users who submit mail.
    Submission,
    /// LMTP clients, which get a reply for each recipient (RFC 2033).
    Lmtp,
}

impl StringEnum for ListenerKind {
    const FORM: &'static str = "\"smtp\", \"submission\" or \"lmtp\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("smtp", Self::Smtp), ("submission", Self::Submission), ("lmtp", Self::Lmtp)];
}

section! {
    /// Control socket for commands to a running server.
    pub struct ControlConfig (table, reader) {
        /// Path of the control socket; none: in queue_directory.
        socket: Option<PathBuf> [OptionalValue<PathValue>] = None, derived "queue_directory/control";
    }
}

section! {
    /// DNS lookups and name servers.
    pub struct DnsConfig (table, reader) {
        /// Addresses of the name servers; empty: the name servers of the system.
        servers: Vec<SocketAddr> [ListOf<SocketAddrValue>] = Vec::new();
        /// Timeout of a query to a single name server.
        timeout: Duration [DurationValue<100>] = Duration::from_secs(5);
        /// Maximum number of attempts for a query.
        attempts: usize [IntegerValue<usize, 1, 10>] = 2;
    }
}

section! {
    /// Log level and log file.
    pub struct LogConfig (table, reader) {
        /// Least important level of log lines to write.
        level: LogLevel [EnumValue<LogLevel>] = LogLevel::Info;
        /// Path of the log file, opened for appending; none: standard error.
        file: Option<PathBuf> [OptionalValue<PathValue>] = None;
    }
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures of the server.
    Error,
    /// Conditions that need attention.
    Warn,
    /// Events of each message.
    Info,
    /// Internal events of the server.
    Debug,
    /// Each internal step.
    Trace,
}

impl LogLevel {
    /// Returns the name of the level in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::VARIANTS.iter().find(|(_, level)| *level == self).map_or("info", |(word, _)| word)
    }
}

impl StringEnum for LogLevel {
    const FORM: &'static str = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("error", Self::Error), ("warn", Self::Warn), ("info", Self::Info), ("debug", Self::Debug), ("trace", Self::Trace)];
}

section! {
    /// Worker threads of the server.
    pub struct RuntimeConfig (table, reader) {
        /// Number of threads for sessions, hooks and deliveries; a single thread is fastest on machines with two
        /// cores.
        workers: usize [IntegerValue<usize, 1, 256>] = 1;
    }
}

section! {
    /// Recordings of client input for `waxwing replay`.
    pub struct RecordingConfig (table, reader) {
        /// Record each transaction.
        enabled: bool [BoolValue] = false;
        /// Maximum age of a recording.
        age_max: Duration [DurationValue<1000>] = Duration::from_secs(7 * 86_400);
        /// Maximum size of all recordings in bytes; the oldest are deleted first.
        bytes_max: u64 [ByteSize<{ 1 << 20 }>] = 64 << 20;
        /// Omit the bodies of messages.
        redact_body: bool [BoolValue] = true;
        /// Header fields whose values are omitted.
        redact_headers: Vec<String> [ListOf<TextValue>] = ["Authorization", "Cookie"].map(String::from).to_vec();
    }
}

section! {
    /// Traces of transactions for `waxwing trace`.
    pub struct TraceConfig (table, reader) {
        /// Maximum size of all traces in bytes; the oldest are deleted first.
        bytes_max: u64 [ByteSize<{ 1 << 20 }>] = 64 << 20;
        /// Maximum age of a trace.
        age_max: Duration [DurationValue<60_000>] = Duration::from_secs(7 * 86_400);
    }
}

/// Action for a message rejected after acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanRejectAction {
    /// Move the message to the hold queue.
    #[default]
    Hold,
    /// Delete the message.
    Discard,
}

impl StringEnum for ScanRejectAction {
    const FORM: &'static str = "\"hold\" or \"discard\"";
    const VARIANTS: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("discard", Self::Discard)];
}
