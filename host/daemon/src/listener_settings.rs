//! SMTP settings of a listener and of a client, from the configuration.

use std::net::IpAddr;
use std::sync::Arc;

use waxwing_config::{Config, ForbidBareNewline, ListenerConfig, ListenerKind, ListenerTlsMode};
use waxwing_pipeline::Authenticator;
use waxwing_smtp::ServerSettings;
use waxwing_smtp::server::{BareNewline, Protocol};
use waxwing_types::Source;

/// Maps the kind of a listener to the source of its mail.
pub(crate) fn mail_source(kind: ListenerKind) -> Source {
    match kind {
        ListenerKind::Smtp => Source::Smtp,
        ListenerKind::Submission => Source::Submission,
        ListenerKind::Lmtp => Source::Lmtp,
    }
}

/// Builds the SMTP settings of a listener.
pub(crate) fn listener_settings(config: &Config, listen: &ListenerConfig) -> ServerSettings {
    ServerSettings {
        protocol: match listen.kind {
            ListenerKind::Smtp | ListenerKind::Submission => Protocol::Smtp,
            ListenerKind::Lmtp => Protocol::Lmtp,
        },
        starttls: config.listener_tls(listen) == ListenerTlsMode::Starttls,
        tls_required: listen.tls_required,
        ..server_settings(config)
    }
}

/// Adds the settings that depend on the client: SASL mechanisms, XCLIENT and the bare newline exclusion.
pub(crate) fn settings_for_client(
    config: &Config,
    settings: &Arc<ServerSettings>,
    authenticator: Option<&dyn Authenticator>,
    kind: ListenerKind,
    client: IpAddr,
) -> Arc<ServerSettings> {
    let xclient = config.smtpd.smtpd_authorized_xclient_hosts.iter().any(|network| network.contains(client));
    let bare_newline = config.smtpd.smtpd_forbid_bare_newline_exclusions.iter().any(|network| network.contains(client));
    let mechanisms = |tls| authenticator.map(|all| all.mechanisms(client, tls)).unwrap_or_default();
    let (auth, auth_plaintext) = (mechanisms(true), mechanisms(false));
    // Submission requires authentication, except for clients in `mynetworks`.
    let auth_required = kind == ListenerKind::Submission && !config.is_in_mynetworks(client);
    if auth.is_empty() && auth_plaintext.is_empty() && !auth_required && !xclient && !bare_newline {
        return Arc::clone(settings);
    }
    let mut client_settings = ServerSettings { xclient, auth, auth_plaintext, auth_required, ..ServerSettings::clone(settings) };
    if bare_newline {
        client_settings.bare_newline = BareNewline::No;
    }
    Arc::new(client_settings)
}

/// Builds the SMTP settings that all listeners share.
pub(crate) fn server_settings(config: &Config) -> ServerSettings {
    ServerSettings {
        greeting: config.smtpd.smtpd_banner.clone(),
        message_size_max: config.smtpd.message_size_limit,
        recipients_max: config.smtpd.smtpd_recipient_limit,
        command_line_bytes_max: config.smtpd.line_length_limit,
        errors_max: config.smtpd.smtpd_hard_error_limit,
        command_idle: config.smtpd.smtpd_timeout,
        data_idle: config.smtpd.smtpd_timeout,
        bare_newline: match config.smtpd.smtpd_forbid_bare_newline {
            ForbidBareNewline::Reject => BareNewline::Reject,
            ForbidBareNewline::Normalize => BareNewline::Normalize,
            ForbidBareNewline::No => BareNewline::No,
        },
        prdr: config.smtpd.smtpd_prdr,
        ..ServerSettings::new(config.general.myhostname.clone())
    }
}

#[cfg(test)]
mod tests {
    use waxwing_config::HostEnvironment;

    use super::*;

    #[test]
    fn the_session_gets_the_configured_limits() {
        let facts = HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| false };
        let text = "message_size_limit = \"1MiB\"\nsmtpd_banner = \"$myhostname ready\"\nsmtpd_timeout = \"7s\"\n";
        let settings = server_settings(&Config::parse("w.toml".as_ref(), text, &facts).unwrap());
        assert_eq!((settings.message_size_max, settings.greeting.as_str()), (1 << 20, "h.example ready"));
        assert_eq!((settings.command_idle.as_secs(), settings.data_idle.as_secs()), (7, 7));
        assert_eq!((settings.hostname.as_str(), settings.errors_max, settings.recipients_max), ("h.example", 20, 1000));
    }
}
