//! Plugin sandbox: loads WebAssembly components and runs them as [`Plugin`](waxwing_pipeline::Plugin)s.
//!
//! Owns: the wasmtime engine and the instance pool, the compile cache, the import check, limits of time and memory, the life
//! cycle of instances, the changes staged by a call, the texts of load errors and faults.
//! Uses: bindings, message, pipeline, types.
//! Used by: daemon, tool. The daemon loads plugins, tool inspects and tests plugins.
//! Never: decides about mail, applies an edit, knows a transport.
//! Start reading at: [`Sandbox`], then `plugin.rs`, then `instance.rs`.
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
