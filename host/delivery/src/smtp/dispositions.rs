//! Conversion of client session results to dispositions.

use waxwing_smtp::client::{ClientStage, DisconnectReason, MissingExtension, TlsUnavailable};
use waxwing_types::{Disposition, EnhancedCode, Reply, Status};

/// Converts a server's reply about one recipient.
pub(crate) fn from_reply(reply: &Reply, remote: &str) -> Disposition {
    let class = match reply.code() {
        0..400 => 2,
        400..500 => 4,
        _ => 5,
    };
    let enhanced = reply.enhanced().filter(|e| e.class == class).unwrap_or(EnhancedCode::new(class, 0, 0));
    let status = Status {
        code: Some(reply.code()),
        enhanced,
        remote: Some(remote.to_owned()),
        text: format!("{}{}", reply.enhanced().map(|e| format!("{e} ")).unwrap_or_default(), reply.text().replace('\n', " ")),
    };
    match class {
        2 => Disposition::Delivered(status),
        4 => Disposition::Deferred { status, not_before: None },
        _ => Disposition::Failed(status),
    }
}

/// Connection without the required protection. REQUIRETLS mail is returned (RFC 8689 §5), other mail is deferred until a repair
/// of the server.
pub(crate) fn tls_required(why: &TlsUnavailable, requires_tls: bool, remote: &str) -> Disposition {
    let (detail, text) = match why {
        TlsUnavailable::NotOffered => ((4, 7, 4), format!("TLS is required, but was not offered by {remote}")),
        TlsUnavailable::Refused(reply) => ((4, 7, 4), format!("TLS is required, but {remote} refused STARTTLS: {reply}")),
        TlsUnavailable::NotVerified => ((4, 7, 5), format!("the certificate of {remote} was not verified")),
        TlsUnavailable::NoRequireTls => ((4, 7, 4), format!("{remote} does not offer REQUIRETLS")),
    };
    if requires_tls {
        return tls_unavailable(&text, Some(remote));
    }
    let status =
        Status { code: None, enhanced: EnhancedCode::new(detail.0, detail.1, detail.2), remote: Some(remote.to_owned()), text };
    Disposition::Deferred { status, not_before: None }
}

/// Failure for REQUIRETLS mail: returned to the sender rather than sent unprotected (RFC 8689 §4.2.1, §5).
pub(crate) fn tls_unavailable(why: &str, remote: Option<&str>) -> Disposition {
    let enhanced = EnhancedCode::new(5, 7, 30);
    let text = format!("REQUIRETLS support required: {why}");
    Disposition::Failed(Status { code: None, enhanced, remote: remote.map(str::to_owned), text })
}

/// Failure for an extension missing at the server. `in_address`: an address needs SMTPUTF8.
pub(crate) fn missing_extension(missing: MissingExtension, in_address: bool, why: &str, remote: &str) -> Disposition {
    let ((class, subject, detail), text) = match missing {
        // RFC 6531 §3.5, RFC 3463: X.6.7 for addresses, X.6.9 for the header.
        MissingExtension::SmtpUtf8 if in_address => ((5, 6, 7), format!("{remote} takes no addresses in UTF-8 (SMTPUTF8)")),
        MissingExtension::SmtpUtf8 => ((5, 6, 9), format!("{remote} takes no header in UTF-8 (SMTPUTF8)")),
        // Content types per RFC 6152 §3, RFC 3030 §3.
        MissingExtension::EightBitMime => ((5, 6, 3), format!("{remote} takes no 8-bit content, and {why}")),
        MissingExtension::BinaryMime => ((5, 6, 3), format!("{remote} takes no binary content, and {why}")),
        MissingExtension::RequireTls => return tls_unavailable("not available on the connection", Some(remote)),
    };
    let enhanced = EnhancedCode::new(class, subject, detail);
    Disposition::Failed(Status { code: None, enhanced, remote: Some(remote.to_owned()), text })
}

/// Deferral after a lost connection: always retried.
pub(crate) fn connection_lost(stage: ClientStage, reason: &DisconnectReason, remote: &str) -> Disposition {
    let at = match stage {
        ClientStage::Greeting => "receiving the greeting",
        ClientStage::Helo => "sending EHLO",
        ClientStage::StartTls => "performing the TLS handshake",
        ClientStage::Mail => "sending MAIL FROM",
        ClientStage::Rcpt => "sending RCPT TO",
        ClientStage::DataInit => "sending DATA",
        ClientStage::DataTransfer => "sending the message",
        ClientStage::DataDone => "sending end of data; the message may have been accepted",
    };
    let (enhanced, what) = match reason {
        DisconnectReason::Eof => ((4, 4, 2), "lost connection".to_owned()),
        DisconnectReason::TimedOut => ((4, 4, 2), "timed out".to_owned()),
        DisconnectReason::Garbage(what) => ((4, 5, 0), format!("not SMTP: {what}")),
        DisconnectReason::Closing(reply) => ((4, 3, 2), reply.to_string()),
        DisconnectReason::Aborted => ((4, 3, 0), "message read error".to_owned()),
        DisconnectReason::Shutdown => ((4, 3, 2), "this server is shutting down".to_owned()),
    };
    let status = Status {
        code: None,
        enhanced: EnhancedCode::new(enhanced.0, enhanced.1, enhanced.2),
        remote: Some(remote.to_owned()),
        text: format!("{what} with {remote} while {at}"),
    };
    Disposition::Deferred { status, not_before: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_keep_their_class() {
        let d = from_reply(&Reply::new(550, Some(EnhancedCode::new(5, 1, 1)), "no\nsuch user").unwrap(), "mx[1.2.3.4]:25");
        let Disposition::Failed(status) = d else { panic!("{d:?}") };
        assert_eq!((status.code, status.text.as_str()), (Some(550), "5.1.1 no such user"));
        assert!(matches!(from_reply(&Reply::plain(250, "ok"), "x"), Disposition::Delivered(s) if s.enhanced.class == 2));
        assert!(matches!(from_reply(&Reply::plain(450, "later"), "x"), Disposition::Deferred { .. }));
        assert!(matches!(connection_lost(ClientStage::DataDone, &DisconnectReason::Eof, "x"), Disposition::Deferred { .. }));
    }
}
