//! Routing: transport and next hop of a recipient.

use std::sync::Arc;

use waxwing_config::{HostPort, Route, TransportsConfig};
use waxwing_pipeline::AddressClassifier;
use waxwing_types::{Address, AddressClass, NextHop};

/// Routing by `transport_maps`, address class and `relayhost`.
pub struct Router {
    classifier: Arc<dyn AddressClassifier>,
    settings: TransportsConfig,
}

/// Name of the transport for failing routes.
pub const ERROR_TRANSPORT: &str = "error";

impl Router {
    /// Creates a router from an address classifier and the routing parameters.
    #[must_use]
    pub fn new(classes: Arc<dyn AddressClassifier>, routes: TransportsConfig) -> Self {
        Self { classifier: classes, settings: routes }
    }

    /// Returns the next hop of one recipient.
    #[must_use]
    pub fn route(&self, address: &Address) -> NextHop {
        if let Some(route) = self.lookup_transport_maps(address) {
            return next_hop(route, None, address);
        }
        let relayhost = self.settings.relayhost.as_ref();
        match self.classifier.class_of(address) {
            AddressClass::Local => next_hop(&self.settings.local_transport, None, address),
            AddressClass::VirtualMailbox => next_hop(&self.settings.virtual_transport, None, address),
            AddressClass::Relay => next_hop(&self.settings.relay_transport, relayhost, address),
            AddressClass::Remote => next_hop(&self.settings.default_transport, relayhost, address),
            AddressClass::VirtualAlias if address.local().eq_ignore_ascii_case("postmaster") => {
                next_hop(&self.settings.local_transport, None, address)
            }
            AddressClass::VirtualAlias => NextHop {
                transport: ERROR_TRANSPORT.to_owned(),
                host: "5.1.1 User unknown in virtual alias table".to_owned(),
                port: None,
            },
        }
    }

    /// Completes a next hop named by a plugin. Without a host, connecting transports take the next hop of the configuration.
    #[must_use]
    pub fn complete_next_hop(&self, hop: NextHop, address: &Address) -> NextHop {
        if !hop.host.is_empty() {
            return hop;
        }
        let default = next_hop(&Route::for_transport(&hop.transport), self.settings.relayhost.as_ref(), address);
        NextHop { port: hop.port.or(default.port), ..default }
    }

    fn lookup_transport_maps(&self, address: &Address) -> Option<&Route> {
        let maps = &self.settings.transport_maps;
        if maps.is_empty() {
            return None;
        }
        let domain = address.domain();
        let parents = domain.match_indices('.').filter_map(|(at, _)| domain.get(at..));
        let exact = maps.get(&address.lookup_key()).or_else(|| maps.get(domain));
        exact.or_else(|| parents.filter_map(|parent| maps.get(parent)).next()).or_else(|| maps.get("*"))
    }
}

/// Returns the next hop of a route: its own, else the relay host, else for connecting transports the recipient's domain.
fn next_hop(route: &Route, relayhost: Option<&HostPort>, address: &Address) -> NextHop {
    let transport = route.transport.clone();
    let connects = matches!(transport.as_str(), "smtp" | "relay");
    let hop = |host: &HostPort| NextHop { transport: transport.clone(), host: host.host.clone(), port: host.port };
    match (connects, route.host_port(), relayhost) {
        (true, Some(host_port), _) => hop(&host_port),
        (true, None, Some(relayhost)) => hop(relayhost),
        (true, None, None) => NextHop { transport, host: address.domain().to_owned(), port: None },
        (false, _, _) => NextHop { transport, host: route.nexthop.clone(), port: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Classes;

    impl AddressClassifier for Classes {
        fn class_of(&self, address: &Address) -> AddressClass {
            match address.domain() {
                "local.example" => AddressClass::Local,
                "box.example" => AddressClass::VirtualMailbox,
                "alias.example" => AddressClass::VirtualAlias,
                "relay.example" => AddressClass::Relay,
                _ => AddressClass::Remote,
            }
        }
    }

    fn routes() -> TransportsConfig {
        TransportsConfig {
            transport_maps: std::collections::BTreeMap::new(),
            relayhost: None,
            local_transport: Route::for_transport("local"),
            virtual_transport: Route::for_transport("virtual"),
            relay_transport: Route::for_transport("relay"),
            default_transport: Route::for_transport("smtp"),
        }
    }

    fn route(routes: &TransportsConfig, address: &str) -> String {
        Router::new(Arc::new(Classes), routes.clone()).route(&Address::parse(address).unwrap()).to_string()
    }

    #[test]
    fn classes_maps_and_relayhost() {
        let mut r = routes();
        assert_eq!(route(&r, "a@local.example"), "local");
        assert_eq!(route(&r, "a@box.example"), "virtual");
        assert!(route(&r, "a@alias.example").starts_with("error:5.1.1"));
        assert_eq!(route(&r, "Postmaster@alias.example"), "local");
        assert_eq!(route(&r, "a@far.example"), "smtp:far.example");
        assert_eq!(route(&r, "a@relay.example"), "relay:relay.example");
        r.relayhost = Some("[10.0.0.1]:2526".parse().unwrap());
        assert_eq!(route(&r, "a@far.example"), "smtp:[10.0.0.1]:2526");
        r.transport_maps.insert(".far.example".into(), Route { transport: "smtp".into(), nexthop: "[gate]".into() });
        r.transport_maps.insert("one@far.example".into(), Route::for_transport("discard"));
        assert_eq!(route(&r, "a@x.far.example"), "smtp:[gate]");
        assert_eq!(route(&r, "a@far.example"), "smtp:[10.0.0.1]:2526");
        assert_eq!(route(&r, "One@far.example"), "discard");
        r.transport_maps.insert("*".into(), Route { transport: "plug".into(), nexthop: "x y".into() });
        assert_eq!(route(&r, "a@box.example"), "plug:x y");
    }
}
