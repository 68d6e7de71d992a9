//! DNS resolver of the HTTP client. Only permitted addresses are returned, so that every connection goes to a checked address.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use waxwing_pipeline::Resolver;

use crate::address::{Reach, reach};

/// Host name without a permitted address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} has no permitted address; private addresses need the keyword private in the grant")]
pub(crate) struct Unreachable {
    host: String,
}

/// DNS resolver with a filter by address scope.
pub(crate) struct Checked {
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Minimum scope of permitted addresses.
    pub(crate) least: Reach,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, least) = (Arc::clone(&self.resolver), self.least);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses = resolver.addresses(&host).await?;
            // The HTTP client sets the port of the URL.
            let fit = addresses.into_iter().filter(|address| reach(*address) >= least);
            let fit: Vec<SocketAddr> = fit.map(|address| SocketAddr::new(address, 0)).collect();
            if fit.is_empty() {
                return Err(Unreachable { host }.into());
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}
