//! Delivery status notifications, DSNs (RFC 3461, RFC 3464): text for people, fields for programs, and the returned
//! message.

use std::fmt::Write;

use bytes::Bytes;
use waxwing_types::{Address, BodyType, DsnReturn, Envelope, Origin, QueueId, Recipient, ReversePath, Source, Status, Timestamp};

use crate::date::rfc5322_date;
use crate::trace_fields::message_id_value;

/// Maximum number of octets of a remote server's reply text repeated in a DSN, for each recipient.
const DIAGNOSTIC_BYTES_MAX: usize = 2000;
/// Column at which long field values are folded at white space.
const FOLD_COLUMN: usize = 76;

/// Action field of a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsnAction {
    /// Delivery has failed permanently.
    Failed,
    /// Not delivered yet; delivery is retried until the given time.
    Delayed {
        /// Time at which delivery is given up.
        until: Timestamp,
    },
    /// Delivered to a local mailbox.
    Delivered,
    /// Relayed to a server without DSN support.
    Relayed,
    /// Expanded by an alias to several recipients, to be delivered to each.
    Expanded,
}

impl DsnAction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed { .. } => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

/// Recipient listed in a DSN.
#[derive(Clone, Debug)]
pub struct DsnRecipient<'a> {
    /// Recipient of the original message.
    pub recipient: &'a Recipient,
    /// Action reported for the recipient.
    pub action: DsnAction,
    /// Status of the last delivery attempt.
    pub status: &'a Status,
    /// Time of the last delivery attempt.
    pub last_attempt: Timestamp,
}

/// Input for a DSN.
#[derive(Clone, Debug)]
pub struct DsnBuilder<'a> {
    /// Host name of the server (Reporting-MTA).
    pub reporting_mta: &'a str,
    /// Recipient of the DSN: the sender of the original message.
    pub recipient: &'a Address,
    /// Queue id of the DSN.
    pub dsn_queue_id: QueueId,
    /// Time of creation of the DSN.
    pub created_at: Timestamp,
    /// Queue id of the original message.
    pub original_queue_id: QueueId,
    /// Arrival time of the original message.
    pub arrived_at: Timestamp,
    /// ENVID of MAIL, as xtext.
    pub envid: Option<&'a str>,
    /// Recipients to report; at least one.
    pub recipients: &'a [DsnRecipient<'a>],
    /// RET of MAIL; with `None` the whole message is returned if small enough.
    pub ret: Option<DsnReturn>,
    /// The message came with SMTPUTF8: the header may contain UTF-8.
    pub smtputf8: bool,
    /// Header block of the original message, with or without the empty line after the header.
    pub header: &'a [u8],
    /// Body of the original message, if the body may be returned and is within `bounce_size_limit`; otherwise only the
    /// header is returned.
    pub body: Option<&'a [u8]>,
}

/// Finished DSN message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsn {
    /// Message with CRLF line ends; sent from `<>`.
    pub content: Bytes,
    /// Contains octets above 127, from the returned message.
    pub eight_bit: bool,
    /// The recipient address of the DSN is in UTF-8: SMTPUTF8 is required.
    pub smtputf8: bool,
}

impl Dsn {
    /// Envelope of the DSN: from `<>` to the sender of the original message. `require_tls`: the original message had
    /// REQUIRETLS.
    #[must_use]
    pub fn envelope(&self, to: Address, require_tls: bool, now: Timestamp) -> Envelope {
        Envelope {
            sender: ReversePath::Null,
            recipients: vec![Recipient::new(to)],
            body_type: if self.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
            ret: None,
            envid: None,
            smtputf8: self.smtputf8,
            require_tls,
            origin: Origin::internal(Source::Dsn, now),
        }
    }
}

impl DsnBuilder<'_> {
    /// Builds the message.
    #[must_use]
    pub fn build(&self) -> Dsn {
        let returned_body = self.body.filter(|_| self.ret != Some(DsnReturn::Headers));
        let header = strip_separator(self.header);
        let global = self.is_global(header);
        let eight_bit = global || !header.is_ascii() || returned_body.is_some_and(|body| !body.is_ascii());
        let boundary = self.boundary(header, returned_body);
        let mut out = String::with_capacity(4096);
        self.write_header(&mut out, &boundary, eight_bit);
        let encoding = if global { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
        _ = write!(
            out,
            "--{boundary}\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\n{encoding}\r\n"
        );
        self.write_text(&mut out);
        _ = write!(
            out,
            "\r\n--{boundary}\r\nContent-Description: Delivery report\r\nContent-Type: message/{}\r\n{}\r\n",
            if global { "global-delivery-status" } else { "delivery-status" },
            encoding,
        );
        self.write_delivery_status(&mut out, global);
        _ = write!(out, "\r\n--{boundary}\r\n");
        let undelivered = matches!(self.recipients.first().map(|r| r.action), Some(DsnAction::Failed) | None);
        let undelivered = if undelivered { "Undelivered " } else { "" };
        let (part_name, media_type) = match (returned_body.is_some(), self.smtputf8 && !header.is_ascii()) {
            (true, false) => ("Message", "message/rfc822"),
            (true, true) => ("Message", "message/global"),
            (false, false) => ("Message Headers", "text/rfc822-headers"),
            (false, true) => ("Message Headers", "message/global-headers"),
        };
        _ = write!(out, "Content-Description: {undelivered}{part_name}\r\nContent-Type: {media_type}\r\n");
        _ = write!(out, "Content-Transfer-Encoding: {}\r\n\r\n", if eight_bit { "8bit" } else { "7bit" });
        let mut content = out.into_bytes();
        content.extend_from_slice(header);
        if let Some(body) = returned_body {
            content.extend_from_slice(b"\r\n");
            content.extend_from_slice(body);
        }
        if !content.ends_with(b"\r\n") {
            content.extend_from_slice(b"\r\n");
        }
        content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Dsn { content: content.into(), eight_bit, smtputf8: !is_ascii_address(self.recipient) }
    }

    /// Returns whether the fields of the DSN are in UTF-8 (RFC 6533 §4).
    fn is_global(&self, header: &[u8]) -> bool {
        let utf8 = |r: &DsnRecipient<'_>| {
            !is_ascii_address(&r.recipient.address) || r.recipient.original.as_ref().is_some_and(|original| !original.is_ascii())
        };
        !is_ascii_address(self.recipient) || self.recipients.iter().any(utf8) || (self.smtputf8 && !header.is_ascii())
    }

    /// Boundary not contained in the returned message.
    fn boundary(&self, header: &[u8], body: Option<&[u8]>) -> String {
        let mut boundary = format!("{}.{}/report", self.dsn_queue_id, self.created_at.as_millis());
        let occurs = |boundary: &str| {
            let found = |text: &[u8]| memchr::memmem::find(text, boundary.as_bytes()).is_some();
            found(header) || body.is_some_and(found)
        };
        while occurs(&boundary) {
            boundary.push('=');
        }
        boundary
    }

    fn write_header(&self, out: &mut String, boundary: &str, eight_bit: bool) {
        let host = self.reporting_mta;
        let subject = match self.recipients.first().map(|r| r.action) {
            Some(DsnAction::Delayed { .. }) => "Delayed Mail (still being retried)",
            Some(DsnAction::Delivered | DsnAction::Relayed | DsnAction::Expanded) => "Successful Mail Delivery Report",
            Some(DsnAction::Failed) | None => "Undelivered Mail Returned to Sender",
        };
        _ = write!(
            out,
            "Date: {}\r\nFrom: Mail Delivery System <MAILER-DAEMON@{host}>\r\nSubject: {subject}\r\nTo: {}\r\n\
             Message-ID: {}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\
             Content-Transfer-Encoding: {}\r\n\r\nThis is a MIME-encapsulated message.\r\n\r\n",
            rfc5322_date(self.created_at),
            self.recipient,
            message_id_value(self.created_at, self.dsn_queue_id, host),
            if eight_bit { "8bit" } else { "7bit" },
        );
    }

    fn write_text(&self, out: &mut String) {
        _ = write!(out, "This is the mail system at host {}.\r\n\r\n", self.reporting_mta);
        out.push_str(match self.recipients.first().map(|r| r.action) {
            Some(DsnAction::Delayed { .. }) => {
                "Your message could not be delivered yet to the recipients below.\r\nIt will be retried; you need not send it again.\r\n"
            }
            Some(DsnAction::Delivered | DsnAction::Relayed) => {
                "Your message was delivered to the recipients below, or handed to a server\r\nthat sends no such reports.\r\n"
            }
            Some(DsnAction::Expanded) => {
                "Your message was accepted for the addresses below, each of which stands for\r\nseveral others. It goes on to them; you will not hear of each that gets it.\r\n"
            }
            Some(DsnAction::Failed) | None => {
                "Your message could not be delivered to the recipients below.\r\nThe reason stands behind each; what is known of the message is attached.\r\n"
            }
        });
        for reported in self.recipients {
            let address = &reported.recipient.address;
            let from = reported.recipient.original.as_deref().map(orcpt_address);
            let from = from.filter(|text| *text != address.to_string());
            let from = from.map_or(String::new(), |text| format!(" (expanded from <{text}>)"));
            let diagnostic = match &reported.status.remote {
                Some(remote) => format!("host {} said: {}", one_line(remote), diagnostic_text(reported.status)),
                None => diagnostic_text(reported.status),
            };
            _ = write!(out, "\r\n{}\r\n", fold(&format!("<{address}>{from}: {diagnostic}"), "\r\n    "));
        }
    }

    /// Writes the delivery-status part (RFC 3464 §2): a block for the message, and a block for each recipient.
    fn write_delivery_status(&self, out: &mut String, global: bool) {
        _ = write!(out, "Reporting-MTA: dns; {}\r\n", self.reporting_mta);
        if let Some(envid) = self.envid {
            write_field(out, "Original-Envelope-Id", &decode_xtext(envid), global);
        }
        _ = write!(out, "X-Waxwing-Queue-ID: {}\r\nArrival-Date: {}\r\n", self.original_queue_id, rfc5322_date(self.arrived_at));
        let put_field = |out: &mut String, name: &str, value: &str| write_field(out, name, value, global);
        for reported in self.recipients {
            out.push_str("\r\n");
            if let Some(original) = &reported.recipient.original {
                let (kind, address) = original.split_once(';').unwrap_or(("rfc822", original));
                let kind = if address.is_ascii() { kind } else { "utf-8" };
                put_field(out, "Original-Recipient", &format!("{kind};{}", decode_xtext(address)));
            }
            // RFC 6533 §3: addresses in UTF-8 have the address type `utf-8`.
            let kind = if is_ascii_address(&reported.recipient.address) { "rfc822" } else { "utf-8" };
            put_field(out, "Final-Recipient", &format!("{kind}; {}", reported.recipient.address));
            let enhanced = reported.status.enhanced;
            _ = write!(out, "Action: {}\r\nStatus: {enhanced}\r\n", reported.action.as_str());
            if let Some(remote) = &reported.status.remote {
                put_field(out, "Remote-MTA", &format!("dns; {}", one_line(remote)));
            }
            let kind = if reported.status.code.is_some() { "smtp" } else { "X-Waxwing" };
            put_field(out, "Diagnostic-Code", &format!("{kind}; {}", diagnostic_text(reported.status)));
            put_field(out, "Last-Attempt-Date", &rfc5322_date(reported.last_attempt));
            if let DsnAction::Delayed { until } = reported.action {
                put_field(out, "Will-Retry-Until", &rfc5322_date(until));
            }
        }
    }
}

/// Formats the reply of the server, as `550 5.1.1 no such user`.
fn diagnostic_text(status: &Status) -> String {
    let text = one_line(&status.text);
    match status.code {
        Some(code) => format!("{code} {text}"),
        None => text,
    }
}

fn is_ascii_address(address: &Address) -> bool {
    address.local().is_ascii() && address.domain().is_ascii()
}

/// Writes a field; with `global` the value may contain UTF-8.
fn write_field(out: &mut String, name: &str, value: &str, global: bool) {
    let line = format!("{name}: {}", if global { one_line_utf8(value) } else { one_line(value) });
    _ = write!(out, "{}\r\n", fold(&line, "\r\n    "));
}

/// Printable text on one line, limited in length.
fn one_line_utf8(text: &str) -> String {
    let plain = |c: char| if c.is_control() || c.is_whitespace() { ' ' } else { c };
    text.chars().take(DIAGNOSTIC_BYTES_MAX).map(plain).collect::<String>().trim_end().to_owned()
}

/// Printable ASCII on one line, limited in length.
fn one_line(text: &str) -> String {
    let plain = |c: char| match c {
        '\r' | '\n' | '\t' => ' ',
        c if c.is_ascii_graphic() || c == ' ' => c,
        _ => '?',
    };
    text.chars().take(DIAGNOSTIC_BYTES_MAX).map(plain).collect::<String>().trim_end().to_owned()
}

/// Folds before a space once a line is long; a word longer than a line is not broken.
fn fold(text: &str, line_break: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = 0;
    for (number, word) in text.split(' ').enumerate() {
        if number > 0 && column > 0 && column + word.len() >= FOLD_COLUMN && !word.is_empty() {
            out.push_str(line_break);
            column = 4;
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// Address of an ORCPT value `rfc822;xtext`, or the text itself.
fn orcpt_address(original: &str) -> String {
    one_line_utf8(&decode_xtext(original.split_once(';').map_or(original, |(_, address)| address)))
}

/// Decodes xtext (RFC 3461 §4): `+2B` -> `+`. Malformed parts stay unchanged.
fn decode_xtext(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('+') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let hex = tail.get(1..3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii_graphic() || byte == b' ' => {
                out.push(char::from(byte));
                rest = tail.get(3..).unwrap_or("");
            }
            Some(_) | None => {
                out.push('+');
                rest = tail.get(1..).unwrap_or("");
            }
        }
    }
    out.push_str(rest);
    out
}

/// Strips the empty line from the end of a stored header.
fn strip_separator(header: &[u8]) -> &[u8] {
    match header {
        b"\r\n" => b"",
        _ if header.ends_with(b"\r\n\r\n") => header.get(..header.len() - 2).unwrap_or(header),
        _ => header,
    }
}

#[cfg(test)]
mod tests;
