//! XCLIENT (Postfix's XCLIENT_README): a proxy says for whom it speaks. Only named networks may.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use waxwing_pipeline::Client;
use waxwing_smtp::server::Answer;

use super::SessionHost;
use crate::replies;
use crate::settings::holds;

/// Octets of a value.
const VALUE_BYTES_MAX: usize = 255;
/// What stands for a value that the proxy does not have.
const UNKNOWN: [&str; 2] = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"];

/// What a proxy says of its client; none: it does not say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    address: Option<IpAddr>,
    port: Option<u16>,
    /// The inner none: the client has no name.
    name: Option<Option<String>>,
    helo: Option<Option<String>>,
    login: Option<Option<String>>,
    esmtp: Option<bool>,
}

impl SessionHost {
    /// The session begins anew, as that of another client.
    pub(super) async fn xclient(&mut self, attributes: Vec<(String, Option<String>)>) -> Answer {
        let (settings, proxy) = (&self.intake.parts.settings, self.connected.ip());
        let is_login = attributes.iter().any(|(name, value)| name.eq_ignore_ascii_case("LOGIN") && value.is_some());
        if !holds(&settings.xclient_hosts, proxy) || is_login && !holds(&settings.xclient_login_hosts, proxy) {
            tracing::warn!(target: "smtpd", "XCLIENT from {proxy} is not authorized");
            return Answer::Reply(replies::XCLIENT_DENIED);
        }
        let Some(said) = read(&attributes) else { return Answer::Reply(replies::XCLIENT_SYNTAX) };
        self.forget_client_words();
        self.chain = self.intake.parts.pipeline.chain();
        self.become_client(said);
        self.connect().await
    }

    fn become_client(&mut self, said: Said) {
        let Said { address, port, name, helo, login, esmtp } = said;
        let before = self.context.client.as_deref();
        let peer = before.map_or(self.connected, |client| client.peer);
        let peer = SocketAddr::new(address.unwrap_or_else(|| peer.ip()), port.unwrap_or_else(|| peer.port()));
        // A name belongs to an address: another address has none until one is said.
        let old = before.filter(|_| address.is_none()).and_then(|client| client.name.clone());
        let listener = before.map_or_else(|| Arc::from(""), |client| Arc::clone(&client.listener));
        self.context.client = Some(Arc::new(Client { peer, name: name.unwrap_or(old), listener }));
        self.context.helo = helo.flatten().map(Arc::from);
        self.context.user = login.flatten().map(|user| Arc::new((user, "XCLIENT".to_owned())));
        self.esmtp = esmtp.unwrap_or(false);
        tracing::info!(target: "smtpd", "{} speaks for {peer} by XCLIENT", self.connected);
    }
}

fn read(attributes: &[(String, Option<String>)]) -> Option<Said> {
    let mut said = Said::default();
    for (name, value) in attributes {
        let value = value.as_deref().filter(|value| !UNKNOWN.iter().any(|word| value.eq_ignore_ascii_case(word)));
        if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control)) {
            return None;
        }
        match (name.to_ascii_uppercase().as_str(), value) {
            ("ADDR", Some(value)) => said.address = Some(address(value)?),
            ("PORT", Some(value)) => said.port = Some(value.parse().ok()?),
            ("NAME", value) => said.name = Some(value.map(|name| name.trim_end_matches('.').to_ascii_lowercase())),
            ("HELO", value) => said.helo = Some(value.map(str::to_owned)),
            ("LOGIN", value) => said.login = Some(value.map(str::to_owned)),
            ("PROTO", Some(value)) => match value.to_ascii_uppercase().as_str() {
                "SMTP" => said.esmtp = Some(false),
                "ESMTP" => said.esmtp = Some(true),
                _ => return None,
            },
            // Where the client connected to is of no use here.
            ("ADDR" | "PORT" | "PROTO", None) | ("DESTADDR" | "DESTPORT", _) => {}
            _ => return None,
        }
    }
    Some(said)
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.get(..5).filter(|begin| begin.eq_ignore_ascii_case("IPV6:")).and_then(|_| text.get(5..));
    match bare {
        Some(v6) => v6.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    }
}
