//! Extension points on the path of a message, as pure traits.
//!
//! Owns: the list of hooks, the arguments and answers of each hook, the rules that combine the answers of several plugins, the
//! consequences of a fault, the content of a trace; the traits of transports, tables, resolvers and submission.
//! Uses: message, types.
//! Used by: accounts, admin, daemon, delivery, generated, intake, milter, net, plugins, sandbox, state, tool, web. The crates sandbox and milter
//! implement [`Plugin`], intake and delivery call [`Pipeline`], the others implement the service traits.
//! Never: WebAssembly, a runtime, I/O, a clock of its own.
//! Start reading at: [`Pipeline::verdict`], then [`Context`].
#![forbid(unsafe_code)]

mod answer;
mod authenticator;
mod binding;
mod binding_table;
mod breaker;
mod context;
mod context_recipient;
mod delivery_hooks;
mod event;
mod fault;
mod hook;
mod hook_session;
mod intake_hooks;
mod lookup_hooks;
mod pipeline;
mod plugin;
mod recording;
mod services;
mod shadow;
mod submission;
mod trace;
mod user_store;

pub use answer::{
    AuthAnswer, CallOutcome, DeferralInfo, Expansion, ExpansionTarget, HookAnswer, NextTry, Placement, RecipientFate,
    RecipientOutcome, ReplyClass, Resolution, Secret, StagedChanges, StoredCredential, Symbol, TableLookup,
};
pub use authenticator::{AuthExchange, AuthProgress, Authenticator};
pub use binding::{Binding, BindingConditions, BindingMode, BindingSettings, BindingStatus, Canary, FaultPolicy, HookCounts};
pub use breaker::{BreakerSettings, BreakerState};
pub use context::{Context, EditError, HOST_TAG_PREFIX, SessionClient};
pub use context_recipient::ContextRecipient;
pub use event::{AddressRole, Event};
pub use fault::{Fault, FaultKind};
pub use hook::{Hook, HookSet};
pub use hook_session::HookSession;
pub use intake_hooks::ResolvedRecipient;
pub use pipeline::{Pipeline, Rejected};
pub use plugin::{Plugin, PluginSession};
pub use recording::{REDACTED, RecordedBody, Recorder, Recording};
pub use services::{
    AddressClassifier, AddressProbe, DeliveryResult, DnsError, DnsRecords, EventSink, FinalDsnAction, HttpClient, HttpError,
    HttpRequest, HttpResponse, KvEntry, KvError, KvStore, Metrics, MxHost, PreparedMessage, RecipientDirectory, Resolver, Submit,
    Table, TableError, Trace, Transport,
};
pub use submission::{InternalMessage, SUBMISSION_DEPTH_MAX, SUBMISSIONS_MAX, SUBMITTED_BY_TAG, Submission, SubmitError};
pub use trace::{TRACE_ENTRIES_MAX, TraceEntry, TraceRecord};
pub use user_store::{SCRAM_SCHEME, UserChange, UserStore, UserStoreError};
