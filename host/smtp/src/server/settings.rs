//! Settings of the sessions of a listener.

use std::time::Duration;

/// Protocol spoken by a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033): LHLO in place of EHLO, and one reply for each recipient at the end of data.
    Lmtp,
}

/// Handling of messages with bare CR or LF (`smtpd_forbid_bare_newline`). In each mode only CR LF . CR LF ends a
/// message: an end of data recognised by only one of two servers allows SMTP smuggling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// Refuses the message.
    #[default]
    Reject,
    /// Replaces each bare CR or LF by CR LF.
    Normalize,
    /// Keeps each bare CR or LF unchanged, without treating either as a line end.
    No,
}

/// Limits, texts and extensions of a server session; Postfix parameter names in brackets. A session keeps the settings
/// of its start; settings changed under load apply to sessions started later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Host name of the server in replies (`myhostname`).
    pub hostname: String,
    /// Text of the 220 greeting; begins with the host name (`smtpd_banner`).
    pub greeting: String,
    /// Protocol of the listener: SMTP or LMTP.
    pub protocol: Protocol,
    /// Maximum octets of a message after removal of dot-stuffing (`message_size_limit`); offered as SIZE.
    pub message_size_max: u64,
    /// Octets read of a refused message beyond `message_size_max` before the connection is closed.
    pub refused_bytes_max: u64,
    /// Maximum accepted recipients of one message; more get 452 (`smtpd_recipient_limit`). Offered in LIMITS as
    /// RCPTMAX.
    pub recipients_max: usize,
    /// Recipients over the limit not yet counted as errors (`smtpd_recipient_overshoot_limit`).
    pub recipients_overshoot_max: usize,
    /// Maximum octets of a command line, CRLF included (`line_length_limit`).
    pub command_line_bytes_max: usize,
    /// Maximum octets of an AUTH command and of each response in the exchange, CRLF included (RFC 4954 §4: 12288).
    pub auth_line_bytes_max: usize,
    /// Negative replies since the last accepted message until 421 (`smtpd_hard_error_limit`).
    pub errors_max: u32,
    /// Number of HELO, RSET, NOOP, VRFY, HELP and empty chunks since the last accepted message before each further such
    /// command counts as an error (`smtpd_junk_command_limit`).
    pub junk_commands_max: u32,
    /// Maximum time from a reply to the end of the next command (`smtpd_timeout`).
    pub command_idle: Duration,
    /// Maximum time between two pieces of a message (`smtpd_timeout`).
    pub data_idle: Duration,
    /// Maximum time from 354, or from a BDAT command, to the end of the message or chunk.
    pub data_total: Duration,
    /// MAIL requires HELO or EHLO (`smtpd_helo_required`).
    pub helo_required: bool,
    /// STARTTLS is offered until the connection is encrypted.
    pub starttls: bool,
    /// Mail is accepted only over an encrypted connection (`smtpd_tls_security_level = encrypt`).
    pub tls_required: bool,
    /// AUTH mechanisms on an encrypted connection, in upper case. Empty: AUTH is not offered there.
    pub auth: Vec<String>,
    /// AUTH mechanisms on a plaintext connection, in upper case.
    pub auth_plaintext: Vec<String>,
    /// MAIL requires AUTH, as on a submission port.
    pub auth_required: bool,
    /// XCLIENT is offered to the client (`smtpd_authorized_xclient_hosts`).
    pub xclient: bool,
    /// SMTPUTF8 is offered (`smtputf8_enable`, RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING and BINARYMIME are offered (RFC 3030).
    pub chunking: bool,
    /// DSN is offered (RFC 3461).
    pub dsn: bool,
    /// REQUIRETLS is offered on an encrypted connection (RFC 8689).
    pub requiretls: bool,
    /// PRDR is offered (draft-hall-prdr): only where the host can answer for each recipient.
    pub prdr: bool,
    /// Handling of bare CR and LF in a message.
    pub bare_newline: BareNewline,
}

impl ServerSettings {
    /// Postfix defaults for the given host name, with all features off that need certificates, users or trust.
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

    /// Returns whether AUTH exists on the listener, possibly only over TLS.
    pub(super) fn has_auth(&self) -> bool {
        !self.auth.is_empty() || !self.auth_plaintext.is_empty()
    }
}
