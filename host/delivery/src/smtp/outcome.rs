//! From a client session's result to dispositions.

use waxwing_smtp::client::{LostReason, Stage};
use waxwing_types::{Disposition, EnhancedCode, Reply, Status};

/// A server's reply about one recipient.
pub(crate) fn replied(reply: &Reply, remote: &str) -> Disposition {
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

/// The connection ended first: always worth another try.
pub(crate) fn lost(stage: Stage, reason: &LostReason, remote: &str) -> Disposition {
    let at = match stage {
        Stage::Greeting => "receiving the greeting",
        Stage::Helo => "sending EHLO",
        Stage::Mail => "sending MAIL FROM",
        Stage::Rcpt => "sending RCPT TO",
        Stage::DataInit => "sending DATA",
        Stage::DataTransfer => "sending the message",
        Stage::DataDone => "sending the end of data; the message may have been taken",
    };
    let (enhanced, what) = match reason {
        LostReason::Eof => ((4, 4, 2), "lost connection".to_owned()),
        LostReason::TimedOut => ((4, 4, 2), "timed out".to_owned()),
        LostReason::Garbage(what) => ((4, 5, 0), format!("not SMTP: {what}")),
        LostReason::Closing(reply) => ((4, 3, 2), reply.to_string()),
        LostReason::Aborted => ((4, 3, 0), "the message can't be read".to_owned()),
        LostReason::Shutdown => ((4, 3, 2), "this server is shutting down".to_owned()),
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
        let d = replied(&Reply::new(550, Some(EnhancedCode::new(5, 1, 1)), "no\nsuch user").unwrap(), "mx[1.2.3.4]:25");
        let Disposition::Failed(status) = d else { panic!("{d:?}") };
        assert_eq!((status.code, status.text.as_str()), (Some(550), "5.1.1 no such user"));
        assert!(matches!(replied(&Reply::plain(250, "ok"), "x"), Disposition::Delivered(s) if s.enhanced.class == 2));
        assert!(matches!(replied(&Reply::plain(450, "later"), "x"), Disposition::Deferred { .. }));
        assert!(matches!(lost(Stage::DataDone, &LostReason::Eof, "x"), Disposition::Deferred { .. }));
    }
}
