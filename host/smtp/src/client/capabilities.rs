//! Server capabilities from the reply to EHLO.

use waxwing_types::Reply;

/// Maximum number of AUTH mechanisms kept.
const MECHANISMS_MAX: usize = 32;

/// Capabilities announced by a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCapabilities {
    /// First word of the reply to EHLO or HELO, else of the greeting.
    pub name: String,
    /// EHLO was accepted.
    pub esmtp: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// CHUNKING (RFC 3030): BDAT.
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_codes: bool,
    /// AUTH (RFC 4954): mechanisms in upper case.
    pub auth: Vec<String>,
    /// LIMITS (RFC 9422).
    pub limits: ServerLimits,
    /// SIZE (RFC 1870): offered, with the limit if there is one.
    pub size: Option<SizeLimit>,
}

/// Value of SIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeLimit {
    /// No number, or 0.
    Unstated,
    /// Limit in octets.
    Octets(u64),
}

/// Values of LIMITS (RFC 9422 §4); a limit of 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// MAILMAX: transactions of one connection.
    pub mail_max: Option<usize>,
    /// RCPTMAX: recipients of one transaction.
    pub rcpt_max: Option<usize>,
}

impl ServerCapabilities {
    /// Parses the reply to EHLO or LHLO. Unknown keywords are ignored.
    pub(super) fn from_ehlo_reply(reply: &Reply) -> Self {
        let mut server = Self { name: first_word(reply), esmtp: true, ..Self::default() };
        for line in reply.text().split('\n').skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            server.apply_keyword(&keyword, words);
        }
        server
    }

    fn apply_keyword<'a>(&mut self, keyword: &str, mut values: impl Iterator<Item = &'a str>) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "CHUNKING" => self.chunking = true,
            "BINARYMIME" => self.binary_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "REQUIRETLS" => self.require_tls = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_codes = true,
            "SIZE" => {
                let limit = values.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                self.size = Some(limit.map_or(SizeLimit::Unstated, SizeLimit::Octets));
            }
            "AUTH" => self.auth.extend(values.take(MECHANISMS_MAX).map(str::to_ascii_uppercase)),
            "LIMITS" => {
                for (name, value) in values.filter_map(|limit| limit.split_once('=')) {
                    let value = value.parse().ok().filter(|n| *n > 0);
                    match name.to_ascii_uppercase().as_str() {
                        "MAILMAX" => self.limits.mail_max = value,
                        "RCPTMAX" => self.limits.rcpt_max = value,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        self.auth.truncate(MECHANISMS_MAX);
    }
}

pub(super) fn first_word(reply: &Reply) -> String {
    reply.text().split_ascii_whitespace().next().unwrap_or_default().to_owned()
}
