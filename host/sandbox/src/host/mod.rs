//! Host imports: one file for each interface of the contract, linked only if granted.

mod action;
mod clock;
mod config;
mod content;
mod dns;
mod edit;
mod http;
mod kv;
mod lookup;
mod message;
mod payload;
mod submit;
mod transaction;

use wasmtime::component::{HasSelf, Linker};
use waxwing_bindings::imports as wit;

use crate::check::Interface;
use crate::state::State;

/// Links one interface for a component.
pub(crate) fn link(linker: &mut Linker<State>, interface: Interface) -> wasmtime::Result<()> {
    match interface {
        Interface::Log => wit::log::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Config => wit::config::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Transaction => wit::transaction::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Metrics => wit::metrics::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Action => wit::action::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Message => wit::message::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Content => wit::content::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Edit => wit::edit::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Lookup => wit::lookup::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Kv => wit::kv::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Dns => wit::dns::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Http => wit::http::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Submit => wit::submit::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Clock => wit::clock::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
        Interface::Random => wit::random::add_to_linker::<State, HasSelf<State>>(linker, |s| s),
    }
}

/// The interface `types` has no functions.
impl wit::types::Host for State {}
