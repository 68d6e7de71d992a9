//! Postfix parameters without an equivalent key, with a hint for each.

/// Names of Postfix parameters, each with a hint about the equivalent in Waxwing.
pub(crate) const POSTFIX_HINTS: &[(&str, &str)] = &[
    ("inet_interfaces", "each [[listen]] table names one address"),
    ("inet_protocols", "each [[listen]] table names one address"),
    ("default_process_limit", "the sessions at once are limited by \"smtpd_sessions_max\""),
    ("proxy_interfaces", "not needed: a next hop that is this server is found by its addresses"),
    ("smtpd_milters", "milters come in a later version"),
    ("non_smtpd_milters", "milters come in a later version"),
    ("content_filter", "write a plugin with the hook on-message, or route with \"transport_maps\""),
    ("header_checks", "write a plugin with the hook on-message"),
    ("body_checks", "write a plugin with the hook on-message"),
    ("alias_database", "\"alias_maps\" reads the text file itself; nothing has to be built"),
    ("mail_name", "the greeting is \"smtpd_banner\""),
    ("compatibility_level", "not needed"),
    ("mailbox_size_limit", "quotas come in a later version"),
    ("address_verify_map", "not needed: the verification cache is in the store, in queue_directory"),
    ("address_verify_poll_count", "a client waits for \"address_verify_poll_time\" in all"),
    ("address_verify_poll_delay", "a client waits for \"address_verify_poll_time\" in all"),
    ("disable_vrfy_command", "VRFY never tells whether a mailbox exists"),
];

pub(crate) fn postfix_hint(name: &str) -> Option<&'static str> {
    POSTFIX_HINTS.iter().find(|(postfix, _)| *postfix == name).map(|(_, advice)| *advice)
}
