//! Parses and checks the TOML configuration file; reports all errors of the file at once.
//!
//! Owns: the keys, units and defaults; the checks; the display of errors, effective values and the reference.
//! Uses: types.
//! Used by: accounts, daemon, delivery, intake, tool.
//! Never: the network, a clock, the content of files named in the configuration.
//! Start reading at: [`Config`], whose fields are the keys; then `section.rs`, the macro that generates the reader of
//! a table.
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
