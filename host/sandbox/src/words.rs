//! Conversion of pipeline types to WIT types, for the arguments of hooks.

use waxwing_bindings::exports::{on_auth, on_outcome, on_retry};
use waxwing_bindings::imports::types as wit;
use waxwing_pipeline::{ContextRecipient, Failure, Fate, Role, Secret, Symbol};
use waxwing_types::{Address, AddressClass, Notify, Reply, ReversePath, Via};

pub(crate) fn address(address: &Address) -> wit::Address {
    wit::Address { local: address.local().to_owned(), domain: address.domain().to_owned() }
}

pub(crate) fn reverse_path(path: &ReversePath) -> wit::ReversePath {
    path.address().map(address)
}

pub(crate) fn recipient(recipient: &ContextRecipient) -> wit::Recipient {
    wit::Recipient {
        index: recipient.index,
        address: address(&recipient.recipient.address),
        original: recipient.recipient.original.clone(),
        notify: notify(recipient.recipient.notify),
        class: class(recipient.class),
    }
}

pub(crate) fn reply(reply: &Reply) -> wit::Reply {
    let enhanced = reply.enhanced().map(|code| code.to_string());
    wit::Reply { code: reply.code(), enhanced, text: reply.text().to_owned() }
}

pub(crate) fn symbol(symbol: &Symbol) -> wit::Symbol {
    wit::Symbol { name: symbol.name.clone(), score: symbol.score, detail: symbol.detail.clone() }
}

/// Converts NOTIFY (RFC 3461 §4.1); empty flags mean a client without the parameter.
fn notify(notify: Notify) -> wit::Notify {
    let flag = |on: bool, flag: wit::Notify| if on { flag } else { wit::Notify::empty() };
    match notify {
        Notify::Default => wit::Notify::empty(),
        Notify::Never => wit::Notify::NEVER,
        Notify::On { success, failure, delay } => {
            flag(success, wit::Notify::SUCCESS) | flag(failure, wit::Notify::FAILURE) | flag(delay, wit::Notify::DELAY)
        }
    }
}

fn class(class: AddressClass) -> wit::AddressClass {
    match class {
        AddressClass::Local => wit::AddressClass::Local,
        AddressClass::VirtualAlias => wit::AddressClass::VirtualAlias,
        AddressClass::VirtualMailbox => wit::AddressClass::VirtualMailbox,
        AddressClass::Relay => wit::AddressClass::Relay,
        AddressClass::Default => wit::AddressClass::Remote,
    }
}

pub(crate) fn source(via: Via) -> wit::Source {
    match via {
        Via::Smtp => wit::Source::Smtp,
        Via::Submission => wit::Source::Submission,
        Via::Lmtp => wit::Source::Lmtp,
        Via::Pickup => wit::Source::Pickup,
        Via::Forward => wit::Source::Forward,
        Via::Dsn => wit::Source::Dsn,
        Via::Api => wit::Source::Api,
    }
}

pub(crate) fn role(role: Role) -> waxwing_bindings::exports::on_rewrite_address::Role {
    use waxwing_bindings::exports::on_rewrite_address::Role as Wit;
    match role {
        Role::EnvelopeSender => Wit::EnvelopeSender,
        Role::EnvelopeRecipient => Wit::EnvelopeRecipient,
        Role::HeaderSender => Wit::HeaderSender,
        Role::HeaderRecipient => Wit::HeaderRecipient,
    }
}

pub(crate) fn secret(secret: &Secret) -> on_auth::Secret {
    match secret {
        Secret::Password(text) => on_auth::Secret::Password(text.clone()),
        Secret::Token(text) => on_auth::Secret::Token(text.clone()),
    }
}

pub(crate) fn fate(fate: Fate) -> on_outcome::Fate {
    match fate {
        Fate::Delivered => on_outcome::Fate::Delivered,
        Fate::Deferred => on_outcome::Fate::Deferred,
        Fate::Failed => on_outcome::Fate::Failed,
        Fate::Expired => on_outcome::Fate::Expired,
    }
}

pub(crate) fn failure(failure: &Failure) -> on_retry::Failure {
    on_retry::Failure {
        attempt: failure.attempt,
        age_seconds: u32::try_from(failure.age.as_secs()).unwrap_or(u32::MAX),
        destination: failure.destination.clone(),
        status: failure.status.clone(),
        text: failure.text.clone(),
    }
}
