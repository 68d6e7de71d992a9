//! One message for one connection: what it needs of the server, and how its commands are written.

use std::io::Write as _;

use waxwing_types::{BodyType, Notify, Recipient, Return, ReversePath};

use super::{JobResult, ServerInfo, SizeLimit};

/// One message for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The host's name for it.
    pub id: u64,
    /// MAIL FROM.
    pub sender: ReversePath,
    /// RCPT TO, in order; never empty. Their DSN parameters are said to a server that offers DSN.
    pub recipients: Vec<Recipient>,
    /// Octets of head and body.
    pub size: u64,
    /// What the body is: with [`BodyType::BinaryMime`] it goes by BDAT, octet for octet.
    pub body: BodyType,
    /// An address or the header has UTF-8 in it, and the sender declared it (RFC 6531).
    pub smtputf8: bool,
    /// It leaves only over verified TLS, and only to a server that promises the same (RFC 8689).
    pub require_tls: bool,
    /// RET, for a server that offers DSN.
    pub ret: Option<Return>,
    /// ENVID as xtext, for a server that offers DSN.
    pub envid: Option<String>,
    /// Only to learn what the server says to MAIL and RCPT: no message follows, and nobody is asked for one.
    pub probe: bool,
}

/// What a server lacks that a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// 8BITMIME.
    EightBitMime,
    /// BINARYMIME, or CHUNKING.
    BinaryMime,
    /// SMTPUTF8.
    SmtpUtf8,
    /// REQUIRETLS, or the connection is not encrypted with a certificate that was verified.
    RequireTls,
}

impl Job {
    /// A message of ASCII, without wishes.
    #[must_use]
    pub fn new(id: u64, sender: ReversePath, recipients: Vec<Recipient>, size: u64) -> Self {
        let (smtputf8, require_tls, ret, envid, probe) = (false, false, None, None, false);
        Self { id, sender, recipients, size, body: BodyType::SevenBit, smtputf8, require_tls, ret, envid, probe }
    }

    /// DATA follows RCPT at once.
    pub(super) fn asks_for_data(&self) -> bool {
        !self.probe && !self.is_chunked()
    }

    /// It goes by BDAT.
    pub(super) fn is_chunked(&self) -> bool {
        self.body == BodyType::BinaryMime
    }

    /// Why it can't be sent to this server. `verified`: the connection is encrypted and the server is who we meant.
    pub(super) fn refused_by(&self, server: &ServerInfo, verified: bool) -> Option<JobResult> {
        let size_limit = match server.size {
            Some(SizeLimit::Octets(limit)) => limit,
            Some(SizeLimit::Unstated) | None => u64::MAX,
        };
        let recipients_max = server.limits.rcpt_max.unwrap_or(usize::MAX);
        let missing = |what| Some(JobResult::Unsupported(what));
        if self.recipients.is_empty() {
            Some(JobResult::Replied(Vec::new()))
        } else if self.require_tls && !(verified && server.require_tls) {
            missing(Missing::RequireTls)
        } else if self.smtputf8 && !server.smtputf8 {
            missing(Missing::SmtpUtf8)
        } else if self.body == BodyType::BinaryMime && !(server.binary_mime && server.chunking) {
            missing(Missing::BinaryMime)
        } else if self.body == BodyType::EightBitMime && !server.eight_bit_mime {
            missing(Missing::EightBitMime)
        } else if self.size > size_limit {
            Some(JobResult::TooLarge { server_limit: size_limit })
        } else if self.recipients.len() > recipients_max {
            Some(JobResult::TooManyRecipients { server_limit: recipients_max })
        } else {
            None
        }
    }

    /// MAIL with the parameters that this server understands.
    pub(super) fn write_mail(&self, server: &ServerInfo, out: &mut Vec<u8>) {
        let _ = write!(out, "MAIL FROM:<{}>", self.sender);
        if server.size.is_some() {
            let _ = write!(out, " SIZE={}", self.size);
        }
        match self.body {
            BodyType::BinaryMime => out.extend_from_slice(b" BODY=BINARYMIME"),
            // RFC 6531 §3.6: a header in UTF-8 is 8-bit content too.
            BodyType::SevenBit if !self.smtputf8 => {}
            BodyType::EightBitMime | BodyType::SevenBit if server.eight_bit_mime => out.extend_from_slice(b" BODY=8BITMIME"),
            BodyType::EightBitMime | BodyType::SevenBit => {}
        }
        if self.smtputf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if self.require_tls {
            out.extend_from_slice(b" REQUIRETLS");
        }
        if server.dsn {
            match self.ret {
                Some(Return::Full) => out.extend_from_slice(b" RET=FULL"),
                Some(Return::Headers) => out.extend_from_slice(b" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = self.envid.as_deref().filter(|envid| is_xtext(envid)) {
                let _ = write!(out, " ENVID={envid}");
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// RCPT for the recipient at this place; false if there is none.
    pub(super) fn write_rcpt(&self, place: usize, server: &ServerInfo, out: &mut Vec<u8>) -> bool {
        let Some(recipient) = self.recipients.get(place) else { return false };
        let _ = write!(out, "RCPT TO:<{}>", recipient.address);
        if server.dsn {
            write_notify(recipient.notify, out);
            if let Some(original) = &recipient.original {
                self.write_original(original, out);
            }
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}

impl Job {
    /// An original that has no type is the address that an alias replaced (RFC 3461 §4.2).
    fn write_original(&self, original: &str, out: &mut Vec<u8>) {
        match original.split_once(';') {
            Some((kind, address)) if is_word(kind) && (is_xtext(address) || self.smtputf8 && is_line(address)) => {
                let _ = write!(out, " ORCPT={kind};{address}");
            }
            None if original.is_ascii() && !original.is_empty() => {
                out.extend_from_slice(b" ORCPT=rfc822;");
                for byte in original.bytes() {
                    match byte {
                        b'+' | b'=' | ..=b' ' | 0x7f.. => drop(write!(out, "+{byte:02X}")),
                        _ => out.push(byte),
                    }
                }
            }
            Some(_) | None => {}
        }
    }
}

fn write_notify(notify: Notify, out: &mut Vec<u8>) {
    let (success, failure, delay) = match notify {
        Notify::Default => return,
        Notify::Never => return out.extend_from_slice(b" NOTIFY=NEVER"),
        Notify::On { success, failure, delay } => (success, failure, delay),
    };
    let mut separator = " NOTIFY=";
    for word in [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")].iter().filter(|w| w.0).map(|w| w.1) {
        let _ = write!(out, "{separator}{word}");
        separator = ",";
    }
}

/// What may stand in a command as the value of a parameter: nothing of what is stored may begin a command of its own.
fn is_xtext(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `utf-8` addresses may have UTF-8 in them (RFC 6533 §3).
fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
