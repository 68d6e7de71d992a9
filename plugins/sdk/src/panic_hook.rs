//! Panic hook that logs the message, since a trap carries no text.

use crate::log;

/// Installs the hook before the first call of an instance: message and location of a panic are logged as an error. The host shows the last
/// such line as the reason of the fault.
pub extern "C" fn report_panics() {
    std::panic::set_hook(Box::new(|info| log::write(log::Level::Error, &info.to_string())));
}
