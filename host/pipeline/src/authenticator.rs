//! What a session needs to know who its client is.

use std::net::IpAddr;

use async_trait::async_trait;
use waxwing_types::{Reply, TlsSession};

use crate::{Chain, Context, Pipeline};

/// Checks names and secrets.
pub trait Authenticator: Send + Sync {
    /// The SASL mechanisms that a client may use, the best first; none: AUTH is not offered. `tls`: the connection is encrypted.
    fn mechanisms(&self, client: IpAddr, tls: bool) -> Vec<String>;

    /// Begins an exchange. The refusal is for a mechanism that is not offered, or for a client with too many failures behind it.
    fn begin(&self, mechanism: &str, client: IpAddr, tls: Option<&TlsSession>) -> Result<Box<dyn AuthExchange>, Reply>;
}

/// One AUTH exchange (RFC 4422 §3). Dropped when the client gives up.
#[async_trait]
pub trait AuthExchange: Send {
    /// Takes the client's response; `None` only at first, if it sent no initial response. May ask plugins (on-credentials, on-auth), wait
    /// for a hash to be computed, and wait on purpose after a failure.
    async fn step(
        &mut self,
        pipeline: &Pipeline,
        chain: &mut Chain,
        context: &mut Context,
        response: Option<Vec<u8>>,
    ) -> AuthProgress;
}

/// What follows a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthProgress {
    /// Send this, and take the response.
    Challenge(Vec<u8>),
    /// The client is this user, who may be another than the one whose password it was (RFC 4616 §2).
    Done {
        /// The authorisation identity.
        user: String,
    },
    /// 535 5.7.8, 454 4.7.0, 501 5.5.2: over.
    Failed(Reply),
}
