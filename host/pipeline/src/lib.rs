//! Extension points on the path of a message, as pure traits.
//!
//! Owns: the list of hooks, the arguments and answers of each hook, the rules that combine the answers of several plugins, the
//! consequences of a fault, the content of a trace; the traits of transports, tables, resolvers and submission.
//! Uses: message, types.
//! Used by: accounts, daemon, delivery, intake, milter, net, queue, sandbox, state, tool, web. The crates sandbox and milter
//! implement [`Plugin`], intake and delivery call [`Pipeline`], the others implement the service traits.
//! Never: WebAssembly, a runtime, I/O, a clock of its own.
//! Start reading at: [`Pipeline::verdict`], then [`Context`].
#![forbid(unsafe_code)]

mod access;
mod answer;
mod authenticator;
mod binding;
mod breaker;
mod chain;
mod context;
mod event;
mod fold;
mod hook;
mod outbound;
mod pipeline;
mod plugin;
mod ports;
mod recording;
mod shadow;
mod table;
mod trace;
mod users;

pub use answer::{
    Answer, AuthAnswer, Changes, Expansion, Failure, Fate, Found, NextTry, Outcome, Placement, RecipientOutcome, ReplyClass,
    Resolution, Secret, Stored, Submission, Symbol, Target,
};
pub use authenticator::{AuthExchange, AuthProgress, Authenticator};
pub use binding::{Binding, BindingSettings, BindingStatus, Canary, HookCount, Mode, OnFault, When};
pub use breaker::{BreakerSettings, BreakerState};
pub use chain::Chain;
pub use context::{AUTHORS_MAX, AUTHORS_TAG, Client, Context, ContextRecipient, EditError, HOST_TAGS};
pub use event::{Event, Role};
pub use fold::Resolved;
pub use hook::{Hook, HookSet};
pub use pipeline::{Ended, Pipeline};
pub use plugin::{Fault, FaultKind, Guest, Plugin};
pub use ports::{
    ClassOf, Directory, DnsError, Events, Generated, Handed, HttpError, HttpRequest, HttpResponse, KvError, KvPair, KvStore,
    Metrics, MxHost, Prepared, Probe, Reached, Records, Resolver, SUBMISSIONS_MAX, Submit, SubmitError, Table, TableError, Trace,
    Transport, Web,
};
pub use recording::{REDACTED, RecordedBody, Recorder, Recording};
pub use trace::{TRACE_ENTRIES_MAX, TraceEntry, TraceRecord};
pub use users::{SCRAM_SCHEME, UserChange, UserStore, UserStoreError};
