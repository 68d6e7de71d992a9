//! The extension points of a message's way, as pure traits.
//!
//! Owns: which hooks there are, what a hook sees and may answer, how the verdicts of several plugins fold into one, what a
//! fault does, what a trace says; the traits of transports, tables, resolvers and submission.
//! Uses: types, message.
//! Used by: sandbox (implements [`Plugin`]), intake and delivery (call [`Pipeline`]), net and accounts (implement ports).
//! Never: WebAssembly, a runtime, I/O, a clock of its own.
//! Start reading at: [`Pipeline::verdict`], then [`Context`].
#![forbid(unsafe_code)]

mod binding;
mod chain;
mod context;
mod hook;
mod pipeline;
mod ports;
mod trace;

pub use binding::{Binding, BindingStatus, HookCount, Mode, OnFault, When};
pub use chain::Chain;
pub use context::{Client, Context, ContextRecipient, EditError};
pub use hook::{
    Answer, Changes, Event, Expansion, Fault, FaultKind, Guest, Hook, HookSet, Outcome, Plugin, Resolution, Role, Target,
};
pub use pipeline::{Pipeline, Resolved, RewriteError};
pub use ports::{
    ClassOf, Directory, DnsError, Generated, Handed, MxHost, Prepared, Resolver, Submit, SubmitError, Table, TableError, Trace,
    Transport,
};
pub use trace::{TRACE_ENTRIES_MAX, TraceEntry, TraceRecord};
