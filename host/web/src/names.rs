//! Names to addresses, for connections: only those that may be reached are handed on, so that what was checked is what is connected to.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use waxwing_pipeline::Resolver;

use crate::address::{Reach, reach};

/// A name led to addresses that may not be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} has no address that may be reached: a private one must be allowed by the word private in the grant")]
pub(crate) struct Unreachable {
    host: String,
}

/// The resolver of a client.
pub(crate) struct Checked {
    pub(crate) resolver: Arc<dyn Resolver>,
    /// The least reach that is connected to.
    pub(crate) least: Reach,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, least) = (Arc::clone(&self.resolver), self.least);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses = resolver.addresses(&host).await?;
            // The port is that of the URL.
            let fit = addresses.into_iter().filter(|address| reach(*address) >= least);
            let fit: Vec<SocketAddr> = fit.map(|address| SocketAddr::new(address, 0)).collect();
            if fit.is_empty() {
                return Err(Unreachable { host }.into());
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}
