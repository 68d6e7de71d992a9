//! Standard plugin `cleanup`: completes messages, as Postfix's cleanup(8).
//!
//! Owns: required header fields, header fields to drop, the size limit of a field, the domain of bare addresses, masquerading.
//! Uses: sdk.
//! Used by: no crate; bundle embeds the compiled component.
//! Never: a table, the body, an address list (the host finds the addresses and asks about each).
//! Start reading at: [`header_changes`], then [`rewrite_address`].

mod date;
mod header;
mod rewrite;
mod settings;

use std::cell::OnceCell;

use waxwing_sdk::hooks::{on_cleanup, on_load, on_rewrite_address};
use waxwing_sdk::{Address, Verdict, edit, log, message, transaction};

pub use date::format_rfc5322;
pub use header::{HeaderChange, MissingFieldContext, header_changes};
pub use rewrite::rewrite_address;
pub use settings::CleanupSettings;

/// Plugin type that implements the hooks.
pub struct Cleanup;

thread_local! {
    static SETTINGS: OnceCell<CleanupSettings> = const { OnceCell::new() };
}

fn with_settings<T>(answer: impl FnOnce(&CleanupSettings) -> T) -> T {
    // Cannot fail: `load` has validated the same settings in an earlier instance.
    SETTINGS.with(|settings| answer(settings.get_or_init(|| CleanupSettings::read().unwrap_or_default())))
}

impl on_load::Guest for Cleanup {
    fn load() -> Result<(), String> {
        CleanupSettings::read().map(drop)
    }
}

impl on_cleanup::Guest for Cleanup {
    fn cleanup() -> Verdict {
        with_settings(|settings| {
            let fields = message::headers();
            let changes = header_changes(settings, &fields, transaction::origin(), || MissingFieldContext {
                id: transaction::id(),
                received_at_ms: transaction::received_at_ms(),
                sender: transaction::sender().flatten(),
            });
            for change in changes {
                if let Err(error) = apply_change(change) {
                    log::write(log::Level::Warn, &format!("header field not changed: {error:?}"));
                }
            }
        });
        Verdict::Next
    }
}

fn apply_change(change: HeaderChange) -> Result<(), edit::EditError> {
    match change {
        HeaderChange::Add { name, value } => edit::add_header(&name, value.as_bytes()),
        HeaderChange::Remove { name, nth } => edit::remove_header(&name, nth),
        HeaderChange::Truncate { name, nth, value } => edit::replace_header(&name, nth, &value),
    }
}

impl on_rewrite_address::Guest for Cleanup {
    fn rewrite_address(address: Address, role: on_rewrite_address::Role) -> Option<Address> {
        with_settings(|settings| rewrite_address(settings, &address, role))
    }
}

waxwing_sdk::export!(Cleanup: on_load, on_cleanup, on_rewrite_address);

#[cfg(test)]
mod tests {
    use waxwing_sdk::testing::{Change, Host};

    use super::*;

    #[test]
    fn the_hook_stages_what_is_missing() {
        let host = Host::new()
            .transaction("0j5v8k3m2x4t0", 1_800_000_000_000)
            .sender(Some(Address::new("ann", "example.com")))
            .config("myhostname", "\"mx.example.com\"")
            .config("myorigin", "\"example.com\"")
            .header("Subject", "hello")
            .header("Bcc", "secret@example.com");
        assert_eq!(host.run(on_load_and_cleanup), Verdict::Next);
        assert_eq!(
            host.changes(),
            [
                Change::RemoveHeader("Bcc".into(), 0),
                Change::AddHeader("Date".into(), "Fri, 15 Jan 2027 08:00:00 +0000".into()),
                Change::AddHeader("Message-ID".into(), "<20270115080000.0j5v8k3m2x4t0@mx.example.com>".into()),
                Change::AddHeader("From".into(), "ann@example.com".into()),
            ]
        );
        assert!(host.log().is_empty());
    }

    fn on_load_and_cleanup() -> Verdict {
        <Cleanup as on_load::Guest>::load().unwrap();
        <Cleanup as on_cleanup::Guest>::cleanup()
    }
}
