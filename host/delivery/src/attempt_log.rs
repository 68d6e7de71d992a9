//! Delivery log: a line for each recipient of each attempt, with the fields of Postfix's line.

use std::fmt;
use std::time::Duration;

use waxwing_types::{Attempt, Disposition, Message, Timestamp};

/// Times of the phases of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttemptTimes {
    /// Start of the message's SMTP transaction.
    pub(crate) received_at: Timestamp,
    /// Activation of the unit by the queue manager.
    pub(crate) activated_at: Timestamp,
    /// Start of the attempt.
    pub(crate) started_at: Timestamp,
    /// End of the attempt.
    pub(crate) ended_at: Timestamp,
    /// Time from the start of the attempt until a connection was established.
    pub(crate) setup: Duration,
}

pub(crate) fn log_disposition(attempt: &Attempt, message: &Message, index: u32, disposition: &Disposition, times: &AttemptTimes) {
    let status = disposition.status();
    let status_name = match disposition {
        Disposition::Delivered(_) => "sent",
        Disposition::Deferred { .. } => "deferred",
        Disposition::Failed(_) => "bounced",
    };
    let recipient = message.envelope.recipients.get(index as usize);
    let to: &dyn fmt::Display = recipient.map_or(&"", |recipient| &recipient.address);
    let original = recipient.and_then(|r| r.original.as_deref()).unwrap_or_default();
    let relay = status.remote.as_deref().unwrap_or(&attempt.next_hop.transport);
    let code = status.code.map(|code| format!("{code} ")).unwrap_or_default();
    tracing::info!(
        target: "delivery",
        "{id}: to=<{to}>,{orig} relay={relay}, delay={delay}, delays={delays}, dsn={dsn}, status={status_name} ({code}{text})",
        id = attempt.queue_id,
        orig = OrigTo(original),
        delay = DelaySeconds(times.ended_at.since(times.received_at)),
        delays = Delays(times),
        dsn = status.enhanced,
        text = status.text,
    );
}

struct OrigTo<'a>(&'a str);

impl fmt::Display for OrigTo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " orig_to=<{}>,", self.0) }
    }
}

/// Postfix's `delays=a/b/c/d`: before the queue manager, in the queue manager, connection setup, transmission.
struct Delays<'a>(&'a AttemptTimes);

impl fmt::Display for Delays<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        let transfer = t.ended_at.since(t.started_at).saturating_sub(t.setup);
        let parts = [t.activated_at.since(t.received_at), t.started_at.since(t.activated_at), t.setup, transfer];
        let [a, b, c, d] = parts.map(DelaySeconds);
        write!(f, "{a}/{b}/{c}/{d}")
    }
}

/// Delay in seconds with two significant digits, as printed by Postfix.
struct DelaySeconds(Duration);

impl fmt::Display for DelaySeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("0"),
            ms @ 1..100 => write!(f, "{:.3}", ms as f64 / 1000.0),
            ms @ 100..1_000 => write!(f, "{:.2}", ms as f64 / 1000.0),
            ms @ 1_000..10_000 => write!(f, "{:.1}", ms as f64 / 1000.0),
            ms => write!(f, "{}", ms / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_like_postfix() {
        for (ms, text) in [(0, "0"), (7, "0.007"), (70, "0.070"), (250, "0.25"), (1_250, "1.2"), (12_700, "12")] {
            assert_eq!(DelaySeconds(Duration::from_millis(ms)).to_string(), text);
        }
    }
}
