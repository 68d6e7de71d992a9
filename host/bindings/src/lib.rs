//! Host and guest bindings of the plugin contract: code that wasmtime generates from `wit/mail/0.1.0`, and nothing else.
//!
//! Owns: one `Host` trait and one `add_to_linker` for each interface that a plugin may import; one `GuestIndices` and one
//! `Guest` for each hook that a plugin may export. Hooks are optional, so no generated type requires all of them together.
//! Uses: none of the workspace; wasmtime's `bindgen!` generator.
//! Used by: sandbox.
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
        // Functions that never wait stay synchronous: a synchronous call costs a third less. Every function is trappable, so
        // any of them may end the call.
        imports: {
            "waxwing:mail/content@0.1.0": async | trappable,
            "waxwing:mail/lookup@0.1.0": async | trappable,
            "waxwing:mail/kv@0.1.0": async | trappable,
            "waxwing:mail/dns@0.1.0": async | trappable,
            "waxwing:mail/http@0.1.0": async | trappable,
            // The payload may be the message, whose body may lie in a file.
            "waxwing:mail/submit@0.1.0": async | trappable,
            // Edits of parts parse the message at once, to report immediately whether the edit is possible.
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
