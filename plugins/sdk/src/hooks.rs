//! Hooks, a module for each: the trait `Guest` to implement, and the types of the hook.

macro_rules! hooks {
    ($($module:ident $world:literal;)*) => {$(
        #[doc = concat!("The hook `", stringify!($module), "`: implement `Guest` and name it in [`export!`](crate::export).")]
        pub mod $module {
            mod generated {
                wit_bindgen::generate!({
                    path: ["../../wit/mail/0.1.0", "wit"],
                    world: $world,
                    with: { "waxwing:mail/types@0.1.0": crate::generated::waxwing::mail::types },
                    runtime_path: "crate::__runtime",
                    pub_export_macro: true,
                    default_bindings_module: "waxwing_sdk",
                    generate_all,
                });
                pub use exports::waxwing::mail::$module as interface;
            }
            pub use generated::interface::*;
            #[doc(hidden)]
            pub use generated::{export as __export, exports};
        }
    )*};
}

hooks! {
    on_load "waxwing:sdk/on-load";
    on_tick "waxwing:sdk/on-tick";
    on_connect "waxwing:sdk/on-connect";
    on_tls "waxwing:sdk/on-tls";
    on_helo "waxwing:sdk/on-helo";
    on_mail "waxwing:sdk/on-mail";
    on_rcpt "waxwing:sdk/on-rcpt";
    on_rcpt_resolved "waxwing:sdk/on-rcpt-resolved";
    on_data "waxwing:sdk/on-data";
    on_command "waxwing:sdk/on-command";
    on_abort "waxwing:sdk/on-abort";
    on_disconnect "waxwing:sdk/on-disconnect";
    on_credentials "waxwing:sdk/on-credentials";
    on_auth "waxwing:sdk/on-auth";
    on_refuse "waxwing:sdk/on-refuse";
    on_headers "waxwing:sdk/on-headers";
    on_message "waxwing:sdk/on-message";
    on_recipient_message "waxwing:sdk/on-recipient-message";
    on_score "waxwing:sdk/on-score";
    on_decide "waxwing:sdk/on-decide";
    on_cleanup "waxwing:sdk/on-cleanup";
    on_rewrite_address "waxwing:sdk/on-rewrite-address";
    on_resolve "waxwing:sdk/on-resolve";
    on_enqueue "waxwing:sdk/on-enqueue";
    on_scan "waxwing:sdk/on-scan";
    on_retry "waxwing:sdk/on-retry";
    on_route "waxwing:sdk/on-route";
    on_deliver "waxwing:sdk/on-deliver";
    on_send "waxwing:sdk/on-send";
    on_reply "waxwing:sdk/on-reply";
    on_file "waxwing:sdk/on-file";
    on_outcome "waxwing:sdk/on-outcome";
    on_dsn "waxwing:sdk/on-dsn";
    on_event "waxwing:sdk/on-event";
    on_table "waxwing:sdk/on-table";
}
