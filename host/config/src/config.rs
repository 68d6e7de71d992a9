//! The configuration: each field is a key, and the documentation of the field describes the key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::HostEnvironment;
use crate::diagnostic::Position;
use crate::groups::{
    AddressVerifyConfig, AuthConfig, DomainsConfig, GeneralConfig, GuardConfig, PolicyConfig, QueueConfig, SmtpConfig,
    SmtpdConfig, TlsConfig, TransportsConfig,
};
use crate::plugin::{PluginConfig, PluginsValue};
use crate::reader::{ConfigReader, KeySpans};
use crate::restriction::Restriction;
use crate::section::{KeyInfo, Keys, section};
use crate::server_tables::{ControlConfig, DnsConfig, ListenerConfig, LogConfig, RecordingConfig, RuntimeConfig, TraceConfig};
use crate::table::{TableSpec, TableSpecList};
use crate::value::{ListOf, MapOf, TableValue, default_section};

section! {
    /// Checked configuration: groups of top-level keys for the parts of the server, and tables. The names of the keys are
    /// those of Postfix where Postfix has one.
    pub struct Config (table, reader) {
        /// Listeners for SMTP and LMTP.
        listen: Vec<ListenerConfig> [ListOf<TableValue<ListenerConfig>>] = default_listeners();
        /// Control socket for commands to a running server.
        control: ControlConfig [TableValue<ControlConfig>] = default_section("control", reader);
        /// DNS lookups and name servers.
        dns: DnsConfig [TableValue<DnsConfig>] = default_section("dns", reader);
        /// Log level and log file.
        log: LogConfig [TableValue<LogConfig>] = default_section("log", reader);
        /// Worker threads of the server.
        runtime: RuntimeConfig [TableValue<RuntimeConfig>] = default_section("runtime", reader);
        /// Traces of transactions for `waxwing trace`.
        trace: TraceConfig [TableValue<TraceConfig>] = default_section("trace", reader);
        /// Recordings of client input for `waxwing replay`; off by default.
        recording: RecordingConfig [TableValue<RecordingConfig>] = default_section("recording", reader);
        /// Tables for lookups by plugins, in addition to the ..._maps keys above.
        tables: BTreeMap<String, Vec<TableSpec>> [MapOf<TableSpecList>] = BTreeMap::new();
        /// Plugins by name, sorted by order; cleanup and aliases are built in and enabled by default.
        plugins: Vec<PluginConfig> [PluginsValue] = PluginsValue::builtin_defaults(reader);
    }
    extra {
        /// Names, networks and directories of the server.
        pub general: GeneralConfig = GeneralConfig::read(table, reader);
        /// Address classes: domains, their tables and mailboxes.
        pub domains: DomainsConfig = DomainsConfig::read(table, reader, &general);
        /// Limits and extensions of SMTP and LMTP server sessions.
        pub smtpd: SmtpdConfig = SmtpdConfig::read(table, reader);
        /// Limits per client: rates, slow clients and memory.
        pub guard: GuardConfig = GuardConfig::read(table, reader, &general);
        /// Restrictions on clients, senders and recipients, and policy services.
        pub policy: PolicyConfig = PolicyConfig::read(table, reader);
        /// Address verification by probes (`reject_unverified_recipient`, `reject_unverified_sender`).
        pub verify: AddressVerifyConfig = AddressVerifyConfig::read(table, reader);
        /// Transports and next hops of the address classes.
        pub transports: TransportsConfig = TransportsConfig::read(table, reader);
        /// Retry schedule and limits of the queue and of DSNs.
        pub queue: QueueConfig = QueueConfig::read(table, reader, &smtpd);
        /// Time-outs and TLS of the SMTP client.
        pub smtp: SmtpConfig = SmtpConfig::read(table, reader, &general);
        /// Users, password records and logins.
        pub auth: AuthConfig = AuthConfig::read(table, reader);
        /// Certificates and handshakes of the listeners.
        pub tls: TlsConfig = TlsConfig::read(table, reader);
        /// Source span of each key.
        pub(crate) key_spans: KeySpans = KeySpans::default();
    }
}

/// Top-level keys by group, in the order of the reference; the tables of the file come last.
pub(crate) const KEY_GROUPS: [&[KeyInfo]; 12] = [
    GeneralConfig::KEYS,
    DomainsConfig::KEYS,
    SmtpdConfig::KEYS,
    GuardConfig::KEYS,
    PolicyConfig::KEYS,
    AddressVerifyConfig::KEYS,
    TransportsConfig::KEYS,
    QueueConfig::KEYS,
    SmtpConfig::KEYS,
    AuthConfig::KEYS,
    TlsConfig::KEYS,
    Config::KEYS,
];

impl Config {
    /// Returns the values of an empty file on a host named "localhost" without `/etc/aliases`.
    #[must_use]
    pub fn with_defaults() -> Self {
        let environment = HostEnvironment { hostname: "localhost".to_owned(), is_root: false, path_exists: |_| false };
        let mut reader = ConfigReader::new(Path::new(""), "", &environment);
        let table = toml::de::DeTable::new();
        let open = reader.open_table("", &table, &[]);
        Self::read(&open, &mut reader)
    }

    /// Returns the names of all top-level keys, in the order of the reference.
    pub(crate) fn key_names() -> Vec<&'static str> {
        KEY_GROUPS.iter().flat_map(|keys| keys.iter().map(|key| key.name)).collect()
    }

    /// Returns all top-level keys with their values, in the order of the reference; `None` for a key without a value.
    pub(crate) fn entries(&self) -> Vec<(&'static KeyInfo, Option<toml::Value>)> {
        let values = [
            self.general.values(),
            self.domains.values(),
            self.smtpd.values(),
            self.guard.values(),
            self.policy.values(),
            self.verify.values(),
            self.transports.values(),
            self.queue.values(),
            self.smtp.values(),
            self.auth.values(),
            self.tls.values(),
            self.values(),
        ];
        KEY_GROUPS.iter().copied().flatten().zip(values.into_iter().flatten()).collect()
    }

    /// Returns the position of `path` in the file, or of the nearest enclosing table, for errors found after loading.
    /// Paths are like `plugins.spam.grants.lookup[0]`.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        self.key_spans.position(path)
    }

    /// Returns whether the file sets a value for `path`; otherwise the default is in effect.
    #[must_use]
    pub fn is_explicit(&self, path: &str) -> bool {
        self.key_spans.get(path).is_some()
    }

    /// Returns the path of the control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.general.queue_directory.join("control"))
    }

    /// Returns the tables of a `..._maps` key or of an entry in `[tables]`; `None` if no such table is configured.
    #[must_use]
    pub fn lookup_tables(&self, name: &str) -> Option<&[TableSpec]> {
        match name {
            "alias_maps" => Some(&self.domains.alias_maps),
            "virtual_alias_maps" => Some(&self.domains.virtual_alias_maps),
            "virtual_mailbox_maps" => Some(&self.domains.virtual_mailbox_maps),
            "smtpd_sender_login_maps" => Some(&self.policy.smtpd_sender_login_maps),
            "local_recipient_maps" => Some(&self.domains.local_recipient_maps),
            _ => self.tables.get(name).map(Vec::as_slice),
        }
    }

    /// Returns the lists of restrictions, each with the name of the key.
    #[must_use]
    pub fn restriction_lists(&self) -> [(&'static str, &[Restriction]); 7] {
        [
            ("smtpd_client_restrictions", &self.policy.smtpd_client_restrictions),
            ("smtpd_helo_restrictions", &self.policy.smtpd_helo_restrictions),
            ("smtpd_sender_restrictions", &self.policy.smtpd_sender_restrictions),
            ("smtpd_relay_restrictions", &self.policy.smtpd_relay_restrictions),
            ("smtpd_recipient_restrictions", &self.policy.smtpd_recipient_restrictions),
            ("smtpd_data_restrictions", &self.policy.smtpd_data_restrictions),
            ("smtpd_end_of_data_restrictions", &self.policy.smtpd_end_of_data_restrictions),
        ]
    }

    /// Returns whether `address` is in `mynetworks`.
    #[must_use]
    pub fn is_in_mynetworks(&self, address: IpAddr) -> bool {
        self.general.mynetworks.iter().any(|network| network.contains(address))
    }
}

fn default_listeners() -> Vec<ListenerConfig> {
    vec![ListenerConfig::default_smtp()]
}
