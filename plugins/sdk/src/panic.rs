//! A trap carries no words; the log does.

use crate::log;

/// Runs before the first call of an instance: from now on a panic's message and place are logged as an error. The host shows
/// the last such line as the reason of the fault.
pub extern "C" fn report_panics() {
    std::panic::set_hook(Box::new(|info| log::write(log::Level::Error, &info.to_string())));
}
