//! Authentication of a session's client by SASL (RFC 4954, RFC 4422).

use std::net::IpAddr;

use async_trait::async_trait;
use waxwing_types::{Reply, TlsSession};

use crate::{Context, HookSession, Pipeline};

/// Verifier of user names and secrets.
pub trait Authenticator: Send + Sync {
    /// Returns the SASL mechanisms offered to a client, the strongest first; an empty list hides AUTH. `tls`: the connection is
    /// encrypted.
    fn mechanisms(&self, client: IpAddr, tls: bool) -> Vec<String>;

    /// Starts an exchange. Returns a refusal reply for a mechanism that is not offered, or for a client with too many recent
    /// failures. `protocol`: name of the session's protocol in lower case, as shown to plugins.
    fn begin(
        &self,
        protocol: &'static str,
        mechanism: &str,
        client: IpAddr,
        tls: Option<&TlsSession>,
    ) -> Result<Box<dyn AuthExchange>, Reply>;
}

/// One AUTH exchange (RFC 4422 §3). Dropped when the client cancels.
#[async_trait]
pub trait AuthExchange: Send {
    /// Processes a response of the client; `None` only as the first step without an initial response. May call plugins
    /// (on-credentials, on-auth), wait for a password hash, and delay on purpose after a failure.
    async fn step(
        &mut self,
        pipeline: &Pipeline,
        chain: &mut HookSession,
        context: &mut Context,
        response: Option<Vec<u8>>,
    ) -> AuthProgress;
}

/// Result of one step of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthProgress {
    /// Challenge to send; the client's response follows.
    Challenge(Vec<u8>),
    /// Client authenticated. The authorisation identity may differ from the user whose password was given (RFC 4616 §2).
    Done {
        /// Authorisation identity of the session.
        user: String,
    },
    /// Exchange failed, with the final reply: 535 5.7.8, 454 4.7.0 or 501 5.5.2 (RFC 4954 §6).
    Failed(Reply),
}
