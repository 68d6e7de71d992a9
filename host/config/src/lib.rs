//! One TOML file becomes a checked configuration, or a list of every mistake in it.
//!
//! Owns: the keys, their units and defaults; the checks; how mistakes, effective values and the reference are shown.
//! Uses: `types`.
//! Used by: `accounts`, `sandbox`, `intake`, `delivery`, `tool`, `daemon`.
//! Never: the network, a clock, the content of the files that it names.
//! Start reading at: [`Config`], whose fields are the keys; then `section.rs`, which turns them into a reader.
#![forbid(unsafe_code)]

mod check;
mod config;
mod dev;
mod facts;
mod kind;
mod listener;
mod load;
mod mistake;
mod names;
mod nearest;
mod network;
mod outbound;
mod plugin;
mod reader;
mod reference;
mod restriction;
mod route;
mod section;
mod sections;
mod session;
mod show;
mod table;
mod tls;
mod users;
mod verify;

pub use check::PLUGIN_TABLE;
pub use config::Config;
pub use dev::{DEV_CERTIFICATE, DEV_DOMAIN, DEV_USER, DevError, DevPorts};
pub use facts::Facts;
pub use listener::ListenAddress;
pub use load::{CONFIG_BYTES_MAX, LoadError};
pub use mistake::{Mistake, Mistakes, Position};
pub use network::{Network, NetworkError};
pub use plugin::{
    Addresses, BUILTIN_PLUGINS, Canary, Grants, Instance, Limits, MessageGrant, Mode, OnFault, Plugin, PluginConfig,
    PluginSource, When,
};
pub use reference::reference;
pub use restriction::{Answers, DnsList, Rule, RuleError, Subject, Test};
pub use route::{HostPort, Route, TRANSPORTS};
pub use sections::{Control, Dns, Listen, ListenKind, Log, LogLevel, Recording, Runtime, ScanRefusal, Trace};
pub use session::ForbidBareNewline;
pub use show::Shown;
pub use table::TableSpec;
pub use tls::{ClientCertificates, ListenTls, TlsProtocols};
pub use users::UserPlace;
pub use verify::TempfailAction;
