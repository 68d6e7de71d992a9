//! The macros that milters know from Sendmail: what is known here, by name and by stage.

use std::net::IpAddr;

use bytes::Bytes;
use waxwing_pipeline::{Context, ContextRecipient};
use waxwing_types::{Address, ReversePath};

use crate::codec::{Stage, Terms};

/// What a milter that names none is sent.
fn usual(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Connect => &["j", "v", "_", "daemon_name", "client_addr", "client_name", "client_port", "client_ptr"],
        Stage::Helo => &["tls_version", "cipher"],
        Stage::Mail => &["i", "auth_type", "auth_authen", "mail_addr", "mail_host"],
        Stage::Rcpt => &["i", "rcpt_addr", "rcpt_host"],
        Stage::Data | Stage::EndOfHeader | Stage::EndOfMessage => &["i"],
    }
}

/// Names and values for a stage; what is not known is left out.
pub(crate) fn macros(
    stage: Stage,
    terms: &Terms,
    hostname: &str,
    context: &Context,
    recipient: Option<&ContextRecipient>,
) -> Vec<(Bytes, Bytes)> {
    let known = |name: &str| {
        let value = value(name, hostname, context, recipient)?;
        // One letter stands alone, a word in braces.
        let name = if name.len() == 1 { name.to_owned() } else { format!("{{{name}}}") };
        Some((Bytes::from(name), Bytes::from(value)))
    };
    match terms.macros.iter().find(|(of, _)| *of == stage) {
        Some((_, names)) => names.iter().filter_map(|name| known(name.trim_matches(['{', '}']))).collect(),
        None => usual(stage).iter().filter_map(|name| known(name)).collect(),
    }
}

fn value(name: &str, hostname: &str, context: &Context, recipient: Option<&ContextRecipient>) -> Option<String> {
    let client = context.client.as_deref();
    let sender = || match context.sender.as_deref() {
        Some(ReversePath::Of(address)) => Some(address),
        Some(ReversePath::Null) | None => None,
    };
    let host = |address: &Address| address.domain().to_owned();
    match name {
        "j" => Some(hostname.to_owned()),
        "v" => Some(concat!("Waxwing ", env!("CARGO_PKG_VERSION")).to_owned()),
        "_" => Some(format!("{} [{}]", client_name(context), client_address(context))),
        "daemon_name" => Some(client.map_or_else(|| context.via.as_str().to_owned(), |client| client.listener.to_string())),
        "client_addr" => Some(client_address(context).to_string()),
        "client_name" => Some(client_name(context).to_owned()),
        "client_ptr" => Some(client_name(context).to_owned()),
        "client_port" => Some(client.map_or(0, |client| client.peer.port()).to_string()),
        "i" => context.id.map(|id| id.to_string()),
        "tls_version" => context.tls.as_ref().map(|tls| tls.version.clone()),
        "cipher" => context.tls.as_ref().map(|tls| tls.cipher.clone()),
        "auth_authen" => context.user.as_ref().map(|user| user.0.clone()),
        "auth_type" => context.user.as_ref().map(|user| user.1.clone()),
        "mail_addr" => context.sender.as_ref().map(|sender| sender.to_string()),
        "mail_host" => sender().map(host),
        "rcpt_addr" => recipient.map(|recipient| recipient.recipient.address.to_string()),
        "rcpt_host" => recipient.map(|recipient| host(&recipient.recipient.address)),
        _ => None,
    }
}

/// As Postfix says it where there is no name; mail that is made here comes from this machine.
pub(crate) fn client_name(context: &Context) -> &str {
    match context.client.as_deref() {
        Some(client) => client.name.as_deref().unwrap_or("unknown"),
        None => "localhost",
    }
}

pub(crate) fn client_address(context: &Context) -> IpAddr {
    context.client.as_ref().map_or(IpAddr::from([127, 0, 0, 1]), |client| client.peer.ip().to_canonical())
}
