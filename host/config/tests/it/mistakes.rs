//! What a person sees who made mistakes.

use std::path::Path;

use waxwing_config::{Config, Diagnostic, HostEnvironment};

fn facts() -> HostEnvironment {
    HostEnvironment { hostname: "mail.example.com".into(), is_root: false, path_exists: |path: &Path| path.starts_with("/there") }
}

fn mistakes_of(text: &str) -> Vec<Diagnostic> {
    match Config::parse(Path::new("w.toml"), text, &facts()) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.diagnostics().to_vec(),
    }
}

/// `line:column message | advice`.
fn lines_of(text: &str) -> Vec<String> {
    let line = |m: &Diagnostic| {
        format!("{}:{} {} | {}", m.position.line, m.position.column, m.message, m.advice.as_deref().unwrap_or("-"))
    };
    mistakes_of(text).iter().map(line).collect()
}

#[test]
fn ten_mistakes_give_ten_errors() {
    let found = lines_of(include_str!("../fixtures/ten-mistakes.toml"));
    let wanted = [
        r#"3:1 unknown key "mydestinaton" | did you mean "mydestination"?"#,
        r#"4:30 the network "10.1.2.3/8" has bits right of its prefix | write "10.0.0.0/8""#,
        r#"5:22 message_size_limit is not a size | write a number of octets or a unit of B, KB, MB, GB, KiB, MiB, GiB"#,
        r#"6:25 smtpd_recipient_limit is a string | write a whole number, without quotes"#,
        r#"7:43 the domain "mail.example.com" is listed in virtual_mailbox_domains and in mydestination | mydestination contains the domain by default: set mydestination without the domain, or remove the domain here"#,
        r#"8:24 "hash:/etc/postfix/vmailbox" is not a table | the text file is read directly: write "texthash:/etc/postfix/vmailbox", or "aliases:/etc/postfix/vmailbox" for an aliases file"#,
        r#"9:26 maximal_queue_lifetime is not a duration | write a number with one unit of ms, s, m, h, d, w, such as "5d""#,
        r#"10:40 there is no transport "smpt" | did you mean "smtp"?"#,
        r#"14:11 "2525" is not an address with a port | write it as "127.0.0.1:2525" or "[::1]:2525"; names are not looked up here"#,
        r#"17:8 the component "does/not/exist.wasm" does not exist | correct the path, or build the plugin; enabled = false leaves it out"#,
    ];
    assert_eq!(found, wanted, "{found:#?}");
}

#[test]
fn a_mistake_shows_its_line_and_what_to_do() {
    let mistakes = Config::parse(Path::new("etc/w.toml"), "# é\nmydomain = \"a\"  \nmyorign = \"b\"\n", &facts()).unwrap_err();
    assert_eq!(mistakes.to_string(), "etc/w.toml:3:1: error: unknown key \"myorign\"\n  help: did you mean \"myorigin\"?");
    let wanted = "\
etc/w.toml:3:1: error: unknown key \"myorign\"
  |
3 | myorign = \"b\"
  | ^^^^^^^
  |
  = help: did you mean \"myorigin\"?
1 mistake in the configuration
";
    assert_eq!(mistakes.render(false), wanted, "{}", mistakes.render(false));
    assert!(mistakes.render(true).contains("\u{1b}["), "colour where asked for");
}

#[test]
fn columns_count_characters() {
    assert_eq!(lines_of("tables = { \"ä\" = 5 }")[0].split(' ').next(), Some("1:18"));
}

#[test]
fn syntax_errors_are_mistakes_too() {
    let found = mistakes_of("myhostname = \"a.example\nmydomain = x\n");
    assert!(!found.is_empty());
    assert_eq!((found[0].position.line, found[0].position.file.as_ref()), (1, "w.toml"), "{found:?}");
}

#[test]
fn a_known_postfix_name_is_led_to_its_place() {
    let found = lines_of("inet_interfaces = \"all\"\n");
    assert_eq!(found, [r#"1:1 unknown key "inet_interfaces" | each [[listen]] table names one address"#]);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn contradictions() {
    for (text, wanted) in [
        (
            "relay_domains = [\"b.example\"]\nvirtual_alias_domains = [\"B.example\"]\n",
            "1:18 the domain \"b.example\" is listed in relay_domains and in virtual_alias_domains | a domain belongs to one \
             class, which selects the transport: remove the domain from one of the keys",
        ),
        (
            "mynetworks = [\"0.0.0.0/0\"]",
            "1:15 \"0.0.0.0/0\" makes this server an open relay | list only networks of trusted clients",
        ),
        ("mail_owner = \"root\"", "1:14 mail_owner is root | name a user without privileges; the server never serves as root"),
        (
            "[plugins.x]\ntransport = \"smtp\"\nfile = \"/there/x\"",
            "2:13 there is a transport \"smtp\" already | give the plugin's transport a name of its own",
        ),
        (
            "[plugins.aliasses]\norder = 1",
            "1:10 the plugin \"aliasses\" has no file | add file = \"/path/to/aliasses.wasm\"; or did you mean the built-in [plugins.aliases]?",
        ),
        (
            "[plugins.x]\nfile = \"/there/x\"\ngrants = { lookup = [\"alias_map\"] }",
            "3:22 there is no table \"alias_map\" | did you mean \"alias_maps\"?",
        ),
        (
            "[plugins.x]\nfile = \"/there/x\"\ngrants = { lookup = [\"plugin:key\"] }\n[plugins.keys]\nfile = \"/there/k\"",
            "3:22 there is no plugin \"key\" | did you mean \"keys\"?",
        ),
        (
            "[plugins.x]\nfile = \"/there/x\"\ngrants = { lookup = [\"plugin:x\"] }",
            "3:22 the plugin \"x\" looks up tables of other plugins in a cycle or too deeply | \
             at most 4 plugins may form a chain of lookups: remove one of the grants",
        ),
        (
            "[plugins.x]\nfile = \"/there/x\"\nwhen.listener = [\"smtps\"]",
            "3:18 there is no listener \"smtps\" | did you mean \"smtp\"?",
        ),
        (
            "[plugins.x]\nfile = \"/there/x\"\nlimits = { time = \"10ms\" }",
            "3:19 the limit cpu is longer than the limit time, which contains it | lengthen time, or shorten cpu",
        ),
        (
            "[plugins.cleanup]\nmode = \"shadows\"",
            "2:8 mode is \"shadows\" | did you mean \"shadow\"? It is one of \"enforce\", \"shadow\" or \"off\"",
        ),
        ("[[listen]]\nname = \"a\"", "1:1 the listener has no address | add address = \"127.0.0.1:2525\""),
        ("listen = []", "1:10 there is no listener | add a [[listen]] table with a name and an address"),
        (
            "minimal_backoff_time = \"2h\"",
            "1:24 minimal_backoff_time is longer than maximal_backoff_time | shorten it, or lengthen the other",
        ),
        (
            "default_transport = \"carrier\"",
            "1:21 there is no transport \"carrier\" | there are local, virtual, smtp, relay, lmtp, discard, error",
        ),
        (
            "relayhost = \"a b\"",
            "1:13 relayhost \"a b\" is not a next hop | write \"[host]:port\", or \"domain:port\" to look up its MX",
        ),
        (
            "mydestination = [\"$mydomian\"]",
            "1:18 \"$mydomian\" has an unknown $name | the available variables are $myhostname and $mydomain",
        ),
        ("hopcount_limit = 0", "1:18 hopcount_limit is 0 | it must be between 1 and 1000"),
        ("trace.bytes_max = 4", "1:19 bytes_max is 4 octets | it must be at least 1MiB"),
        ("[dns]\nserver = []", "2:1 unknown key \"server\" | did you mean \"servers\"?"),
        (
            "alias_maps = \"aliases:/no/where\"",
            "1:14 the table \"/no/where\" does not exist | create the file, or correct the path",
        ),
    ] {
        assert_eq!(lines_of(text), [wanted], "{text}");
    }
}

#[test]
fn sockets_at_a_path() {
    for (text, wanted) in [
        (
            "[[listen]]\nname = \"a\"\naddress = \"unix:/run/a\"\nproxy = true\nproxy_networks = [\"127.0.0.1\"]",
            "4:9 the listener \"a\" is a path, where no proxy connects | leave it out, or give the listener an address and a port",
        ),
        (
            "[[listen]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nmode = \"0666\"",
            "4:8 mode applies to Unix sockets only, and the listener \"a\" has a port | leave it out, or write address = \"unix:/path\"",
        ),
        (
            "[[listen]]\nname = \"a\"\naddress = \"unix:/run/a\"\nmode = \"rw\"",
            "4:8 \"rw\" is no mode | write it as chmod takes it: \"0660\" for the user and the group, \"0666\" for everyone",
        ),
    ] {
        assert_eq!(lines_of(text), [wanted], "{text}");
    }
}

#[test]
fn a_milter_is_no_component() {
    for (text, wanted) in [
        (
            "[plugins.x]\nmilter = \"tcp:1@h\"",
            "2:10 \"tcp:1@h\" is not the address of a milter | write it as \"inet:PORT@HOST\" or \"unix:/path/of/socket\"",
        ),
        (
            "[plugins.x]\nmilter = \"inet:1@h\"\nfile = \"/there/x\"",
            "3:1 the plugin \"x\" has a file and a milter | leave one of them out",
        ),
        (
            "[plugins.x]\nmilter = \"inet:1@h\"\ngrants.edit = true",
            "3:1 the plugin \"x\" is a milter, which needs no grants | remove them: it can read and change messages",
        ),
        (
            "[plugins.x]\nmilter = \"inet:1@h\"\ncanary = { file = \"/there/x\" }",
            "3:1 the plugin \"x\" is a milter, which has no canary version | bind the new one beside it, in mode shadow",
        ),
        (
            "[plugins.cleanup]\nmilter = \"inet:1@h\"",
            "2:10 the plugin \"cleanup\" is built in and has a milter | give the milter another name, or add builtin = false to \
             replace the built-in plugin",
        ),
    ] {
        assert_eq!(lines_of(text), [wanted], "{text}");
    }
}

#[test]
fn root_needs_an_owner() {
    let root = HostEnvironment { is_root: true, ..facts() };
    let mistakes = Config::parse(Path::new("w.toml"), "", &root).unwrap_err();
    assert_eq!(mistakes.diagnostics().len(), 1);
    assert!(mistakes.to_string().starts_with("w.toml:1:1: error: the server is started as root"), "{mistakes}");
    assert!(Config::parse(Path::new("w.toml"), "mail_owner = \"waxwing\"", &root).is_ok());
}

#[test]
fn any_text_gives_an_answer() {
    let text = include_str!("../fixtures/ten-mistakes.toml");
    for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
        drop(Config::parse(Path::new("w.toml"), &text[..cut], &facts()));
        drop(Config::parse(Path::new("w.toml"), &text[cut..], &facts()));
    }
}

#[test]
fn plugins_may_be_tables_of_one_another_but_not_in_a_circle() {
    let plugin = |name: &str, asks: &str| {
        let lookup = if asks.is_empty() { String::new() } else { format!("grants = {{ lookup = [\"plugin:{asks}\"] }}\n") };
        format!("[plugins.{name}]\nfile = \"/there/x\"\n{lookup}")
    };
    let chain = |last: &str| ["ab", "bc", "cd"].map(|two| plugin(&two[..1], &two[1..])).concat() + &plugin("d", last);
    assert_eq!(lines_of(&chain("")), Vec::<String>::new());
    let circle = lines_of(&chain("b"));
    assert_eq!(circle.len(), 4, "each of them leads into it: {circle:?}");
    assert!(circle.iter().all(|line| line.contains("in a cycle or too deeply")), "{circle:?}");
}
