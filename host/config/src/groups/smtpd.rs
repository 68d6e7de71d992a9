//! Limits and extensions of SMTP and LMTP server sessions.

use std::time::Duration;

use crate::bare_newline::ForbidBareNewline;
use crate::network::{Network, NetworkValue};
use crate::section::section;
use crate::value::{BoolValue, ByteSize, DurationValue, EnumValue, IntegerValue, ListOf, TextValue};

section! {
    /// Limits and extensions of SMTP and LMTP server sessions.
    pub struct SmtpdConfig (table, reader) {
        /// Maximum size of a message, including the header.
        message_size_limit: u64 [ByteSize<1024>] = 64 << 20;
        /// Maximum size of the header block of a message.
        header_size_limit: u64 [ByteSize<1024>] = 100 << 10;
        /// Maximum length of an SMTP command line in bytes; lines of a message have no limit.
        line_length_limit: usize [IntegerValue<usize, 512, 65536>] = 2048;
        /// Number of Received fields from which a message is considered to loop.
        hopcount_limit: u32 [IntegerValue<u32, 1, 1000>] = 50;
        /// Text of the greeting after 220; $myhostname is expanded.
        smtpd_banner: String [TextValue] = "$myhostname ESMTP Waxwing".to_owned();
        /// Maximum number of recipients of a message; further recipients get 452 and belong into another message.
        smtpd_recipient_limit: usize [IntegerValue<usize, 1, 100_000>] = 1000;
        /// Number of client errors after which the session is closed.
        smtpd_hard_error_limit: u32 [IntegerValue<u32, 1, 10_000>] = 20;
        /// Longest time without input from a client, and longest time for a client to read a reply.
        smtpd_timeout: Duration [DurationValue<100>] = Duration::from_secs(300);
        /// Handling of messages with a bare CR or LF; only CR LF . CR LF ends a message in each case.
        smtpd_forbid_bare_newline: ForbidBareNewline [EnumValue<ForbidBareNewline>] = ForbidBareNewline::Reject;
        /// Networks of clients exempt from smtpd_forbid_bare_newline.
        smtpd_forbid_bare_newline_exclusions: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
        /// Offer PRDR (draft-hall-prdr): clients that request PRDR get a reply for each recipient when a plugin
        /// (on-recipient-message) decides differently for some recipients.
        smtpd_prdr: bool [BoolValue] = true;
        /// Networks of clients, such as proxies, that may send client attributes by XCLIENT.
        smtpd_authorized_xclient_hosts: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
        /// Subset of smtpd_authorized_xclient_hosts that may also send the login name by XCLIENT.
        smtpd_xclient_login_hosts: Vec<Network> [ListOf<NetworkValue>] = Vec::new();
    }
}
