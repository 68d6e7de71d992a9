//! Sockets, TLS, DNS, timeouts, and the drive loop of all protocol sessions.
//!
//! Owns: the loop [`drive`]; TLS and certificates; the PROXY header; listeners, session limits and the accept loop;
//! outbound connections; the policy client; shutdown and the spawn helper; the DNS resolver.
//! Uses: pipeline, types; the traits `Resolver` and `Session`.
//! Used by: daemon, delivery, intake, tool.
//! Never: the grammar of a mail protocol, decisions on mail, a clock other than the given clock.
//! Start reading at: [`drive`].
#![forbid(unsafe_code)]

mod accept;
mod asking;
mod connect;
mod drive;
mod listen;
mod local;
mod outbox;
mod proxied;
pub mod proxy;
mod rates;
mod recent;
mod resolver;
mod task;
mod timer;
mod tls;

pub use accept::{
    AcceptSettings, Accepted, Admission, REFUSED_SESSIONS_MAX, SessionCounts, SessionLimits, SessionPermit, accept_loop,
};
pub use asking::{Asking, AskingSettings};
pub use connect::{ConnectError, connect};
pub use drive::{End, Ended, Host, drive};
pub use listen::{BindError, LISTEN_BACKLOG, bind};
pub use local::{LOCAL_CLIENT, LocalBindError, LocalListener, accept_local, bind_local};
pub use proxied::{PROXY_HEADERS_MAX, ProxySettings, accept_proxied};
pub use rates::{GREETED_CLIENTS_MAX, Over, RATE_CLIENTS_MAX, Rate, RateSettings, Rates};
pub use resolver::{HickoryResolver, Nameservers, NoResolver, ResolverError, ResolverSettings};
pub use task::{Shutdown, ShutdownTrigger, spawn};
pub use tls::{
    CertificateInfo, CertificateStore, Certificates, ClientTrust, PEM_FILE_BYTES_MAX, Tls, TlsClient, TlsConnector, TlsError,
    TlsServer, Verify, authorities, readable_by_others, self_signed,
};
