//! What a listener's sessions are set to.

use std::time::Duration;

/// Which protocol a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO in place of EHLO, and at the end of a message one reply for each recipient.
    Lmtp,
}

/// What becomes of a message with a CR or LF that stands alone (`smtpd_forbid_bare_newline`). In each mode only CR LF . CR LF ends a
/// message: what is no such end on one server and is one on another smuggles mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// It is refused.
    #[default]
    Reject,
    /// Each becomes CR LF.
    Normalize,
    /// Each stays as it is, and is no line end to us.
    No,
}

/// Limits, words and extensions of a server session. Names in brackets are Postfix's. A session keeps those that it began with: what
/// changes under load is another set for the sessions that begin then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Our name in replies (`myhostname`).
    pub hostname: String,
    /// The text of the 220 greeting; begins with the host name (`smtpd_banner`).
    pub greeting: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Octets of a message, dot-stuffing undone (`message_size_limit`); offered as SIZE.
    pub message_size_max: u64,
    /// Octets that are still read of a message that is refused already, beyond `message_size_max`, before the connection
    /// is closed instead.
    pub refused_bytes_max: u64,
    /// Accepted recipients of one message; more get 452 (`smtpd_recipient_limit`). Offered in LIMITS as RCPTMAX.
    pub recipients_max: usize,
    /// Recipients over the limit that do not count as errors yet (`smtpd_recipient_overshoot_limit`).
    pub recipients_overshoot_max: usize,
    /// Octets of a command line, CRLF included (`line_length_limit`).
    pub command_line_bytes_max: usize,
    /// Octets of an AUTH command and of each response in its exchange, CRLF included (RFC 4954 §4: 12288).
    pub auth_line_bytes_max: usize,
    /// Negative replies since the last accepted message before 421 (`smtpd_hard_error_limit`).
    pub errors_max: u32,
    /// HELO, RSET, NOOP, VRFY, HELP and empty chunks since the last accepted message before each counts as an error
    /// (`smtpd_junk_command_limit`).
    pub junk_commands_max: u32,
    /// From one reply to the end of the next command (`smtpd_timeout`).
    pub command_idle: Duration,
    /// From one piece of a message to the next (`smtpd_timeout`).
    pub data_idle: Duration,
    /// From 354, or from one BDAT command, to the end of the message or chunk.
    pub data_total: Duration,
    /// MAIL needs HELO or EHLO first (`smtpd_helo_required`).
    pub helo_required: bool,
    /// STARTTLS is offered, until the connection is encrypted.
    pub starttls: bool,
    /// Mail only over an encrypted connection (`smtpd_tls_security_level = encrypt`).
    pub tls_required: bool,
    /// Mechanisms that AUTH takes over an encrypted connection, in upper case. None: AUTH is not offered there.
    pub auth: Vec<String>,
    /// Mechanisms that AUTH takes over a plain connection, in upper case.
    pub auth_plaintext: Vec<String>,
    /// MAIL needs AUTH first, as on a submission port.
    pub auth_required: bool,
    /// XCLIENT is offered (`smtpd_authorized_xclient_hosts` names this client).
    pub xclient: bool,
    /// SMTPUTF8 is offered (`smtputf8_enable`, RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING and BINARYMIME are offered (RFC 3030).
    pub chunking: bool,
    /// DSN is offered (RFC 3461).
    pub dsn: bool,
    /// REQUIRETLS is offered, over an encrypted connection (RFC 8689).
    pub requiretls: bool,
    /// PRDR is offered (draft-hall-prdr): to be said only where the host can answer for each recipient.
    pub prdr: bool,
    /// What becomes of bare CR and LF in a message.
    pub bare_newline: BareNewline,
}

impl ServerSettings {
    /// Postfix's defaults for this host name, without what needs certificates, users or trust.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        let hostname = hostname.into();
        Self {
            greeting: format!("{hostname} ESMTP Waxwing"),
            hostname,
            protocol: Protocol::Smtp,
            message_size_max: 52_428_800,
            refused_bytes_max: 10_485_760,
            recipients_max: 1000,
            recipients_overshoot_max: 1000,
            command_line_bytes_max: 2048,
            auth_line_bytes_max: 12_288,
            errors_max: 20,
            junk_commands_max: 100,
            command_idle: Duration::from_secs(300),
            data_idle: Duration::from_secs(300),
            data_total: Duration::from_secs(7200),
            helo_required: true,
            starttls: false,
            tls_required: false,
            auth: Vec::new(),
            auth_plaintext: Vec::new(),
            auth_required: false,
            xclient: false,
            smtputf8: true,
            chunking: true,
            dsn: true,
            requiretls: true,
            prdr: false,
            bare_newline: BareNewline::Reject,
        }
    }

    /// AUTH exists on this listener, be it only over an encrypted connection.
    pub(super) fn has_auth(&self) -> bool {
        !self.auth.is_empty() || !self.auth_plaintext.is_empty()
    }
}
