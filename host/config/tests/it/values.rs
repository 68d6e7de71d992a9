//! Values, defaults, and how they are shown.

use std::path::{Path, PathBuf};
use std::time::Duration;

use waxwing_config::{
    Config, DevPorts, HostEnvironment, InstanceConfig, ListenAddress, ListenerKind, ListenerTlsMode, MessageGrantConfig,
    PluginSource, RewriteScope, TableSpec, UserSourceConfig, Visibility, reference_toml,
};

fn facts() -> HostEnvironment {
    HostEnvironment { hostname: "mail.example.com".into(), is_root: false, path_exists: |_: &Path| true }
}

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");

#[test]
fn an_empty_file_is_a_configuration() {
    let config = Config::parse(Path::new("w.toml"), "", &facts()).unwrap();
    assert_eq!((config.general.myhostname.as_str(), config.general.mydomain.as_str()), ("mail.example.com", "example.com"));
    assert_eq!(config.domains.mydestination, ["mail.example.com", "localhost.example.com", "localhost"]);
    assert_eq!(config.queue.queue_minfree, 3 * config.smtpd.message_size_limit / 2 + (128 << 20));
    assert!(config.is_in_mynetworks("127.0.0.1".parse().unwrap()) && config.is_in_mynetworks("::1".parse().unwrap()));
    assert!(!config.is_in_mynetworks("10.0.0.1".parse().unwrap()));
    let names: Vec<&str> = config.plugins.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["cleanup", "aliases"]);
    assert_eq!(config.plugins[0].instance, InstanceConfig::Reuse);
    assert_eq!((config.plugins[0].grants.message, config.plugins[0].grants.edit), (MessageGrantConfig::Headers, true));
    assert_eq!(config.plugins[1].source(), PluginSource::Builtin);
    assert_eq!(config.plugins[0].when.addresses, Some(RewriteScope::WithoutDomain));
    assert!(!config.is_explicit("myhostname"));
}

#[test]
fn standard_plugins_have_time_on_a_busy_machine() {
    let text = "[plugins.cleanup.limits]\ncpu = \"2s\"\n[plugins.x]\nfile = \"x.wasm\"";
    let config = Config::parse(Path::new("w.toml"), text, &facts()).unwrap();
    let plugin = |name: &str| config.plugins.iter().find(|plugin| plugin.name == name).unwrap();
    let limits = |name: &str| (plugin(name).limits.time, plugin(name).limits.cpu);
    assert_eq!(limits("aliases"), (Duration::from_secs(5), Duration::from_secs(1)));
    assert_eq!(limits("cleanup"), (Duration::from_secs(5), Duration::from_secs(2)), "one key is given, the other is as it was");
    assert_eq!(limits("x"), (Duration::from_millis(100), Duration::from_millis(50)));
}

#[test]
fn cleanup_sees_all_addresses_where_it_masquerades() {
    let text = "[plugins.cleanup.config]\nmasquerade_domains = [\"example.com\"]\n[plugins.x]\nfile = \"x.wasm\"";
    let config = Config::parse(Path::new("w.toml"), text, &facts()).unwrap();
    let seen: Vec<_> = config.plugins.iter().map(|p| (p.name.as_str(), p.when.addresses)).collect();
    assert_eq!(
        seen,
        [("cleanup", RewriteScope::All), ("aliases", RewriteScope::All), ("x", RewriteScope::All)].map(|(n, a)| (n, Some(a)))
    );
}

#[test]
fn values_are_typed_and_paths_are_relative_to_the_file() {
    let text = r#"
        myhostname = "MX.Example.org"
        mydestination = ["$mydomain", "${myhostname}"]
        smtpd_banner = "$myhostname hello"
        message_size_limit = 60_000_000
        maximal_queue_lifetime = "2d"
        smtp_connect_timeout = 7
        virtual_mailbox_domains = ["box.example"]
        virtual_mailbox_maps = ["texthash:boxes", { "a@box.example" = "a/" }]
        virtual_mailbox_base = "mail"
        transport_maps = { ".partner.example" = "smtp:[::1]:2525", "*" = "ticket:queue 7" }
        [plugins.ticket]
        file = "ticket.wasm"
        transport = "ticket"
        order = -5
        config = { url = "https://x.example", retries = 3, inner = { on = true } }
        [[listen]]
        name = "users"
        address = "[::1]:2587"
        kind = "submission"
        [[listen]]
        name = "local"
        address = "unix:run/lmtp"
        kind = "lmtp"
        mode = "0666"
        group = "mail"
    "#;
    let config = Config::parse(Path::new("/etc/w/w.toml"), text, &facts()).unwrap();
    assert_eq!(config.domains.mydestination, ["example.org", "mx.example.org"]);
    assert_eq!(config.smtpd.smtpd_banner, "mx.example.org hello");
    assert_eq!(config.smtpd.message_size_limit, 60_000_000);
    assert_eq!(config.queue.maximal_queue_lifetime, Duration::from_secs(2 * 86_400));
    assert_eq!(config.smtp.smtp_connect_timeout, Duration::from_secs(7));
    assert_eq!(config.domains.virtual_mailbox_maps[0], TableSpec::Texthash(PathBuf::from("/etc/w/boxes")));
    assert_eq!(config.domains.virtual_mailbox_base, PathBuf::from("/etc/w/mail"));
    let hop = config.transports.transport_maps[".partner.example"].host_port().unwrap();
    assert_eq!((hop.literal(), hop.port), (Some("::1"), Some(2525)));
    assert_eq!(config.transports.transport_maps["*"].nexthop, "queue 7");
    let plugin = &config.plugins[0];
    assert_eq!((plugin.name.as_str(), plugin.instance), ("ticket", InstanceConfig::Fresh));
    assert_eq!(plugin.config["inner"]["on"], serde_json::Value::Bool(true));
    assert_eq!(config.listen[0].kind, ListenerKind::Submission);
    assert_eq!(config.listen[1].address, ListenAddress::Unix(PathBuf::from("/etc/w/run/lmtp")));
    assert_eq!((config.listen[1].socket_mode(), config.listen[1].group.as_deref()), (0o666, Some("mail")));
    assert_eq!(config.listener_tls(&config.listen[1]), ListenerTlsMode::None);
    let at = config.position("plugins.ticket.config.inner.on");
    assert_eq!((at.line, at.column), (16, 75));
    assert_eq!(config.position("plugins.ticket.grants.lookup").line, 12, "an absent key is found at its table");
}

#[test]
fn users_and_their_passwords() {
    let parse = |text: &str| Config::parse(Path::new("/etc/w/w.toml"), text, &facts());
    let config = parse("users = [\"file:users\", \"store:\"]\npassword_argon2_memory = \"64MiB\"\n").unwrap();
    assert_eq!(config.auth.users, [UserSourceConfig::File("/etc/w/users".into()), UserSourceConfig::Store]);
    assert!(config.show_toml(Visibility::Explicit).contains("password_argon2_memory = \"64MiB\"\n"), "a cost is no secret");
    for (bad, advice) in [
        ("users = [\"store:x\"]", "\"store:\" for the store of the server"),
        ("users = [\"/etc/users\"]", "write \"file:/path\""),
        ("password_argon2_memory = \"5GiB\"", "at most 4GiB"),
        ("password_argon2_memory = \"1KiB\"", "at least 128KiB"),
        ("smtpd_sasl_failure_delay = \"2m\"", "at most \"60s\""),
    ] {
        let mistakes = parse(bad).unwrap_err();
        let found = mistakes.diagnostics().iter().filter_map(|mistake| mistake.advice.clone()).collect::<String>();
        assert!(found.contains(advice), "{bad}: {found}");
    }
}

#[test]
fn what_is_shown_can_be_loaded_again() {
    let text = "myorigin = \"o.example\"\n[tables]\nvip = { \"a\" = \"1\" }\n[plugins.m]\nmilter = \"inet:1@h\"\n[plugins.x]\nfile = \"/x\"\n\
                config = { api_token = \"s3cret\", url = \"https://u:pw@h/\" }\n[plugins.x.when]\nvia = [\"smtp\"]\n[log]\nlevel = \"debug\"\n";
    let config = Config::parse(Path::new("w.toml"), text, &facts()).unwrap();
    let shown = config.show_toml(Visibility::All);
    assert!(!shown.contains("s3cret") && !shown.contains(":pw@") && shown.contains("(redacted)"), "{shown}");
    assert!(shown.contains("myorigin = \"o.example\"\n") && shown.contains("hopcount_limit = 50  # default\n"), "{shown}");
    let again = Config::parse(Path::new("w.toml"), &shown, &facts()).unwrap_or_else(|m| panic!("{m}\n{shown}"));
    let redacted_twice = again.show_toml(Visibility::All).replace("  # default", "");
    assert_eq!(redacted_twice, shown.replace("  # default", ""));
    let given = config.show_toml(Visibility::Explicit);
    assert!(
        given.contains("level = \"debug\"") && given.contains("via = [\"smtp\"]") && !given.contains("hopcount_limit"),
        "{given}"
    );
    let json = config.show_json(Visibility::All);
    assert_eq!(json["myorigin"], serde_json::json!({ "value": "o.example", "default": false }));
    assert_eq!(json["hopcount_limit"], serde_json::json!({ "value": 50, "default": true }));
    assert!(!json.to_string().contains("s3cret"));
}

/// Write it anew with `WAXWING_BLESS=1 cargo test -p waxwing-config`.
#[test]
fn the_reference_is_fresh() {
    let path = Path::new(SAMPLES).join("reference.toml");
    if std::env::var_os("WAXWING_BLESS").is_some() {
        std::fs::write(&path, reference_toml()).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(stored == reference_toml(), "config/reference.toml is stale: run WAXWING_BLESS=1 cargo test -p waxwing-config");
}

/// Its defaults are values that load, and give the configuration of an empty file.
#[test]
fn the_reference_speaks_the_truth() {
    let keys = reference_toml();
    let live: Vec<&str> = keys
        .lines()
        .filter(|line| line.starts_with('#') && !line.starts_with("# ") && !line.ends_with('='))
        .map(|line| &line[1..])
        .take_while(|line| !line.starts_with("[plugins"))
        .collect();
    assert!(live.len() > 50, "{live:?}");
    let facts = HostEnvironment { path_exists: |_| false, ..facts() };
    let config = Config::parse(Path::new("w.toml"), &live.join("\n"), &facts).unwrap_or_else(|m| panic!("{m}"));
    let empty = Config::parse(Path::new("w.toml"), "", &facts).unwrap();
    let bare = |config: &Config| config.show_toml(Visibility::All).replace("  # default", "");
    assert_eq!(bare(&config), bare(&empty));
}

#[test]
fn samples_load() {
    let mut count = 0;
    for entry in std::fs::read_dir(Path::new(SAMPLES).join("samples")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if let Err(mistakes) = Config::parse(&path, &text, &facts()) {
            panic!("{mistakes}");
        }
        count += 1;
    }
    assert!(count >= 4, "{count} samples");
}

#[test]
fn dev_needs_nothing_but_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let facts = HostEnvironment { hostname: "box".into(), is_root: false, path_exists: Path::exists };
    let config = Config::load_dev(dir.path(), DevPorts { smtp: 0, submission: 0 }, "", &facts).unwrap();
    assert_eq!(config.listen.len(), 2);
    assert!(
        config.listen.iter().all(|listen| matches!(listen.address, ListenAddress::Inet(address) if address.ip().is_loopback()))
    );
    assert_eq!(config.dev_maildir(), dir.path().join("mail/waxwing.test/demo"));
    assert_eq!(config.domains.alias_maps, [TableSpec::Aliases(dir.path().join("aliases"))]);
    for path in [&config.general.queue_directory, &config.domains.mail_spool_directory, &config.control_socket()] {
        assert!(path.starts_with(dir.path()), "{}", path.display());
    }
    std::fs::write(dir.path().join("aliases"), "mine: demo\n").unwrap();
    std::fs::write(dir.path().join("plugins.toml"), "[plugins.aliases]\nenabled = false\n").unwrap();
    let config = Config::load_dev(dir.path(), DevPorts::default(), "", &facts).unwrap();
    assert!(config.plugins.iter().any(|plugin| plugin.name == "aliases" && !plugin.enabled), "plugins.toml is part of it");
    Config::load_dev(dir.path(), DevPorts::default(), "", &facts).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("aliases")).unwrap(), "mine: demo\n", "aliases are kept");
}

#[test]
fn a_milter_is_bound_like_a_plugin() {
    let text = "[plugins.rspamd]\nmilter = \"inet:11332@127.0.0.1\"\norder = 5\non_fault = \"skip\"\nmilter_content_timeout = \"1s\"\n\
                when = { via = [\"smtp\"] }\n[plugins.sign]\nmilter = \"unix:/run/x.sock\"\n";
    let config = Config::parse(Path::new("w.toml"), text, &facts()).unwrap();
    let places: Vec<String> = config
        .plugins
        .iter()
        .filter_map(|plugin| match plugin.source() {
            PluginSource::Milter(endpoint) => Some(format!("{} {endpoint}", plugin.name)),
            PluginSource::Builtin | PluginSource::File(_) => None,
        })
        .collect();
    assert_eq!(places, ["rspamd inet:11332@127.0.0.1", "sign unix:/run/x.sock"]);
    assert_eq!(config.plugins[0].milter_content_timeout, Duration::from_secs(1));
    assert_eq!(config.plugins[0].milter_command_timeout, Duration::from_secs(30));
}
