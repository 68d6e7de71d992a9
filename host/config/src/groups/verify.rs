//! Address verification by probes (`reject_unverified_recipient`, `reject_unverified_sender`).

use std::time::Duration;

use waxwing_types::ReversePath;

use crate::address_verify::{SenderValue, TempfailAction};
use crate::section::section;
use crate::value::{DurationValue, EnumValue, IntegerValue};

section! {
    /// Address verification by probes (`reject_unverified_recipient`, `reject_unverified_sender`).
    pub struct AddressVerifyConfig (table, reader) {
        /// Sender of the probes that ask another server whether an address accepts mail.
        address_verify_sender: ReversePath [SenderValue] = ReversePath::Null;
        /// Longest time that a client waits for the result of a probe; after that the client gets a temporary error
        /// while the probe continues.
        address_verify_poll_time: Duration [DurationValue<0>] = Duration::from_secs(6);
        /// Lifetime of a positive probe result in the cache.
        address_verify_positive_expire_time: Duration [DurationValue<1000>] = Duration::from_secs(31 * 86_400);
        /// Age from which a positive probe result is refreshed by a new probe while the cached result stays in use.
        address_verify_positive_refresh_time: Duration [DurationValue<1000>] = Duration::from_secs(7 * 86_400);
        /// Lifetime of a negative probe result in the cache.
        address_verify_negative_expire_time: Duration [DurationValue<1000>] = Duration::from_secs(3 * 86_400);
        /// Age from which a negative probe result is refreshed by a new probe while the cached result stays in use.
        address_verify_negative_refresh_time: Duration [DurationValue<1000>] = Duration::from_secs(3 * 3_600);
        /// Reply code when the recipient's server rejects the recipient; 550 for a permanent error.
        unverified_recipient_reject_code: u16 [IntegerValue<u16, 400, 599>] = 450;
        /// Reply code when a recipient cannot be verified at present.
        unverified_recipient_defer_code: u16 [IntegerValue<u16, 400, 499>] = 450;
        /// Action for a recipient that cannot be verified at present.
        unverified_recipient_tempfail_action: TempfailAction [EnumValue<TempfailAction>] = TempfailAction::DeferIfPermit;
        /// Reply code when the sender's server rejects the sender; 550 for a permanent error.
        unverified_sender_reject_code: u16 [IntegerValue<u16, 400, 599>] = 450;
        /// Reply code when a sender cannot be verified at present.
        unverified_sender_defer_code: u16 [IntegerValue<u16, 400, 499>] = 450;
        /// Action for a sender that cannot be verified at present.
        unverified_sender_tempfail_action: TempfailAction [EnumValue<TempfailAction>] = TempfailAction::DeferIfPermit;
    }
}
