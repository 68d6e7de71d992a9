//! Runs plugins: a component goes in, a [`Plugin`](waxwing_pipeline::Plugin) comes out.
//!
//! Owns: the wasmtime engine and its pool, the compile cache, what a plugin may import, the limits of time and memory, the
//! lives of instances, what a call stages, the words of load errors and faults.
//! Uses: bindings, pipeline, message, types.
//! Used by: daemon (loads), tool (looks), tests.
//! Never: decides about mail, applies an edit, knows a transport.
//! Start reading at: [`Sandbox`], then `plugin.rs`, then `live.rs`.
#![deny(unsafe_code)]

mod answer;
mod cache;
mod check;
mod denied;
mod engine;
mod error;
mod gate;
mod guest;
mod hooks;
mod host;
mod inspect;
mod lane;
mod live;
mod meter;
mod more;
mod plugin;
mod rules;
mod settings;
mod state;
mod ticker;
mod wasi;
mod words;

pub use engine::{Sandbox, SandboxSettings};
pub use error::LoadError;
pub use inspect::{Inspection, inspect};
pub use meter::{Meter, Metered};
pub use plugin::{Compiled, WasmPlugin};
pub use rules::{Act, reference};
pub use settings::{Grants, InstanceMode, Limits, MessageGrant, NewId, PluginSettings, Ports};
