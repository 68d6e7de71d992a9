//! Conversion of pipeline types to WIT types, for the arguments of hooks.

use waxwing_bindings::exports::{on_auth, on_outcome, on_retry};
use waxwing_bindings::imports::types as wit;
use waxwing_pipeline::{AddressRole, ContextRecipient, DeferralInfo, RecipientFate, Secret, Symbol};
use waxwing_types::{Address, AddressClass, Notify, Reply, ReversePath, Source};

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
        class: address_class(recipient.class),
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

fn address_class(class: AddressClass) -> wit::AddressClass {
    match class {
        AddressClass::Local => wit::AddressClass::Local,
        AddressClass::VirtualAlias => wit::AddressClass::VirtualAlias,
        AddressClass::VirtualMailbox => wit::AddressClass::VirtualMailbox,
        AddressClass::Relay => wit::AddressClass::Relay,
        AddressClass::Remote => wit::AddressClass::Remote,
    }
}

pub(crate) fn source(source: Source) -> wit::Source {
    match source {
        Source::Smtp => wit::Source::Smtp,
        Source::Submission => wit::Source::Submission,
        Source::Lmtp => wit::Source::Lmtp,
        Source::Pickup => wit::Source::Pickup,
        Source::Forward => wit::Source::Forward,
        Source::Dsn => wit::Source::Dsn,
        Source::Api => wit::Source::Api,
    }
}

pub(crate) fn role(role: AddressRole) -> waxwing_bindings::exports::on_rewrite_address::Role {
    use waxwing_bindings::exports::on_rewrite_address::Role as Wit;
    match role {
        AddressRole::EnvelopeSender => Wit::EnvelopeSender,
        AddressRole::EnvelopeRecipient => Wit::EnvelopeRecipient,
        AddressRole::HeaderSender => Wit::HeaderSender,
        AddressRole::HeaderRecipient => Wit::HeaderRecipient,
    }
}

pub(crate) fn secret(secret: &Secret) -> on_auth::Secret {
    match secret {
        Secret::Password(text) => on_auth::Secret::Password(text.clone()),
        Secret::Token(text) => on_auth::Secret::Token(text.clone()),
    }
}

pub(crate) fn fate(fate: RecipientFate) -> on_outcome::Fate {
    match fate {
        RecipientFate::Delivered => on_outcome::Fate::Delivered,
        RecipientFate::Deferred => on_outcome::Fate::Deferred,
        RecipientFate::Failed => on_outcome::Fate::Failed,
        RecipientFate::Expired => on_outcome::Fate::Expired,
    }
}

pub(crate) fn deferral_info(failure: &DeferralInfo) -> on_retry::Failure {
    on_retry::Failure {
        attempt: failure.attempt,
        age_seconds: u32::try_from(failure.age.as_secs()).unwrap_or(u32::MAX),
        destination: failure.destination.clone(),
        status: failure.status.clone(),
        text: failure.text.clone(),
    }
}
