//! Transports `discard` and `error`.

use async_trait::async_trait;
use waxwing_pipeline::{DeliveryResult, Transport};
use waxwing_types::{Attempt, Disposition, EnhancedCode, Message, Status};

use crate::ERROR_TRANSPORT;

/// Transport for dropping all mail, as in tests and benchmarks.
pub struct DiscardTransport;

#[async_trait]
impl Transport for DiscardTransport {
    fn name(&self) -> &str {
        "discard"
    }

    async fn deliver(&self, attempt: &Attempt, _: &Message) -> DeliveryResult {
        let status = Status::local(EnhancedCode::new(2, 0, 0), "discarded");
        DeliveryResult::for_all(attempt, &Disposition::Delivered(status))
    }
}

/// Transport for failing all mail; the next hop is the reason, optionally preceded by an enhanced status code.
pub struct ErrorTransport;

#[async_trait]
impl Transport for ErrorTransport {
    fn name(&self) -> &str {
        ERROR_TRANSPORT
    }

    async fn deliver(&self, attempt: &Attempt, _: &Message) -> DeliveryResult {
        DeliveryResult::for_all(attempt, &parse_error_nexthop(&attempt.next_hop.host))
    }
}

/// Parses the next hop of an `error` route to a disposition.
pub(crate) fn parse_error_nexthop(nexthop: &str) -> Disposition {
    let (first, rest) = nexthop.split_once(' ').unwrap_or((nexthop, ""));
    let (enhanced, text) = match first.parse::<EnhancedCode>() {
        Ok(enhanced) => (enhanced, rest),
        Err(_) => (EnhancedCode::new(5, 0, 0), nexthop),
    };
    let text = if text.is_empty() { "mail to this address is not accepted" } else { text };
    let status = Status::local(enhanced, text);
    match enhanced.class {
        4 => Disposition::Deferred { status, not_before: None },
        _ => Disposition::Failed(Status { enhanced: EnhancedCode { class: 5, ..enhanced }, ..status }),
    }
}
