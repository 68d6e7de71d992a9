//! Host imports: one file for each interface of the contract, linked only if granted.

mod action;
mod clock_random;
mod config_log_metrics;
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

use crate::linking::HostInterface;
use crate::state::InstanceState;

/// Links one interface for a component.
pub(crate) fn link(linker: &mut Linker<InstanceState>, interface: HostInterface) -> wasmtime::Result<()> {
    match interface {
        HostInterface::Log => wit::log::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Config => wit::config::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Transaction => wit::transaction::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Metrics => wit::metrics::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Action => wit::action::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Message => wit::message::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Content => wit::content::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Edit => wit::edit::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Lookup => wit::lookup::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Kv => wit::kv::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Dns => wit::dns::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Http => wit::http::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Submit => wit::submit::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Clock => wit::clock::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
        HostInterface::Random => wit::random::add_to_linker::<InstanceState, HasSelf<InstanceState>>(linker, |s| s),
    }
}

/// The interface `types` has no functions.
impl wit::types::Host for InstanceState {}
