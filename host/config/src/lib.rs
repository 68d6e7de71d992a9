//! Parses and checks the TOML configuration file; reports all errors of the file at once.
//!
//! Owns: the keys, units and defaults; the checks; the display of errors, effective values and the reference.
//! Uses: types.
//! Used by: accounts, admin, daemon, delivery, intake, logging, net, plugins, smtp, state, tool.
//! Never: the network, a clock, the content of files named in the configuration.
//! Start reading at: [`Config`], whose fields are the keys; then `section.rs`, the macro that generates the reader of
//! a table.
#![forbid(unsafe_code)]

mod address_verify;
mod bare_newline;
mod check;
mod config;
mod dev;
mod diagnostic;
mod environment;
mod groups;
mod listener;
mod load;
mod network;
mod plugin;
mod postfix_hints;
mod reader;
mod reference;
mod restriction;
mod route;
mod section;
mod server_tables;
mod show;
mod suggestion;
mod table;
mod tls;
mod tls_level;
mod user_source;
mod value;

pub use address_verify::TempfailAction;
pub use bare_newline::ForbidBareNewline;
pub use check::PLUGIN_TABLE_PREFIX;
pub use config::Config;
pub use dev::{DEV_CERTIFICATE, DEV_DOMAIN, DEV_USER, DevError, DevPorts};
pub use diagnostic::{Diagnostic, Diagnostics, Position};
pub use environment::HostEnvironment;
pub use groups::{
    AddressVerifyConfig, AuthConfig, DomainsConfig, GeneralConfig, GuardConfig, PolicyConfig, QueueConfig, SmtpConfig,
    SmtpdConfig, TlsConfig, TransportsConfig,
};
pub use listener::ListenAddress;
pub use load::{CONFIG_BYTES_MAX, ConfigError};
pub use network::{Network, NetworkError};
pub use plugin::{
    BUILTIN_PLUGINS, CanaryConfig, ConditionsConfig, GrantsConfig, InstanceConfig, LimitsConfig, MessageGrantConfig, ModeConfig,
    OnFaultConfig, PluginConfig, PluginOptions, PluginSource, RewriteScope,
};
pub use reference::reference_toml;
pub use restriction::{DnsList, DnsblFilter, Restriction, RestrictionError, RestrictionKind, RestrictionSubject};
pub use route::{BUILTIN_TRANSPORTS, HostPort, Route};
pub use server_tables::{
    ControlConfig, DnsConfig, ListenerConfig, ListenerKind, LogConfig, LogLevel, RecordingConfig, RuntimeConfig,
    ScanRejectAction, TraceConfig,
};
pub use show::Visibility;
pub use table::TableSpec;
pub use tls::{ClientCertificateMode, ListenerTlsMode, TlsProtocols};
pub use user_source::UserSourceConfig;
