//! XCLIENT (Postfix XCLIENT_README): an authorized proxy passes the attributes of the real client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use waxwing_pipeline::SessionClient;
use waxwing_smtp::server::StepAnswer;

use super::SmtpSessionHandler;
use crate::replies;
use crate::settings::contains_address;

/// Maximum bytes of an attribute value.
const VALUE_BYTES_MAX: usize = 255;
/// Attribute values without information.
const UNAVAILABLE_VALUES: [&str; 2] = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"];

/// XCLIENT attributes sent by the proxy; `None` for absent attributes.
#[derive(Debug, Default, PartialEq, Eq)]
struct XclientAttributes {
    address: Option<IpAddr>,
    port: Option<u16>,
    /// `Some(None)`: the client has no name.
    name: Option<Option<String>>,
    helo: Option<Option<String>>,
    login: Option<Option<String>>,
    esmtp: Option<bool>,
}

impl SmtpSessionHandler {
    /// Restarts the session with the attributes of another client.
    pub(super) async fn xclient(&mut self, attributes: Vec<(String, Option<String>)>) -> StepAnswer {
        let (settings, proxy) = (&self.intake.services.settings, self.connection_peer.ip());
        let is_login = attributes.iter().any(|(name, value)| name.eq_ignore_ascii_case("LOGIN") && value.is_some());
        if !contains_address(&settings.xclient_hosts, proxy)
            || is_login && !contains_address(&settings.xclient_login_hosts, proxy)
        {
            tracing::warn!(target: "smtpd", "XCLIENT: {proxy} is not authorized");
            return StepAnswer::Reply(replies::XCLIENT_DENIED);
        }
        let Some(attributes) = parse_attributes(&attributes) else { return StepAnswer::Reply(replies::XCLIENT_SYNTAX) };
        self.reset_client_state();
        self.hooks = self.intake.services.pipeline.open_session();
        self.apply_xclient(attributes);
        self.connect().await
    }

    fn apply_xclient(&mut self, attributes: XclientAttributes) {
        let XclientAttributes { address, port, name, helo, login, esmtp } = attributes;
        let before = self.context.client.as_deref();
        let peer = before.map_or(self.connection_peer, |client| client.peer);
        let peer = SocketAddr::new(address.unwrap_or_else(|| peer.ip()), port.unwrap_or_else(|| peer.port()));
        // A new address invalidates the old name, unless NAME is sent too.
        let old = before.filter(|_| address.is_none()).and_then(|client| client.name.clone());
        let listener = before.map_or_else(|| Arc::from(""), |client| Arc::clone(&client.listener));
        self.context.client = Some(Arc::new(SessionClient { peer, name: name.unwrap_or(old), listener }));
        self.context.helo = helo.flatten().map(Arc::from);
        self.context.user = login.flatten().map(|user| Arc::new((user, "XCLIENT".to_owned())));
        self.context.esmtp = esmtp.unwrap_or(false);
        tracing::info!(target: "smtpd", "XCLIENT: {} → client {peer}", self.connection_peer);
    }
}

fn parse_attributes(attributes: &[(String, Option<String>)]) -> Option<XclientAttributes> {
    let mut parsed = XclientAttributes::default();
    for (name, value) in attributes {
        let value =
            value.as_deref().filter(|value| !UNAVAILABLE_VALUES.iter().any(|unknown| value.eq_ignore_ascii_case(unknown)));
        if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control)) {
            return None;
        }
        match (name.to_ascii_uppercase().as_str(), value) {
            ("ADDR", Some(value)) => parsed.address = Some(parse_address(value)?),
            ("PORT", Some(value)) => parsed.port = Some(value.parse().ok()?),
            ("NAME", value) => parsed.name = Some(value.map(|name| name.trim_end_matches('.').to_ascii_lowercase())),
            ("HELO", value) => parsed.helo = Some(value.map(str::to_owned)),
            ("LOGIN", value) => parsed.login = Some(value.map(str::to_owned)),
            ("PROTO", Some(value)) => match value.to_ascii_uppercase().as_str() {
                "SMTP" => parsed.esmtp = Some(false),
                "ESMTP" => parsed.esmtp = Some(true),
                _ => return None,
            },
            // Destination address and port have no use in intake.
            ("ADDR" | "PORT" | "PROTO", None) | ("DESTADDR" | "DESTPORT", _) => {}
            _ => return None,
        }
    }
    Some(parsed)
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let ipv6 = text.get(..5).filter(|begin| begin.eq_ignore_ascii_case("IPV6:")).and_then(|_| text.get(5..));
    match ipv6 {
        Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    }
}
