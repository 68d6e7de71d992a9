//! Message to be sent on one connection: requirements on the server, and the text of the commands.

use std::io::Write as _;

use waxwing_types::{BodyType, DsnReturn, Notify, Recipient, ReversePath};

use super::{JobResult, ServerCapabilities, SizeLimit};

/// Message to be sent on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientJob {
    /// Identifier of the job, chosen by the host.
    pub id: u64,
    /// Reverse-path for MAIL FROM.
    pub sender: ReversePath,
    /// Recipients for RCPT TO, in order; never empty. Servers with DSN also get the DSN parameters.
    pub recipients: Vec<Recipient>,
    /// Octets of header and body.
    pub size: u64,
    /// Type of the body; [`BodyType::BinaryMime`] is sent by BDAT without any change.
    pub body: BodyType,
    /// An address or the header contains UTF-8, as declared by the sender (RFC 6531).
    pub smtputf8: bool,
    /// The message may leave only over verified TLS, and only to a server with REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// RET, for a server that offers DSN.
    pub ret: Option<DsnReturn>,
    /// ENVID as xtext, for a server that offers DSN.
    pub envid: Option<String>,
    /// Address probe: only the replies to MAIL and RCPT are wanted; no message follows, and the host is never asked for
    /// a body.
    pub probe: bool,
}

/// Extension needed by a job and missing on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingExtension {
    /// 8BITMIME (RFC 6152) missing.
    EightBitMime,
    /// BINARYMIME or CHUNKING (RFC 3030) missing.
    BinaryMime,
    /// SMTPUTF8 (RFC 6531) missing.
    SmtpUtf8,
    /// REQUIRETLS missing, or the connection has no TLS with a verified certificate.
    RequireTls,
}

impl ClientJob {
    /// Creates a job for an ASCII message without optional parameters.
    #[must_use]
    pub fn new(id: u64, sender: ReversePath, recipients: Vec<Recipient>, size: u64) -> Self {
        let (smtputf8, require_tls, ret, envid, probe) = (false, false, None, None, false);
        Self { id, sender, recipients, size, body: BodyType::SevenBit, smtputf8, require_tls, ret, envid, probe }
    }

    /// Returns whether DATA follows RCPT at once.
    pub(super) fn sends_data_command(&self) -> bool {
        !self.probe && !self.uses_bdat()
    }

    /// Returns whether the message is sent by BDAT.
    pub(super) fn uses_bdat(&self) -> bool {
        self.body == BodyType::BinaryMime
    }

    /// Returns the result of a job that can't be sent to the server, else `None`. `verified`: the connection is
    /// encrypted and the certificate of the server verified.
    pub(super) fn unsupported_by(&self, server: &ServerCapabilities, verified: bool) -> Option<JobResult> {
        let size_limit = match server.size {
            Some(SizeLimit::Octets(limit)) => limit,
            Some(SizeLimit::Unstated) | None => u64::MAX,
        };
        let recipients_max = server.limits.rcpt_max.unwrap_or(usize::MAX);
        let missing = |extension| Some(JobResult::Unsupported(extension));
        if self.recipients.is_empty() {
            Some(JobResult::Replied(Vec::new()))
        } else if self.require_tls && !(verified && server.require_tls) {
            missing(MissingExtension::RequireTls)
        } else if self.smtputf8 && !server.smtputf8 {
            missing(MissingExtension::SmtpUtf8)
        } else if self.body == BodyType::BinaryMime && !(server.binary_mime && server.chunking) {
            missing(MissingExtension::BinaryMime)
        } else if self.body == BodyType::EightBitMime && !server.eight_bit_mime {
            missing(MissingExtension::EightBitMime)
        } else if self.size > size_limit {
            Some(JobResult::TooLarge { server_limit: size_limit })
        } else if self.recipients.len() > recipients_max {
            Some(JobResult::TooManyRecipients { server_limit: recipients_max })
        } else {
            None
        }
    }

    /// Writes MAIL with the parameters supported by the server.
    pub(super) fn write_mail(&self, server: &ServerCapabilities, out: &mut Vec<u8>) {
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
                Some(DsnReturn::Full) => out.extend_from_slice(b" RET=FULL"),
                Some(DsnReturn::Headers) => out.extend_from_slice(b" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = self.envid.as_deref().filter(|envid| is_parameter_value(envid)) {
                let _ = write!(out, " ENVID={envid}");
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Writes RCPT for the recipient with the given index; `false` if there is none.
    pub(super) fn write_rcpt(&self, index: usize, server: &ServerCapabilities, out: &mut Vec<u8>) -> bool {
        let Some(recipient) = self.recipients.get(index) else { return false };
        let _ = write!(out, "RCPT TO:<{}>", recipient.address);
        if server.dsn {
            write_notify(recipient.notify, out);
            if let Some(original) = &recipient.original {
                self.write_orcpt(original, out);
            }
        }
        out.extend_from_slice(b"\r\n");
        true
    }
}

impl ClientJob {
    /// Writes ORCPT. An original recipient without address type is the address replaced by an alias (RFC 3461 §4.2).
    fn write_orcpt(&self, original: &str, out: &mut Vec<u8>) {
        match original.split_once(';') {
            Some((kind, address))
                if is_address_type(kind) && (is_parameter_value(address) || self.smtputf8 && is_utf8_address(address)) =>
            {
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

/// Returns whether a stored text may be written as a parameter value. Guards against command injection from stored
/// data.
fn is_parameter_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'=')
}

fn is_address_type(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Returns whether a text may be a `utf-8` address, with UTF-8 allowed (RFC 6533 §3).
fn is_utf8_address(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
