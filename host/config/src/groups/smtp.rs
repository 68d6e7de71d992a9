//! Time-outs and TLS of the SMTP client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use waxwing_types::TlsLevel;

use crate::groups::GeneralConfig;
use crate::section::section;
use crate::value::{DomainValue, DurationValue, EnumValue, IntegerValue, MapOf, OptionalValue, PathValue};

section! {
    /// Time-outs and TLS of the SMTP client.
    pub struct SmtpConfig (table, reader, general: &GeneralConfig) {
        /// Name of this server in EHLO to other servers.
        smtp_helo_name: String [DomainValue] = general.myhostname.clone(), derived "myhostname";
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
    }
}
