//! The plugin contract as wasmtime sees it: code generated from `wit/mail/0.1.0`, and nothing else.
//!
//! Owns: one `Host` trait and one `add_to_linker` for each interface that a plugin may import, one `GuestIndices` and one
//! `Guest` for each hook that it may export. Nothing here asks for all of them together: hooks are optional.
//! Uses: wasmtime's generator.
//! Used by: `sandbox` alone.
//! Never: a line of logic.
//! Start reading at: `wit/mail/0.1.0/worlds.wit`, then [`imports`] and [`exports`].
#![allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated; the documentation is in the WIT"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    reason = "generated"
)]
#![allow(clippy::wildcard_enum_match_arm, clippy::allow_attributes_without_reason, reason = "generated")]

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit/mail/0.1.0",
        inline: r#"
            package waxwing:host;

            world host {
                import waxwing:mail/log@0.1.0;
                import waxwing:mail/config@0.1.0;
                import waxwing:mail/transaction@0.1.0;
                import waxwing:mail/metrics@0.1.0;
                import waxwing:mail/message@0.1.0;
                import waxwing:mail/content@0.1.0;
                import waxwing:mail/edit@0.1.0;
                import waxwing:mail/action@0.1.0;
                import waxwing:mail/lookup@0.1.0;
                import waxwing:mail/kv@0.1.0;
                import waxwing:mail/dns@0.1.0;
                import waxwing:mail/http@0.1.0;
                import waxwing:mail/submit@0.1.0;
                import waxwing:mail/clock@0.1.0;
                import waxwing:mail/random@0.1.0;
                export waxwing:mail/on-load@0.1.0;
                export waxwing:mail/on-tick@0.1.0;
                export waxwing:mail/on-connect@0.1.0;
                export waxwing:mail/on-tls@0.1.0;
                export waxwing:mail/on-helo@0.1.0;
                export waxwing:mail/on-mail@0.1.0;
                export waxwing:mail/on-rcpt@0.1.0;
                export waxwing:mail/on-rcpt-resolved@0.1.0;
                export waxwing:mail/on-data@0.1.0;
                export waxwing:mail/on-command@0.1.0;
                export waxwing:mail/on-abort@0.1.0;
                export waxwing:mail/on-disconnect@0.1.0;
                export waxwing:mail/on-credentials@0.1.0;
                export waxwing:mail/on-auth@0.1.0;
                export waxwing:mail/on-refuse@0.1.0;
                export waxwing:mail/on-headers@0.1.0;
                export waxwing:mail/on-message@0.1.0;
                export waxwing:mail/on-recipient-message@0.1.0;
                export waxwing:mail/on-score@0.1.0;
                export waxwing:mail/on-decide@0.1.0;
                export waxwing:mail/on-cleanup@0.1.0;
                export waxwing:mail/on-rewrite-address@0.1.0;
                export waxwing:mail/on-resolve@0.1.0;
                export waxwing:mail/on-enqueue@0.1.0;
                export waxwing:mail/on-scan@0.1.0;
                export waxwing:mail/on-retry@0.1.0;
                export waxwing:mail/on-route@0.1.0;
                export waxwing:mail/on-deliver@0.1.0;
                export waxwing:mail/on-send@0.1.0;
                export waxwing:mail/on-reply@0.1.0;
                export waxwing:mail/on-outcome@0.1.0;
                export waxwing:mail/on-dsn@0.1.0;
                export waxwing:mail/on-event@0.1.0;
                export waxwing:mail/on-table@0.1.0;
            }
        "#,
        world: "waxwing:host/host",
        // What never waits stays synchronous: such a call costs a third less. Any of them may end the call.
        imports: {
            "waxwing:mail/content@0.1.0": async | trappable,
            "waxwing:mail/lookup@0.1.0": async | trappable,
            "waxwing:mail/kv@0.1.0": async | trappable,
            "waxwing:mail/dns@0.1.0": async | trappable,
            "waxwing:mail/http@0.1.0": async | trappable,
            // Its content may be the message, which lies in a file perhaps.
            "waxwing:mail/submit@0.1.0": async | trappable,
            // They take the message apart at once, to say whether it can be done.
            "waxwing:mail/edit@0.1.0.drop-part": async | trappable,
            "waxwing:mail/edit@0.1.0.replace-part": async | trappable,
            "waxwing:mail/edit@0.1.0.add-part": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}

pub use generated::exports::waxwing::mail as exports;
pub use generated::waxwing::mail as imports;
