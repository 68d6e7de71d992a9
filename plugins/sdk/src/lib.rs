//! SDK for authors of Waxwing plugins.
//!
//! Owns: types and host functions of `wit/mail/0.1.0` in Rust, a trait for each hook, the macro [`export!`], the reader of settings, and
//! a fake host for native tests of a plugin.
//! Uses: no crate of the workspace; wit-bindgen.
//! Used by: plugin-aliases, plugin-cleanup, and plugins outside the workspace; no crate of the host.
//! Never: a decision about mail.
//! Start reading at: [`export!`], then [`hooks`], then [`testing`].
//!
//! Complete plugin:
//!
//! ```
//! use waxwing_sdk::hooks::{on_load, on_message};
//! use waxwing_sdk::{Verdict, edit, log, message, settings};
//!
//! struct Plugin;
//!
//! impl on_load::Guest for Plugin {
//!     /// Reads every key of the plugin's table; on error the previous version stays in service.
//!     fn load() -> Result<(), String> {
//!         settings::number("fields_max").map(drop)
//!     }
//! }
//!
//! impl on_message::Guest for Plugin {
//!     fn message() -> Verdict {
//!         let max = settings::number("fields_max").ok().flatten().unwrap_or(100);
//!         let fields = u64::from(message::header_count());
//!         if fields > max {
//!             log::write(log::Level::Info, &format!("{fields} fields"));
//!             return Verdict::reject("5.6.0", "This message has too many header fields");
//!         }
//!         // A call without a grant, or not allowed at the hook, is an error, not a fault.
//!         if let Err(error) = edit::add_header("X-Fields", fields.to_string().as_bytes()) {
//!             log::write(log::Level::Warn, &format!("not marked: {error:?}"));
//!         }
//!         Verdict::Next
//!     }
//! }
//!
//! waxwing_sdk::export!(Plugin: on_load, on_message);
//!
//! // Native test, without WebAssembly and without a server:
//! use waxwing_sdk::testing::{Change, Host};
//!
//! let host = Host::new().config("fields_max", "2").header("From", "a@b.example").header("Subject", "hello");
//! assert_eq!(host.run(<Plugin as on_message::Guest>::message), Verdict::Next);
//! assert_eq!(host.changes(), [Change::AddHeader("X-Fields".into(), "2".into())]);
//!
//! let host = Host::new().config("fields_max", "1").header("From", "a@b.example").header("Subject", "hello");
//! assert!(matches!(host.run(<Plugin as on_message::Guest>::message), Verdict::Reject(_)));
//! assert_eq!(host.log(), ["info: 2 fields"]);
//! ```

mod generated {
    #![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated; the documentation is in the WIT")]
    #![allow(clippy::allow_attributes_without_reason, clippy::indexing_slicing, reason = "generated")]
    wit_bindgen::generate!({
        path: ["../../wit/mail/0.1.0", "wit"],
        world: "waxwing:sdk/host",
        runtime_path: "crate::__runtime",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
    });
}

#[cfg(all(target_arch = "wasm32", feature = "heap"))]
mod allocator;
mod constructors;
#[allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, reason = "generated; the documentation is in the WIT")]
#[allow(clippy::allow_attributes_without_reason, clippy::indexing_slicing, reason = "generated")]
pub mod hooks;
mod panic_hook;
pub mod settings;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[doc(hidden)]
pub use panic_hook::report_panics as __report_panics;
#[doc(hidden)]
pub use wit_bindgen::rt as __rt;
#[doc(hidden)]
pub mod __runtime {
    //! Runtime of the generated code, in the SDK and in plugins.
    pub use wit_bindgen::rt::*;
}

pub use generated::waxwing::mail::types;
pub use types::{Address, AddressClass, Notify, Payload, Recipient, Reply, ReversePath, Source, Symbol, Verdict};

// The same functions and types from two sources: the real host for WebAssembly, the fake host for native tests.
#[cfg(target_arch = "wasm32")]
pub use generated::waxwing::mail::{clock, dns, http, kv, random, submit};
#[cfg(not(target_arch = "wasm32"))]
pub use testing::fake_services::{clock, dns, http, kv, random, submit};

#[cfg(target_arch = "wasm32")]
pub use generated::waxwing::mail::{action, config, content, edit, log, lookup, message, metrics, transaction};
#[cfg(not(target_arch = "wasm32"))]
pub use testing::fake_host::{action, config, content, edit, log, lookup, message, metrics, transaction};

/// Exports a type as a plugin: `export!(Plugin: on_load, on_message);`. The type implements `hooks::HOOK::Guest` for each named hook;
/// exporting subscribes the hook. A panic's message goes to the host's log before the call ends as a fault.
///
/// ```
/// use waxwing_sdk::hooks::on_rcpt;
/// use waxwing_sdk::{Recipient, Verdict};
///
/// struct NoRobots;
///
/// impl on_rcpt::Guest for NoRobots {
///     fn rcpt(recipient: Recipient) -> Verdict {
///         match recipient.address.local.as_str() {
///             "robot" => Verdict::reject("5.1.1", "Nobody reads this"),
///             _ => Verdict::Next,
///         }
///     }
/// }
///
/// waxwing_sdk::export!(NoRobots: on_rcpt);
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($hook:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static REPORT_PANICS: extern "C" fn() = $crate::__report_panics;
        };
        $(
            #[cfg(target_arch = "wasm32")]
            $crate::hooks::$hook::__export!($plugin with_types_in $crate::hooks::$hook);
        )+
    };
}
