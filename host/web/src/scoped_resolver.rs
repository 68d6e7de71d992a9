//! DNS resolver of the HTTP client. Only permitted addresses are returned, so that every connection goes to a checked address.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use waxwing_pipeline::Resolver;

use crate::address_scope::{AddressScope, address_scope};

/// Host name without a permitted address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host} has no permitted address; private addresses need the keyword private in the grant")]
pub(crate) struct NoPermittedAddress {
    host: String,
}

/// DNS resolver with a filter by address scope.
pub(crate) struct ScopedResolver {
    pub(crate) resolver: Arc<dyn Resolver>,
    /// Minimum scope of permitted addresses.
    pub(crate) scope_min: AddressScope,
}

impl Resolve for ScopedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, least) = (Arc::clone(&self.resolver), self.scope_min);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let addresses = resolver.addresses(&host).await?;
            // The HTTP client sets the port of the URL.
            let fit = addresses.into_iter().filter(|address| address_scope(*address) >= least);
            let fit: Vec<SocketAddr> = fit.map(|address| SocketAddr::new(address, 0)).collect();
            if fit.is_empty() {
                return Err(NoPermittedAddress { host }.into());
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}
