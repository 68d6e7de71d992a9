//! Transports and next hops of the address classes.

use std::collections::BTreeMap;

use crate::route::{HostPort, HostPortValue, Route, RouteValue};
use crate::section::section;
use crate::value::{MapOf, OptionalValue};

section! {
    /// Transports and next hops of the address classes.
    pub struct TransportsConfig (table, reader) {
        /// Next hop of all mail to other servers; none: the MX hosts of the recipient's domain.
        relayhost: Option<HostPort> [OptionalValue<HostPortValue>] = None;
        /// Transport for the domains of mydestination.
        local_transport: Route [RouteValue] = Route::for_transport("local");
        /// Transport for the domains of virtual_mailbox_domains.
        virtual_transport: Route [RouteValue] = Route::for_transport("virtual");
        /// Transport for the domains of relay_domains.
        relay_transport: Route [RouteValue] = Route::for_transport("relay");
        /// Transport for all other domains.
        default_transport: Route [RouteValue] = Route::for_transport("smtp");
        /// Maps an address, a domain, ".domain" (subdomains) or "*" to a route.
        transport_maps: BTreeMap<String, Route> [MapOf<RouteValue>] = BTreeMap::new();
    }
}
