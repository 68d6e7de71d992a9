//! Sockets, TLS, DNS, timeouts, and the drive loop of all protocol sessions.
//!
//! Owns: the loop [`drive`]; TLS and certificates; the PROXY header; listeners, session limits and the accept loop;
//! outbound connections; the policy client; shutdown and the spawn helper; the DNS resolver.
//! Uses: config, pipeline, types; the traits `Resolver` and `Session`.
//! Used by: admin, daemon, delivery, intake, plugins, tool.
//! Never: the grammar of a mail protocol, decisions on mail, a clock other than the given clock.
//! Start reading at: [`drive`].
#![forbid(unsafe_code)]

mod accept;
mod connect;
mod drive;
mod expiring_map;
mod output_buffer;
mod policy_client;
mod proxy_accept;
pub mod proxy_protocol;
mod rates;
mod resolver;
mod task;
mod tcp_listener;
mod timer;
mod tls;
mod unix_listener;

pub use accept::{
    AcceptSettings, AcceptedConnection, Admission, REJECTED_SESSIONS_MAX, SessionCounts, SessionLimits, SessionPermit,
    accept_loop,
};
pub use connect::{ConnectError, connect};
pub use drive::{ConnectionEnd, DriveResult, SessionHandler, drive};
pub use policy_client::{PolicyClient, PolicyClientSettings};
pub use proxy_accept::{PENDING_PROXY_HEADERS_MAX, ProxySettings, accept_proxied};
pub use rates::{GREETED_CLIENTS_MAX, RATE_CLIENTS_MAX, RateExceeded, RateKind, RateLimiter, RateSettings};
pub use resolver::{HickoryResolver, ResolverError, UnavailableResolver};
pub use task::{Shutdown, ShutdownTrigger, spawn};
pub use tcp_listener::{LISTEN_BACKLOG, TcpBindError, bind_tcp};
pub use tls::{
    CertificateInfo, CertificateStore, Certificates, ClientCertPolicy, PEM_FILE_BYTES_MAX, ServerVerification, TlsClient,
    TlsConnector, TlsError, TlsMode, TlsServer, load_authorities, readable_by_others, self_signed,
};
pub use unix_listener::{UNIX_CLIENT_ADDRESS, UnixBindError, UnixSocketListener, accept_unix, bind_unix};
