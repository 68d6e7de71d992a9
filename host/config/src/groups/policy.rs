//! Restrictions on clients, senders and recipients, and policy services.

use std::time::Duration;

use crate::restriction::{DnsList, DnsListValue, Restriction, RestrictionList};
use crate::section::section;
use crate::table::{TableSpec, TableSpecList};
use crate::value::{BoolValue, DurationValue, IntegerValue, ListOf, TextValue};

section! {
    /// Restrictions on clients, senders and recipients, and policy services.
    pub struct PolicyConfig (table, reader) {
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
    }
}
