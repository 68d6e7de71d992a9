//! Plugin sandbox: loads WebAssembly components and runs them as [`Plugin`](waxwing_pipeline::Plugin)s.
//!
//! Owns: the wasmtime engine and the instance pool, the compile cache, the import check, limits of time and memory, the life
//! cycle of instances, the changes staged by a call, the texts of load errors and faults.
//! Uses: bindings, message, pipeline, types.
//! Used by: daemon, plugins, tool. The crate plugins loads components, tool inspects and tests them.
//! Never: decides about mail, applies an edit, knows a transport.
//! Start reading at: [`Sandbox`], then `plugin.rs`, then `instance.rs`.
#![deny(unsafe_code)]

mod cache;
mod engine;
mod error;
mod executor;
mod from_wit;
mod from_wit_other;
mod hooks;
mod imports;
mod inspect;
mod instance;
mod limiter;
mod linking;
mod meter;
mod permissions;
mod plugin;
mod session;
mod settings;
mod state;
mod ticker;
mod to_wit;
mod wasi;
mod wasi_deny;

pub use engine::{Sandbox, SandboxSettings};
pub use error::PluginLoadError;
pub use inspect::{Inspection, inspect};
pub use meter::{Meter, MeteredCall};
pub use permissions::{Operation, permission_table};
pub use plugin::{CompiledPlugin, WasmPlugin};
pub use settings::{HostServices, InstanceMode, MessageAccess, NewQueueId, PluginGrants, PluginLimits, PluginSettings};
