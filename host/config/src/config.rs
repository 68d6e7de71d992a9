//! The configuration: every field is a key, its documentation the key's meaning.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::kind::{Choice, Count, Domain, FilePath, Flag, ListOf, MapOf, Maybe, Size, Span, Sub, Text, default_section};
use crate::mistake::Position;
use crate::network::{Network, NetworkText};
use crate::plugin::{Plugin, Plugins};
use crate::reader::Places;
use crate::restriction::{DnsList, ListText, Rule, Rules};
use crate::route::{HostPort, HostPortText, Route, RouteText};
use crate::section::section;
use crate::sections::{Control, Dns, Listen, Log, Recording, Runtime, ScanRefusal, Trace};
use crate::session::ForbidBareNewline;
use crate::table::{TableSpec, Tables};
use crate::tls::TlsProtocols;
use crate::users::{UserPlace, UserPlaceText};
use crate::verify::{Sender, TempfailAction};
use waxwing_types::{ReversePath, TlsLevel};

/// Octets of a journal of the store; `queue_minfree` leaves room for two.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

section! {
    /// A checked configuration. The names are Postfix's where Postfix has one.
    pub struct Config (table, reader) {
        /// Name of this server in Internet form: in the greeting, in EHLO and in Received.
        myhostname: String [Domain] = reader.facts.full_hostname(), derived "the system's host name";
        /// Domain of this server.
        mydomain: String [Domain] = parent_domain(&myhostname), derived "myhostname without its first label";
        /// Domain that completes addresses without one.
        myorigin: String [Domain] = myhostname.clone(), derived "myhostname";
        /// Domains whose mail is delivered to local users and aliases.
        mydestination: Vec<String> [ListOf<Domain>] = local_domains(&myhostname, &mydomain),
            derived "[myhostname, \"localhost.\" + mydomain, \"localhost\"]";
        /// Clients that may send anywhere; everyone else only to the domains of this server.
        mynetworks: Vec<Network> [ListOf<NetworkText>] = loopback();
        /// Domains that are relayed to other servers, with their subdomains.
        relay_domains: Vec<String> [ListOf<Domain>] = Vec::new();
        /// Next hop of all mail that leaves this server; none: the MX of the recipient's domain.
        relayhost: Option<HostPort> [Maybe<HostPortText>] = None;
        /// Domains whose addresses are all aliases for addresses elsewhere.
        virtual_alias_domains: Vec<String> [ListOf<Domain>] = Vec::new();
        /// Aliases of full addresses, in any domain.
        virtual_alias_maps: Vec<TableSpec> [Tables] = Vec::new();
        /// Domains whose mail is delivered to the mailboxes of virtual_mailbox_maps.
        virtual_mailbox_domains: Vec<String> [ListOf<Domain>] = Vec::new();
        /// Address to path of its mailbox below virtual_mailbox_base; "@domain" stands for every address of it.
        virtual_mailbox_maps: Vec<TableSpec> [Tables] = Vec::new();
        /// Directory below which virtual mailboxes lie.
        virtual_mailbox_base: PathBuf [FilePath] = PathBuf::from("/var/mail/virtual");
        /// Local users who get mail although they are no alias; the value is not used.
        local_recipient_maps: Vec<TableSpec> [Tables] = Vec::new();
        /// Aliases of local users.
        alias_maps: Vec<TableSpec> [Tables] = system_aliases(reader.facts.exists),
            derived "\"aliases:/etc/aliases\" if that file is there";
        /// Directory in which each local user has a Maildir of his name.
        mail_spool_directory: PathBuf [FilePath] = PathBuf::from("/var/mail");
        /// Separates a user's name from an extension; empty: there are no extensions.
        recipient_delimiter: String [Text] = String::new();
        /// User as whom the server runs; needed when it is started as root.
        mail_owner: Option<String> [Maybe<Text>] = None;
        /// Directory of the queue and of all else that the server keeps.
        queue_directory: PathBuf [FilePath] = PathBuf::from("/var/spool/waxwing");

        /// Largest message, header included.
        message_size_limit: u64 [Size<1024>] = 64 << 20;
        /// Largest header block of a message.
        header_size_limit: u64 [Size<1024>] = 100 << 10;
        /// Longest line of an SMTP command; lines of messages have no limit.
        line_length_limit: usize [Count<usize, 512, 65536>] = 2048;
        /// Free space of queue_directory below which no mail is accepted.
        queue_minfree: u64 [Size<0>] = message_size_limit.saturating_mul(3) / 2 + 2 * JOURNAL_BYTES_MAX,
            derived "1.5 * message_size_limit + 128MiB";
        /// Received fields of a message that is taken to loop.
        hopcount_limit: u32 [Count<u32, 1, 1000>] = 50;
        /// Most octets of a message that a report returns.
        bounce_size_limit: u64 [Size<1>] = 50_000;

        /// Text of the greeting after 220; $myhostname is put in.
        smtpd_banner: String [Text] = "$myhostname ESMTP Waxwing".to_owned();
        /// Recipients of one message; more are deferred to the next one by 452.
        smtpd_recipient_limit: usize [Count<usize, 1, 100_000>] = 1000;
        /// Mistakes of a client after which it is disconnected.
        smtpd_hard_error_limit: u32 [Count<u32, 1, 10_000>] = 20;
        /// How long a client may be silent, and how long it may not take our replies.
        smtpd_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// Sessions at once from one address; 0: no limit.
        smtpd_client_connection_count_limit: usize [Count<usize, 0, 100_000>] = 50;
        /// Sessions at once in all; more are refused with 421.
        smtpd_sessions_max: usize [Count<usize, 1, 100_000>] = 1000;

        // -- session: what it takes

        /// What becomes of a message with a CR or LF that stands alone; in each case only CR LF . CR LF ends one.
        smtpd_forbid_bare_newline: ForbidBareNewline [Choice<ForbidBareNewline>] = ForbidBareNewline::Reject;
        /// Clients whose messages may have them all the same.
        smtpd_forbid_bare_newline_exclusions: Vec<Network> [ListOf<NetworkText>] = Vec::new();

        /// Offer PRDR (draft-hall-prdr): a client that asks for it hears of each recipient apart where a plugin (on-recipient-message) says
        /// different things of them.
        smtpd_prdr: bool [Flag] = true;

        // Abuse: rates, slow clients, memory.
        /// The time in which the smtpd_client_..._rate_limits count; it begins with the first thing that a client does.
        anvil_rate_time_unit: Duration [Span<1000>] = Duration::from_secs(60);
        /// Clients that no limit of rates or of sessions at once holds for, and who need not wait for the greeting.
        smtpd_client_event_limit_exceptions: Vec<Network> [ListOf<NetworkText>] = mynetworks.clone(), derived "mynetworks";
        /// Connections from one client (an IPv4 address, an IPv6 /64) in anvil_rate_time_unit; 0: no limit.
        smtpd_client_connection_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// MAIL commands from one client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_message_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// RCPT commands from one client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_recipient_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// Negative replies to one client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_error_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// AUTH commands from one client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// AUTH commands from one client that fail in anvil_rate_time_unit; 0: no limit.
        smtpd_client_auth_failure_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// TLS handshakes with one client in anvil_rate_time_unit; 0: no limit.
        smtpd_client_new_tls_session_rate_limit: u32 [Count<u32, 0, 1_000_000>] = 0;
        /// A network may do so many times what its clients may each, at once and in anvil_rate_time_unit; 0: networks are not counted.
        smtpd_network_limit_factor: u32 [Count<u32, 0, 1_000>] = 10;
        /// Bits of an IPv4 network that counts as one.
        smtpd_network_prefix_ipv4: u32 [Count<u32, 8, 32>] = 24;
        /// Bits of an IPv6 network that counts as one.
        smtpd_network_prefix_ipv6: u32 [Count<u32, 16, 64>] = 48;
        /// Negative replies since the last accepted message after which replies wait smtpd_error_sleep_time.
        smtpd_soft_error_limit: u32 [Count<u32, 0, 10_000>] = 10;
        /// How long replies wait after smtpd_soft_error_limit.
        smtpd_error_sleep_time: Duration [Span<0>] = Duration::from_secs(1);
        /// How long a client of an smtp listener must wait for the greeting; one that speaks before is refused. 0: no test.
        postscreen_greet_wait: Duration [Span<0>] = Duration::ZERO;
        /// How long it is remembered that a client waited; it need not wait again so long.
        postscreen_greet_ttl: Duration [Span<0>] = Duration::from_secs(86_400);
        /// smtpd_timeout is the time for a whole command, not for a piece of it, and a message must come at smtpd_min_data_rate.
        smtpd_per_request_deadline: bool [Flag] = true;
        /// Octets in a second that each add a second to smtpd_timeout while a command or a message comes.
        smtpd_min_data_rate: u32 [Count<u32, 1, 1_000_000>] = 500;
        /// Percentage of smtpd_sessions_max from which on the server is under stress; 100: only when all are taken.
        smtpd_stress_percent: u32 [Count<u32, 1, 100>] = 80;
        /// smtpd_timeout under stress.
        smtpd_stress_timeout: Duration [Span<100>] = Duration::from_secs(10);
        /// smtpd_hard_error_limit under stress.
        smtpd_stress_hard_error_limit: u32 [Count<u32, 1, 10_000>] = 1;
        /// Memory of all sessions together, by what they hold; over it new sessions, and those that want more, are refused with 421.
        smtpd_sessions_memory_max: u64 [Size<{ 1 << 20 }>] = 256 << 20;

        // -- policy: who may send what

        /// Clients, such as proxies, that may say by XCLIENT for whom they speak.
        smtpd_authorized_xclient_hosts: Vec<Network> [ListOf<NetworkText>] = Vec::new();
        /// Those of smtpd_authorized_xclient_hosts that may also say who is logged in.
        smtpd_xclient_login_hosts: Vec<Network> [ListOf<NetworkText>] = Vec::new();

        /// Asked of each client; with smtpd_delay_reject when it names a recipient.
        smtpd_client_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked of what a client calls itself; with smtpd_delay_reject when it names a recipient.
        smtpd_helo_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked of each sender; with smtpd_delay_reject when the client names a recipient.
        smtpd_sender_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked of each recipient, before smtpd_recipient_restrictions; that strangers can't relay needs no word here.
        smtpd_relay_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked of each recipient.
        smtpd_recipient_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked at DATA.
        smtpd_data_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Asked when the message has come.
        smtpd_end_of_data_restrictions: Vec<Rule> [Rules] = Vec::new();
        /// Ask about client, HELO and sender when a recipient is named, so that the log says to whom a refused client would write.
        smtpd_delay_reject: bool [Flag] = true;
        /// Look up the name of each client, and whether it leads back to its address.
        smtpd_peername_lookup: bool [Flag] = true;
        /// Longest time that the lookup of a client's name takes; without an answer it has none.
        smtpd_peername_timeout: Duration [Span<100>] = Duration::from_secs(5);
        /// Sender address, or "@domain", to the users who may send as it, with commas between.
        smtpd_sender_login_maps: Vec<TableSpec> [Tables] = Vec::new();
        /// DNS lists that clients are looked up in, with weights.
        postscreen_dnsbl_sites: Vec<DnsList> [ListOf<ListText>] = Vec::new();
        /// Sum of the weights from which on a client is refused.
        postscreen_dnsbl_threshold: i32 [Count<i32, 1, 1_000_000>] = 1;
        /// How long a policy service may take to answer.
        smtpd_policy_service_timeout: Duration [Span<100>] = Duration::from_secs(100);
        /// What is done where a policy service does not answer.
        smtpd_policy_service_default_action: String [Text] = "451 4.3.5 Server configuration problem".to_owned();
        /// How often a policy service is asked in all before that.
        smtpd_policy_service_try_limit: usize [Count<usize, 1, 10>] = 2;
        /// How long to wait between two tries.
        smtpd_policy_service_retry_delay: Duration [Span<0>] = Duration::from_secs(1);
        /// How long an idle connection to a policy service is kept.
        smtpd_policy_service_max_idle: Duration [Span<0>] = Duration::from_secs(300);
        /// How long a connection to a policy service is used.
        smtpd_policy_service_max_ttl: Duration [Span<0>] = Duration::from_secs(1000);

        // -- verification of addresses (reject_unverified_recipient, reject_unverified_sender)

        /// Sender of the probes that ask another server whether it takes mail for an address.
        address_verify_sender: ReversePath [Sender] = ReversePath::Null;
        /// How long a client waits for the answer to a probe; then it is refused for now, and the probe goes on.
        address_verify_poll_time: Duration [Span<0>] = Duration::from_secs(6);
        /// How long it is remembered that an address takes mail.
        address_verify_positive_expire_time: Duration [Span<1000>] = Duration::from_secs(31 * 86_400);
        /// Age of such an answer from which on the address is asked about again, while the old answer serves.
        address_verify_positive_refresh_time: Duration [Span<1000>] = Duration::from_secs(7 * 86_400);
        /// How long it is remembered that an address takes no mail.
        address_verify_negative_expire_time: Duration [Span<1000>] = Duration::from_secs(3 * 86_400);
        /// Age of such an answer from which on the address is asked about again, while the old answer serves.
        address_verify_negative_refresh_time: Duration [Span<1000>] = Duration::from_secs(3 * 3_600);
        /// Code of the reply where the server of the recipient takes no mail for it: 550 to refuse for good.
        unverified_recipient_reject_code: u16 [Count<u16, 400, 599>] = 450;
        /// Code of the reply where the recipient can't be verified now.
        unverified_recipient_defer_code: u16 [Count<u16, 400, 499>] = 450;
        /// What becomes of a recipient that can't be verified now.
        unverified_recipient_tempfail_action: TempfailAction [Choice<TempfailAction>] = TempfailAction::DeferIfPermit;
        /// Code of the reply where the server of the sender takes no mail for him: 550 to refuse for good.
        unverified_sender_reject_code: u16 [Count<u16, 400, 599>] = 450;
        /// Code of the reply where the sender can't be verified now.
        unverified_sender_defer_code: u16 [Count<u16, 400, 499>] = 450;
        /// What becomes of a sender that can't be verified now.
        unverified_sender_tempfail_action: TempfailAction [Choice<TempfailAction>] = TempfailAction::DeferIfPermit;

        // -- end of policy

        /// Transport of the domains of mydestination.
        local_transport: Route [RouteText] = Route::to("local");
        /// Transport of the domains of virtual_mailbox_domains.
        virtual_transport: Route [RouteText] = Route::to("virtual");
        /// Transport of the domains of relay_domains.
        relay_transport: Route [RouteText] = Route::to("relay");
        /// Transport of all other domains.
        default_transport: Route [RouteText] = Route::to("smtp");
        /// Address, domain or ".domain" (its subdomains), or "*", to the route that its mail takes.
        transport_maps: BTreeMap<String, Route> [MapOf<RouteText>] = BTreeMap::new();

        /// Shortest time between two attempts for a deferred message.
        minimal_backoff_time: Duration [Span<1000>] = Duration::from_secs(300);
        /// Longest time between two attempts for a deferred message.
        maximal_backoff_time: Duration [Span<1000>] = Duration::from_secs(4000);
        /// Age at which a deferred message is returned to its sender.
        maximal_queue_lifetime: Duration [Span<0>] = Duration::from_secs(5 * 86_400);
        /// Age at which a deferred report is given up.
        bounce_queue_lifetime: Duration [Span<0>] = Duration::from_secs(5 * 86_400);
        /// What becomes of a message that a plugin refuses after it was accepted (on-scan): the operator decides, or it is thrown away. Its
        /// sender is never told.
        scan_refusal: ScanRefusal [Choice<ScanRefusal>] = ScanRefusal::Hold;
        /// Deliveries at once to one next hop.
        default_destination_concurrency_limit: usize [Count<usize, 1, 10_000>] = 20;
        /// Messages in the active queue.
        qmgr_message_active_limit: usize [Count<usize, 1, 1_000_000>] = 20_000;

        /// Name that this server gives in EHLO.
        smtp_helo_name: String [Domain] = myhostname.clone(), derived "myhostname";
        /// TCP port of next hops that name none.
        smtp_tcp_port: u16 [Count<u16, 1, 65535>] = 25;
        /// How long a connection may take to be made.
        smtp_connect_timeout: Duration [Span<100>] = Duration::from_secs(30);
        /// How long the greeting and the reply to EHLO may take.
        smtp_helo_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// How long the reply to MAIL may take.
        smtp_mail_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// How long the reply to RCPT may take.
        smtp_rcpt_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// How long the reply to DATA may take.
        smtp_data_init_timeout: Duration [Span<100>] = Duration::from_secs(120);
        /// How long a piece of the message may take to be sent.
        smtp_data_xfer_timeout: Duration [Span<100>] = Duration::from_secs(180);
        /// How long the reply to the end of the message may take.
        smtp_data_done_timeout: Duration [Span<100>] = Duration::from_secs(600);
        /// How long the reply to QUIT may take.
        smtp_quit_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// How long an idle connection is kept for the next message to the same next hop.
        smtp_connection_cache_time_limit: Duration [Span<0>] = Duration::from_secs(2);

        // Who says who.
        /// Where users and their password records are; `waxwing user` changes them. None: AUTH is not offered.
        users: Vec<UserPlace> [ListOf<UserPlaceText>] = Vec::new();
        /// Records in plain text ({PLAIN}) count.
        users_plaintext: bool [Flag] = false;
        /// Memory that the hash of a new password takes, and each login with it; at most 4GiB. Up to four are computed at once.
        password_argon2_memory: u64 [Size<{ 128 << 10 }>] = 19 << 20;
        /// Passes over that memory.
        password_argon2_passes: u32 [Count<u32, 1, 1000>] = 2;
        /// Lanes of that memory; they are computed one after another.
        password_argon2_lanes: u32 [Count<u32, 1, 16>] = 1;
        /// Make a record for SCRAM-SHA-256 beside that of each new password.
        password_scram: bool [Flag] = true;
        /// Replace records of other schemes and costs, and add a missing one for SCRAM-SHA-256, when a user logs in by PLAIN or LOGIN.
        password_rehash: bool [Flag] = true;
        /// How long a failed login waits for its answer; at most a minute.
        smtpd_sasl_failure_delay: Duration [Span<0>] = Duration::from_secs(2);
        /// Failed logins after which an address (IPv6: its /64) is refused; 0: no limit.
        smtpd_sasl_failure_limit: u32 [Count<u32, 0, 1_000_000>] = 20;
        /// How long failed logins count, from the last one.
        smtpd_sasl_failure_time: Duration [Span<1000>] = Duration::from_secs(600);
        /// Clients that may use PLAIN and LOGIN without TLS.
        smtpd_sasl_plaintext_networks: Vec<Network> [ListOf<NetworkText>] = Vec::new();

        // TLS and proxies: the listeners' side.
        /// PEM files with private keys and their certificate chains, each read again when it changes. Which is whose is seen by the keys;
        /// the first certificate serves clients that name no host, or none that a certificate is for.
        smtpd_tls_chain_files: Vec<PathBuf> [ListOf<FilePath>] = Vec::new();
        /// PEM file with the authorities that vouch for certificates of clients.
        smtpd_tls_CAfile: Option<PathBuf> [Maybe<FilePath>] = None;
        /// The oldest version of TLS that listeners speak.
        smtpd_tls_protocols: TlsProtocols [Choice<TlsProtocols>] = TlsProtocols::From12;
        /// How long a client may take for its TLS handshake.
        smtpd_starttls_timeout: Duration [Span<100>] = Duration::from_secs(60);
        /// How long a proxy may take for its PROXY header.
        smtpd_upstream_proxy_timeout: Duration [Span<100>] = Duration::from_secs(5);
        // What is said to other servers beyond plain SMTP: TLS and reports.
        /// Whether connections to other servers are encrypted: "may" where the server offers it, "encrypt" always, "verify" always and with a
        /// certificate that is the server's.
        smtp_tls_security_level: TlsLevel [Choice<TlsLevel>] = TlsLevel::May;
        /// The same for single next hops, by `"[host]:port"`, `"host"` or `".domain"` (its subdomains).
        smtp_tls_policy_maps: BTreeMap<String, TlsLevel> [MapOf<Choice<TlsLevel>>] = BTreeMap::new();
        /// File of the authorities in PEM that vouch for other servers; none: those that Mozilla trusts.
        smtp_tls_CAfile: Option<PathBuf> [Maybe<FilePath>] = None;
        /// How long the reply to STARTTLS and the handshake may take.
        smtp_starttls_timeout: Duration [Span<100>] = Duration::from_secs(300);
        /// Age at which the sender is told that a message is still waiting; 0: only who asked for it by NOTIFY=DELAY, after four hours.
        delay_warning_time: Duration [Span<0>] = Duration::ZERO;

        /// Where the server listens.
        listen: Vec<Listen> [ListOf<Sub<Listen>>] = default_listeners();
        /// The socket of the commands that talk to a running server.
        control: Control [Sub<Control>] = default_section("control", reader);
        /// How names are looked up.
        dns: Dns [Sub<Dns>] = default_section("dns", reader);
        /// The log.
        log: Log [Sub<Log>] = default_section("log", reader);
        /// Threads.
        runtime: Runtime [Sub<Runtime>] = default_section("runtime", reader);
        /// What is remembered of each transaction for `waxwing trace`.
        trace: Trace [Sub<Trace>] = default_section("trace", reader);
        /// What clients said, kept for `waxwing replay`; off unless enabled.
        recording: Recording [Sub<Recording>] = default_section("recording", reader);
        /// Tables that plugins may look up by name, besides the ..._maps above.
        tables: BTreeMap<String, Vec<TableSpec>> [MapOf<Tables>] = BTreeMap::new();
        /// Plugins by name, sorted by order; cleanup and aliases are built in and run unless they are disabled.
        plugins: Vec<Plugin> [Plugins] = Plugins::only_builtin(reader);
    }
    extra {
        /// Where each key stands.
        pub(crate) places: Places,
    }
}

impl Config {
    /// Where `path` stands in the file, or the nearest table around it: for faults that show only when the thing is used.
    /// Paths are like `plugins.spam.grants.lookup[0]`.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        self.places.position(path)
    }

    /// The file gives a value for `path`; otherwise it has its default.
    #[must_use]
    pub fn is_given(&self, path: &str) -> bool {
        self.places.get(path).is_some()
    }

    /// The path of the control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.control.socket.clone().unwrap_or_else(|| self.queue_directory.join("control"))
    }

    /// The tables of one of the `..._maps` keys or of `[tables]`; `None` if no such table is configured.
    #[must_use]
    pub fn tables_named(&self, name: &str) -> Option<&[TableSpec]> {
        match name {
            "alias_maps" => Some(&self.alias_maps),
            "virtual_alias_maps" => Some(&self.virtual_alias_maps),
            "virtual_mailbox_maps" => Some(&self.virtual_mailbox_maps),
            "smtpd_sender_login_maps" => Some(&self.smtpd_sender_login_maps),
            "local_recipient_maps" => Some(&self.local_recipient_maps),
            _ => self.tables.get(name).map(Vec::as_slice),
        }
    }

    /// The lists of restrictions by name.
    #[must_use]
    pub fn restrictions(&self) -> [(&'static str, &[Rule]); 7] {
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

    /// A client at `address` may send anywhere.
    #[must_use]
    pub fn in_mynetworks(&self, address: IpAddr) -> bool {
        self.mynetworks.iter().any(|network| network.contains(address))
    }
}

/// `mail.example.com` -> `example.com`; a name of one label stays.
fn parent_domain(hostname: &str) -> String {
    hostname.split_once('.').map_or(hostname, |(_, parent)| parent).to_owned()
}

fn local_domains(hostname: &str, domain: &str) -> Vec<String> {
    let mut domains = vec![hostname.to_owned()];
    for more in [format!("localhost.{domain}"), "localhost".to_owned()] {
        if !domains.contains(&more) {
            domains.push(more);
        }
    }
    domains
}

fn loopback() -> Vec<Network> {
    ["127.0.0.0/8", "[::1]/128"].iter().filter_map(|text| text.parse().ok()).collect()
}

fn system_aliases(exists: fn(&std::path::Path) -> bool) -> Vec<TableSpec> {
    let path = PathBuf::from("/etc/aliases");
    if exists(&path) { vec![TableSpec::Aliases(path)] } else { Vec::new() }
}

fn default_listeners() -> Vec<Listen> {
    vec![Listen::smtp()]
}
