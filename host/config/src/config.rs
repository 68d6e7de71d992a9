//! The configuration: each field is a key, and the documentation of the field describes the key.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address_verify::{SenderValue, TempfailAction};
use crate::bare_newline::ForbidBareNewline;
use crate::diagnostic::Position;
use crate::network::{Network, NetworkValue};
use crate::plugin::{PluginConfig, PluginsValue};
use crate::reader::KeySpans;
use crate::restriction::{DnsList, DnsListValue, Restriction, RestrictionList};
use crate::route::{HostPort, HostPortValue, Route, RouteValue};
use crate::section::section;
use crate::server_tables::{
    ControlConfig, DnsConfig, ListenerConfig, LogConfig, RecordingConfig, RuntimeConfig, ScanRejectAction, TraceConfig,
};
use crate::table::{TableSpec, TableSpecList};
use crate::tls::TlsProtocols;
use crate::user_source::{UserSourceConfig, UserSourceValue};
use crate::value::{
    BoolValue, ByteSize, DomainValue, DurationValue, EnumValue, IntegerValue, ListOf, MapOf, OptionalValue, PathValue,
    TableValue, TextValue, default_section,
};
use waxwing_types::{ReversePath, TlsLevel};

/// Size of a store journal in bytes; `queue_minfree` leaves space for two journals.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

section! {
    /// A checked configuration. Keys have the names of Postfix parameters where Postfix has an equivalent.
    pub struct Config (table, reader) {
        /// Fully qualified name of this server, used in the greeting, in EHLO and in Received fields.
        myhostname: String [DomainValue] = reader.environment.fully_qualified_hostname(), derived "the system's host name";
        /// Domain name of this server.
        mydomain: String [DomainValue] = parent_domain(&myhostname), derived "myhostname without its first label";
        /// Domain appended to addresses without a domain.
        myorigin: String [DomainValue] = myhostname.clone(), derived "myhostname";
        /// Domains delivered to local users and aliases.
        mydestination: Vec<String> [ListOf<DomainValue>] = default_mydestination(&myhostname, &mydomain),
            derived "[myhostname, \"localhost.\" + mydomain, \"localhost\"]";
        /// Networks of clients that may relay to any domain; other clients reach only the domains of this server.
        mynetworks: Vec<Network> [ListOf<NetworkValue>] = default_mynetworks();
        /// Domains relayed to other servers, including subdomains.
        relay_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Next hop of all mail to other servers; none: the MX hosts of the recipient's domain.
        relayhost: Option<HostPort> [OptionalValue<HostPortValue>] = None;
        /// Domains whose addresses are all aliases for addresses in other domains.
        virtual_alias_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Aliases of full addresses, in any domain.
        virtual_alias_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Domains delivered to the mailboxes in virtual_mailbox_maps.
        virtual_mailbox_domains: Vec<String> [ListOf<DomainValue>] = Vec::new();
        /// Maps an address to the path of a mailbox below virtual_mailbox_base; "@domain" matches every address of a
        /// domain.
        virtual_mailbox_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Parent directory of all virtual mailboxes.
        virtual_mailbox_base: PathBuf [PathValue] = PathBuf::from("/var/mail/virtual");
        /// Local users that accept mail without an alias; the value is ignored.
        local_recipient_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// Aliases of local users.
        alias_maps: Vec<TableSpec> [TableSpecList] = default_alias_maps(reader.environment.path_exists),
            derived "\"aliases:/etc/aliases\" if that file is there";
        /// Directory with a Maildir for each local user, named after the user.
        mail_spool_directory: PathBuf [PathValue] = PathBuf::from("/var/mail");
        /// Separator between a user name and an address extension; empty: no extensions.
        recipient_delimiter: String [TextValue] = String::new();
        /// System user of the server process; required when the server is started as root.
        mail_owner: Option<String> [OptionalValue<TextValue>] = None;
        /// Directory of the queue and of all other persistent data of the server.
        queue_directory: PathBuf [PathValue] = PathBuf::from("/var/spool/waxwing");

        /// Maximum size of a message, including the header.
        message_size_limit: u64 [ByteSize<1024>] = 64 << 20;
        /// Maximum size of the header block of a message.
        header_size_limit: u64 [ByteSize<1024>] = 100 << 10;
        /// Maximum length of an SMTP command line in bytes; lines of a message have no limit.
        line_length_limit: usize [IntegerValue<usize, 512, 65536>] = 2048;
        /// Free space of queue_directory below which no mail is accepted.
        queue_minfree: u64 [ByteSize<0>] = message_size_limit.saturating_mul(3) / 2 + 2 * JOURNAL_BYTES_MAX,
            derived "1.5 * message_size_limit + 128MiB";
        /// Number of Received fields from which a message is considered to loop.
        hopcount_limit: u32 [IntegerValue<u32, 1, 1000>] = 50;
        /// Maximum number of bytes of the original message in a DSN.
        bounce_size_limit: u64 [ByteSize<1>] = 50_000;

        /// Text of the greeting after 220; $myhostname is expanded.
        smtpd_banner: String [TextValue] = "$myhostname ESMTP Waxwing".to_owned();
        /// Maximum number of recipients of a message; further recipients get 452 and belong into another message.
        smtpd_recipient_limit: usize [IntegerValue<usize, 1, 100_000>] = 1000;
        /// Number of client errors after which the session is closed.
        smtpd_hard_error_limit: u32 [IntegerValue<u32, 1, 10_000>] = 20;
        /// Longest time without input from a client, and longest time for a client to read a reply.
        smtpd_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Maximum number of simultaneous sessions from the same address; 0: no limit.
        smtpd_client_connection_count_limit: usize [IntegerValue<usize, 0, 100_000>] = 50;
        /// Maximum number of simultaneous sessions in total; further sessions get 421.
        smtpd_sessions_max: usize [IntegerValue<usize, 1, 100_000>] = 1000;

        // -- SMTP session: message syntax and extensions

        /// Handling of messages with a bare CR or LF; only CR LF . CR LF ends a message in each case.
        smtpd_forbid_bare_newline: ForbidBareNewline [EnumValue<ForbidBareNewline>] = ForbidBareNewline::Reject;
        /// Networks of clients exempt from smtpd_forbid_bare_newline.
        smtpd_forbid_bare_newline_exclusions: Vec<Network> [ListOf<NetworkValue>] = Vec::new();

        /// Offer PRDR (draft-hall-prdr): clients that request PRDR get a reply for each recipient when a plugin
        /// (on-recipient-message) decides differently for some recipients.
        smtpd_prdr: bool [BoolValue] = true;

        // -- abuse protection: rates, slow clients, memory
        /// Interval of the smtpd_client_..._rate_limit keys; starts with the first action of a client.
        anvil_rate_time_unit: Duration [DurationValue<1000>] = Duration::from_secs(60);
        /// Networks of clients exempt from rate limits, session limits and the greeting delay.
        smtpd_client_event_limit_exceptions: Vec<Network> [ListOf<NetworkValue>] = mynetworks.clone(), derived "mynetworks";
        /// Connections from the same client (an IPv4 address, an IPv6 /64) in anvil_rate_time_unit; 0: no limit.
        smtpd_client_connection_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// MAIL commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_message_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// RCPT commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_recipient_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Negative replies to the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_error_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// AUTH commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Failed AUTH commands from the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_failure_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// TLS handshakes with the same client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_new_tls_session_rate_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 0;
        /// Factor between the limits of a client and the limits of a network, for simultaneous sessions and for
        /// rates; 0: networks are not counted.
        smtpd_network_limit_factor: u32 [IntegerValue<u32, 0, 1_000>] = 10;
        /// Prefix length of an IPv4 network for network limits.
        smtpd_network_prefix_ipv4: u32 [IntegerValue<u32, 8, 32>] = 24;
        /// Prefix length of an IPv6 network for network limits.
        smtpd_network_prefix_ipv6: u32 [IntegerValue<u32, 16, 64>] = 48;
        /// Number of negative replies since the last accepted message after which replies are delayed by
        /// smtpd_error_sleep_time.
        smtpd_soft_error_limit: u32 [IntegerValue<u32, 0, 10_000>] = 10;
        /// Delay of each reply after smtpd_soft_error_limit.
        smtpd_error_sleep_time: Duration [DurationValue<0>] = Duration::from_secs(1);
        /// Delay of the greeting for clients of an smtp listener; a client that sends data before the greeting is
        /// rejected. 0: no test.
        postscreen_greet_wait: Duration [DurationValue<0>] = Duration::ZERO;
        /// Time for which a client that passed the greeting delay is exempt from the delay.
        postscreen_greet_ttl: Duration [DurationValue<0>] = Duration::from_secs(86_400);
        /// Apply smtpd_timeout to a complete command instead of each read, and require smtpd_min_data_rate during a
        /// message.
        smtpd_per_request_deadline: bool [BoolValue] = true;
        /// Data rate in bytes per second: each such number of received bytes adds a second to smtpd_timeout while a
        /// command or message arrives.
        smtpd_min_data_rate: u32 [IntegerValue<u32, 1, 1_000_000>] = 500;
        /// Percentage of smtpd_sessions_max from which the server is under stress; 100: only when all sessions are in
        /// use.
        smtpd_stress_percent: u32 [IntegerValue<u32, 1, 100>] = 80;
        /// Value of smtpd_timeout under stress.
        smtpd_stress_timeout: Duration [DurationValue<100>] = Duration::from_secs(10);
        /// Value of smtpd_hard_error_limit under stress.
        smtpd_stress_hard_error_limit: u32 [IntegerValue<u32, 1, 10_000>] = 1;
        /// Memory of all sessions together, by the data held; above the limit, new sessions and sessions that need
        /// more memory get 421.
        smtpd_sessions_memory_max: u64 [ByteSize<{ 1 << 20 }>] = 256 << 20;

        // -- access policy

        /// Networks of clients, such as proxies, that may send client attributes by XCLIENT.
        smtpd_authorized_xclient_hosts: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
        /// Subset of smtpd_authorized_xclient_hosts that may also send the login name by XCLIENT.
        smtpd_xclient_login_hosts: Vec<Network> [ListOf<NetworkValue>] = Vec::new();

        /// Restrictions on the client; evaluated at RCPT with smtpd_delay_reject.
        smtpd_client_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions on the HELO name; evaluated at RCPT with smtpd_delay_reject.
        smtpd_helo_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions on the sender; evaluated at RCPT with smtpd_delay_reject.
        smtpd_sender_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions on each recipient, evaluated before smtpd_recipient_restrictions; relaying by unauthorized
        /// clients is always rejected, without a restriction here.
        smtpd_relay_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions on each recipient.
        smtpd_recipient_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions evaluated at DATA.
        smtpd_data_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Restrictions evaluated after the complete message was received.
        smtpd_end_of_data_restrictions: Vec<Restriction> [RestrictionList] = Vec::new();
        /// Evaluate client, HELO and sender restrictions at RCPT, so that the log shows the intended recipient of a
        /// rejected client.
        smtpd_delay_reject: bool [BoolValue] = true;
        /// Look up the name of each client by reverse DNS, and confirm the name by a forward lookup.
        smtpd_peername_lookup: bool [BoolValue] = true;
        /// Timeout of the client name lookup; a client without an answer in time has no name.
        smtpd_peername_timeout: Duration [DurationValue<100>] = Duration::from_secs(5);
        /// Maps a sender address, or "@domain", to the users with permission to send from the address, separated by
        /// commas.
        smtpd_sender_login_maps: Vec<TableSpec> [TableSpecList] = Vec::new();
        /// DNS lists (DNSBL) for client addresses, with weights.
        postscreen_dnsbl_sites: Vec<DnsList> [ListOf<DnsListValue>] = Vec::new();
        /// Sum of DNS list weights from which a client is rejected.
        postscreen_dnsbl_threshold: i32 [IntegerValue<i32, 1, 1_000_000>] = 1;
        /// Timeout of a policy service request.
        smtpd_policy_service_timeout: Duration [DurationValue<100>] = Duration::from_secs(100);
        /// Action when a policy service does not answer.
        smtpd_policy_service_default_action: String [TextValue] = "451 4.3.5 Server configuration problem".to_owned();
        /// Maximum number of attempts for a policy service request before smtpd_policy_service_default_action.
        smtpd_policy_service_try_limit: usize [IntegerValue<usize, 1, 10>] = 2;
        /// Delay between attempts for a policy service request.
        smtpd_policy_service_retry_delay: Duration [DurationValue<0>] = Duration::from_secs(1);
        /// Time after which an idle connection to a policy service is closed.
        smtpd_policy_service_max_idle: Duration [DurationValue<0>] = Duration::from_secs(300);
        /// Maximum age of a connection to a policy service.
        smtpd_policy_service_max_ttl: Duration [DurationValue<0>] = Duration::from_secs(1000);

        // -- address verification (reject_unverified_recipient, reject_unverified_sender)

        /// Sender of the probes that ask another server whether an address accepts mail.
        address_verify_sender: ReversePath [SenderValue] = ReversePath::Null;
        /// Longest time that a client waits for the result of a probe; after that the client gets a temporary error
        /// while the probe continues.
        address_verify_poll_time: Duration [DurationValue<0>] = Duration::from_secs(6);
        /// Lifetime of a positive probe result in the cache.
        address_verify_positive_expire_time: Duration [DurationValue<1000>] = Duration::from_secs(31 * 86_400);
        /// Age from which a positive probe result is refreshed by a new probe while the cached result stays in use.
        address_verify_positive_refresh_time: Duration [DurationValue<1000>] = Duration::from_secs(7 * 86_400);
        /// Lifetime of a negative probe result in the cache.
        address_verify_negative_expire_time: Duration [DurationValue<1000>] = Duration::from_secs(3 * 86_400);
        /// Age from which a negative probe result is refreshed by a new probe while the cached result stays in use.
        address_verify_negative_refresh_time: Duration [DurationValue<1000>] = Duration::from_secs(3 * 3_600);
        /// Reply code when the recipient's server rejects the recipient; 550 for a permanent error.
        unverified_recipient_reject_code: u16 [IntegerValue<u16, 400, 599>] = 450;
        /// Reply code when a recipient cannot be verified at present.
        unverified_recipient_defer_code: u16 [IntegerValue<u16, 400, 499>] = 450;
        /// Action for a recipient that cannot be verified at present.
        unverified_recipient_tempfail_action: TempfailAction [EnumValue<TempfailAction>] = TempfailAction::DeferIfPermit;
        /// Reply code when the sender's server rejects the sender; 550 for a permanent error.
        unverified_sender_reject_code: u16 [IntegerValue<u16, 400, 599>] = 450;
        /// Reply code when a sender cannot be verified at present.
        unverified_sender_defer_code: u16 [IntegerValue<u16, 400, 499>] = 450;
        /// Action for a sender that cannot be verified at present.
        unverified_sender_tempfail_action: TempfailAction [EnumValue<TempfailAction>] = TempfailAction::DeferIfPermit;

        // -- routing, queue and delivery

        /// Transport for the domains of mydestination.
        local_transport: Route [RouteValue] = Route::for_transport("local");
        /// Transport for the domains of virtual_mailbox_domains.
        virtual_transport: Route [RouteValue] = Route::for_transport("virtual");
        /// Transport for the domains of relay_domains.
        relay_transport: Route [RouteValue] = Route::for_transport("relay");
        /// Transport for all other domains.
        default_transport: Route [RouteValue] = Route::for_transport("smtp");
        /// Maps an address, a domain, ".domain" (subdomains) or "*" to a route.
        transport_maps: BTreeMap<String, Route> [MapOf<RouteValue>] = BTreeMap::new();

        /// Shortest time between two attempts for a deferred message.
        minimal_backoff_time: Duration [DurationValue<1000>] = Duration::from_secs(300);
        /// Longest time between two attempts for a deferred message.
        maximal_backoff_time: Duration [DurationValue<1000>] = Duration::from_secs(4000);
        /// Age at which a deferred message is returned to the sender.
        maximal_queue_lifetime: Duration [DurationValue<0>] = Duration::from_secs(5 * 86_400);
        /// Age at which a deferred DSN is given up.
        bounce_queue_lifetime: Duration [DurationValue<0>] = Duration::from_secs(5 * 86_400);
        /// Action for a message rejected by a plugin after acceptance (on-scan): hold for a decision of the operator,
        /// or discard. The sender gets no DSN.
        scan_refusal: ScanRejectAction [EnumValue<ScanRejectAction>] = ScanRejectAction::Hold;
        /// Maximum number of simultaneous deliveries to the same next hop.
        default_destination_concurrency_limit: usize [IntegerValue<usize, 1, 10_000>] = 20;
        /// Maximum number of messages in the active queue.
        qmgr_message_active_limit: usize [IntegerValue<usize, 1, 1_000_000>] = 20_000;

        /// Name of this server in EHLO to other servers.
        smtp_helo_name: String [DomainValue] = myhostname.clone(), derived "myhostname";
        /// TCP port of next hops without a port.
        smtp_tcp_port: u16 [IntegerValue<u16, 1, 65535>] = 25;
        /// Timeout for establishing a connection.
        smtp_connect_timeout: Duration [DurationValue<100>] = Duration::from_secs(30);
        /// Timeout for the greeting and the reply to EHLO.
        smtp_helo_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Timeout for the reply to MAIL.
        smtp_mail_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Timeout for the reply to RCPT.
        smtp_rcpt_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Timeout for the reply to DATA.
        smtp_data_init_timeout: Duration [DurationValue<100>] = Duration::from_secs(120);
        /// Timeout for sending a piece of the message.
        smtp_data_xfer_timeout: Duration [DurationValue<100>] = Duration::from_secs(180);
        /// Timeout for the reply to the end of the message.
        smtp_data_done_timeout: Duration [DurationValue<100>] = Duration::from_secs(600);
        /// Timeout for the reply to QUIT.
        smtp_quit_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Time for which an idle connection stays open for the next message to the same next hop.
        smtp_connection_cache_time_limit: Duration [DurationValue<0>] = Duration::from_secs(2);

        // -- users and authentication
        /// Sources of users and password records; changed by `waxwing user`. Empty: AUTH is not offered.
        users: Vec<UserSourceConfig> [ListOf<UserSourceValue>] = Vec::new();
        /// Accept password records in plain text ({PLAIN}).
        users_plaintext: bool [BoolValue] = false;
        /// Memory for hashing a new password, and for each later login with the hash; at most 4GiB. At most four
        /// hashes are computed at once.
        password_argon2_memory: u64 [ByteSize<{ 128 << 10 }>] = 19 << 20;
        /// Number of argon2 passes over the memory.
        password_argon2_passes: u32 [IntegerValue<u32, 1, 1000>] = 2;
        /// Number of argon2 lanes; lanes are computed one after another.
        password_argon2_lanes: u32 [IntegerValue<u32, 1, 16>] = 1;
        /// Create a SCRAM-SHA-256 record beside the hash of each new password.
        password_scram: bool [BoolValue] = true;
        /// Replace records of other schemes and costs, and add a missing SCRAM-SHA-256 record, when a user logs in by
        /// PLAIN or LOGIN.
        password_rehash: bool [BoolValue] = true;
        /// Delay of the reply to a failed login; at most a minute.
        smtpd_sasl_failure_delay: Duration [DurationValue<0>] = Duration::from_secs(2);
        /// Number of failed logins after which an address (IPv6: a /64) is rejected; 0: no limit.
        smtpd_sasl_failure_limit: u32 [IntegerValue<u32, 0, 1_000_000>] = 20;
        /// Time for which failed logins count, starting at the last failure.
        smtpd_sasl_failure_time: Duration [DurationValue<1000>] = Duration::from_secs(600);
        /// Networks of clients that may use PLAIN and LOGIN without TLS.
        smtpd_sasl_plaintext_networks: Vec<Network> [ListOf<NetworkValue>] = Vec::new();

        // -- TLS and proxies of listeners
        /// PEM files with private keys and certificate chains, reloaded on change. Keys and certificates are matched
        /// by public key; the first certificate is the default for clients without SNI and for names without a
        /// certificate.
        smtpd_tls_chain_files: Vec<PathBuf> [ListOf<PathValue>] = Vec::new();
        /// PEM file with the certificate authorities for client certificates.
        smtpd_tls_CAfile: Option<PathBuf> [OptionalValue<PathValue>] = None;
        /// Oldest TLS version accepted by listeners.
        smtpd_tls_protocols: TlsProtocols [EnumValue<TlsProtocols>] = TlsProtocols::From12;
        /// Timeout for the TLS handshake of a client.
        smtpd_starttls_timeout: Duration [DurationValue<100>] = Duration::from_secs(60);
        /// Timeout for the PROXY header.
        smtpd_upstream_proxy_timeout: Duration [DurationValue<100>] = Duration::from_secs(5);
        // -- SMTP client: TLS and DSN
        /// TLS for connections to other servers: "may" if the server offers STARTTLS, "encrypt" always, "verify"
        /// always and with a valid certificate for the server name.
        smtp_tls_security_level: TlsLevel [EnumValue<TlsLevel>] = TlsLevel::May;
        /// Values of smtp_tls_security_level for single next hops, by `"[host]:port"`, `"host"` or `".domain"`
        /// (subdomains).
        smtp_tls_policy_maps: BTreeMap<String, TlsLevel> [MapOf<EnumValue<TlsLevel>>] = BTreeMap::new();
        /// PEM file with the certificate authorities for other servers; none: the authorities trusted by Mozilla.
        smtp_tls_CAfile: Option<PathBuf> [OptionalValue<PathValue>] = None;
        /// Timeout for the reply to STARTTLS and the handshake.
        smtp_starttls_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Age at which the sender of a queued message gets a delay DSN; 0: only on request by NOTIFY=DELAY, after
        /// four hours.
        delay_warning_time: Duration [DurationValue<0>] = Duration::ZERO;

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
        /// Source span of each key.
        pub(crate) places: KeySpans,
    }
}

impl Config {
    /// Returns the position of `path` in the file, or of the nearest enclosing table, for errors found after loading.
    /// Paths are like `plugins.spam.grants.lookup[0]`.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        self.places.position(path)
    }

    /// Returns whether the file sets a value for `path`; otherwise the default is in effect.
    #[must_use]
    pub fn is_explicit(&self, path: &str) -> bool {
        self.places.get(path).is_some()
    }

    /// Returns the path of the control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.queue_directory.join("control"))
    }

    /// Returns the tables of a `..._maps` key or of an entry in `[tables]`; `None` if no such table is configured.
    #[must_use]
    pub fn lookup_tables(&self, name: &str) -> Option<&[TableSpec]> {
        match name {
            "alias_maps" => Some(&self.alias_maps),
            "virtual_alias_maps" => Some(&self.virtual_alias_maps),
            "virtual_mailbox_maps" => Some(&self.virtual_mailbox_maps),
            "smtpd_sender_login_maps" => Some(&self.smtpd_sender_login_maps),
            "local_recipient_maps" => Some(&self.local_recipient_maps),
            _ => self.tables.get(name).map(Vec::as_slice),
        }
    }

    /// Returns the lists of restrictions, each with the name of the key.
    #[must_use]
    pub fn restriction_lists(&self) -> [(&'static str, &[Restriction]); 7] {
        [
            ("smtpd_client_restrictions", &self.smtpd_client_restrictions),
            ("smtpd_helo_restrictions", &self.smtpd_helo_restrictions),
            ("smtpd_sender_restrictions", &self.smtpd_sender_restrictions),
            ("smtpd_relay_restrictions", &self.smtpd_relay_restrictions),
            ("smtpd_recipient_restrictions", &self.smtpd_recipient_restrictions),
            ("smtpd_data_restrictions", &self.smtpd_data_restrictions),
            ("smtpd_end_of_data_restrictions", &self.smtpd_end_of_data_restrictions),
        ]
    }

    /// Returns whether `address` is in `mynetworks`.
    #[must_use]
    pub fn is_in_mynetworks(&self, address: IpAddr) -> bool {
        self.mynetworks.iter().any(|network| network.contains(address))
    }
}

/// Removes the first label: `mail.example.com` -> `example.com`; a name with a single label stays unchanged.
fn parent_domain(hostname: &str) -> String {
    hostname.split_once('.').map_or(hostname, |(_, parent)| parent).to_owned()
}

fn default_mydestination(hostname: &str, domain: &str) -> Vec<String> {
    let mut domains = vec![hostname.to_owned()];
    for more in [format!("localhost.{domain}"), "localhost".to_owned()] {
        if !domains.contains(&more) {
            domains.push(more);
        }
    }
    domains
}

fn default_mynetworks() -> Vec<Network> {
    ["127.0.0.0/8", "[::1]/128"].iter().filter_map(|text| text.parse().ok()).collect()
}

fn default_alias_maps(exists: fn(&std::path::Path) -> bool) -> Vec<TableSpec> {
    let path = PathBuf::from("/etc/aliases");
    if exists(&path) { vec![TableSpec::Aliases(path)] } else { Vec::new() }
}

fn default_listeners() -> Vec<ListenerConfig> {
    vec![ListenerConfig::default_smtp()]
}
