//! `discard` and `error`.

use async_trait::async_trait;
use waxwing_pipeline::{Handed, Transport};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, Status};

use crate::ERROR;

/// Takes everything and keeps nothing; for tests and measurements.
pub struct Discard;

#[async_trait]
impl Transport for Discard {
    fn name(&self) -> &str {
        "discard"
    }

    async fn deliver(&self, attempt: &Attempt, _: &Message) -> Handed {
        let status = Status::local(EnhancedCode::new(2, 0, 0), "discarded");
        Handed::all(attempt, &Disposition::Delivered(status))
    }
}

/// Returns everything to its sender; the next hop says why, with an enhanced status code in front if it has one.
pub struct ErrorTransport;

#[async_trait]
impl Transport for ErrorTransport {
    fn name(&self) -> &str {
        ERROR
    }

    async fn deliver(&self, attempt: &Attempt, _: &Message) -> Handed {
        Handed::all(attempt, &returned(&attempt.hop.host))
    }
}

/// What the words of a route to `error` mean.
pub(crate) fn returned(words: &str) -> Disposition {
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    let (enhanced, text) = match first.parse::<EnhancedCode>() {
        Ok(enhanced) => (enhanced, rest),
        Err(_) => (EnhancedCode::new(5, 0, 0), words),
    };
    let text = if text.is_empty() { "mail to this address is not accepted" } else { text };
    let status = Status::local(enhanced, text);
    match enhanced.class {
        4 => Disposition::Deferred { status, not_before: None },
        _ => Disposition::Failed(Status { enhanced: EnhancedCode { class: 5, ..enhanced }, ..status }),
    }
}
