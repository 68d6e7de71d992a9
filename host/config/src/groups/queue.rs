//! Retry schedule and limits of the queue and of DSNs.

use std::time::Duration;

use crate::groups::SmtpdConfig;
use crate::section::section;
use crate::server_tables::ScanRejectAction;
use crate::value::{ByteSize, DurationValue, EnumValue, IntegerValue};

/// Size of a store journal in bytes; `queue_minfree` leaves space for two journals.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

section! {
    /// Retry schedule and limits of the queue and of DSNs.
    pub struct QueueConfig (table, reader, smtpd: &SmtpdConfig) {
        /// Free space of queue_directory below which no mail is accepted.
        queue_minfree: u64 [ByteSize<0>] = smtpd.message_size_limit.saturating_mul(3) / 2 + 2 * JOURNAL_BYTES_MAX,
            derived "1.5 * message_size_limit + 128MiB";
        /// Maximum number of bytes of the original message in a DSN.
        bounce_size_limit: u64 [ByteSize<1>] = 50_000;
        /// Shortest time between two attempts for a deferred message.
        minimal_backoff_time: Duration [DurationValue<1000>] = Duration::from_secs(300);
        /// Longest time between two attempts for a deferred message.
        maximal_backoff_time: Duration [DurationValue<1000>] = Duration::from_secs(4000);
        /// Age at which a deferred message is returned to the sender.
        maximal_queue_lifetime: Duration [DurationValue<0>] = Duration::from_secs(5 * 86_400);
        /// Age at which a deferred DSN is given up.
        bounce_queue_lifetime: Duration [DurationValue<0>] = Duration::from_secs(5 * 86_400);
        /// Action for a message rejected by a plugin after acceptance (on-scan): hold for a decision of the operator,
        /// or discard. The sender gets no DSN.
        scan_refusal: ScanRejectAction [EnumValue<ScanRejectAction>] = ScanRejectAction::Hold;
        /// Maximum number of simultaneous deliveries to the same next hop.
        default_destination_concurrency_limit: usize [IntegerValue<usize, 1, 10_000>] = 20;
        /// Maximum number of messages in the active queue.
        qmgr_message_active_limit: usize [IntegerValue<usize, 1, 1_000_000>] = 20_000;
        /// Age at which the sender of a queued message gets a delay DSN; 0: only on request by NOTIFY=DELAY, after
        /// four hours.
        delay_warning_time: Duration [DurationValue<0>] = Duration::ZERO;
    }
}
