use std::collections::HashMap;

use super::*;

struct Fixed(HashMap<(&'static str, &'static str), &'static str>);

impl TableSource for Fixed {
    fn get(&self, table: AliasTable, key: &str) -> Result<Option<String>, TableUnavailable> {
        let found = self.0.iter().find(|((t, k), _)| *t == table.name() && *k == key);
        Ok(found.map(|(_, value)| (*value).to_owned()))
    }
}

fn settings() -> AliasesSettings {
    AliasesSettings {
        mydestination: vec!["example.com".into(), "localhost".into()],
        virtual_alias_domains: vec!["virtual.example".into()],
        myorigin: "example.com".into(),
        recipient_delimiter: "+".into(),
        ..AliasesSettings::default()
    }
}

fn with(
    settings: &AliasesSettings,
    aliases: &[(&'static str, &'static str)],
    virtuals: &[(&'static str, &'static str)],
    to: &str,
) -> String {
    let alias = aliases.iter().map(|(k, v)| (("alias_maps", *k), *v));
    let virt = virtuals.iter().map(|(k, v)| (("virtual_alias_maps", *k), *v));
    let tables = Fixed(alias.chain(virt).collect());
    let resolver = AliasResolver { settings, tables: &tables };
    let recipient = Address::parse(to).unwrap();
    let (full, verified) = (show(resolver.resolve(&recipient).unwrap()), show(resolver.verify(&recipient).unwrap()));
    // What exists at RCPT time is what is found later; a broken alias exists too.
    match &*full {
        "not-mine" | "unknown" => assert_eq!(verified, full, "{to}"),
        _ => assert_eq!(verified, "", "{to}"),
    }
    full
}

fn show(resolution: Resolution) -> String {
    match resolution {
        Resolution::NotMine => "not-mine".into(),
        Resolution::Unknown => "unknown".into(),
        Resolution::Unavailable(why) => format!("unavailable: {why}"),
        Resolution::Targets(expansion) => {
            let target = |t: &Target| match t {
                Target::Address(a) => a.to_string(),
                Target::Command(c) => format!("|{c}"),
                Target::File(f) => f.clone(),
            };
            let targets: Vec<String> = expansion.targets.iter().map(target).collect();
            let sender = expansion.sender.map(|s| format!(" from {s}")).unwrap_or_default();
            targets.join(", ") + &sender
        }
    }
}

fn local(aliases: &[(&'static str, &'static str)], to: &str) -> String {
    with(&settings(), aliases, &[], to)
}

#[test]
fn names_of_our_domains_only() {
    let aliases = [("root", "ann"), ("ann", "ann@elsewhere.example")];
    assert_eq!(local(&aliases, "root@example.com"), "ann@elsewhere.example");
    assert_eq!(local(&aliases, "ROOT@localhost"), "ann@elsewhere.example");
    assert_eq!(local(&aliases, "root"), "ann@elsewhere.example");
    assert_eq!(local(&aliases, "root@example.org"), "not-mine");
    assert_eq!(local(&aliases, "carl@example.com"), "not-mine");
}

#[test]
fn nested_names_are_followed_once_each() {
    let aliases = [("all", "red, blue, dan@x.example"), ("red", "ann, blue"), ("blue", "bob, ann, all")];
    assert_eq!(local(&aliases, "all@example.com"), "ann, bob, dan@x.example");
    // A name in its own alias is the user; so it is when a circle of names comes back to it from nowhere else.
    assert_eq!(local(&[("ann", "ann, ann@x.example")], "ann@example.com"), "ann, ann@x.example");
    assert_eq!(local(&[("ann", "\\ann, ann@x.example")], "ann@example.com"), "ann@example.com, ann@x.example");
    assert_eq!(local(&[("a", "b"), ("b", "a")], "a@example.com"), "unavailable: alias a has no targets");
}

#[test]
fn depth_and_number_have_limits() {
    let settings = AliasesSettings { recursion_limit: 2, expansion_limit: 3, ..settings() };
    let chain = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")];
    assert_eq!(with(&settings, &chain, &[], "a@example.com"), "unavailable: alias d: more than 2 names within names");
    assert_eq!(with(&settings, &[("a", "1, 2, 3")], &[], "a@example.com"), "1, 2, 3");
    assert_eq!(
        with(&settings, &[("a", "1, 2, 3, 4")], &[], "a@example.com"),
        "unavailable: alias a: expands to more than 3 targets"
    );
}

#[test]
fn a_list_has_an_owner() {
    let aliases =
        [("team", "ann, news"), ("owner-team", "boss"), ("news", "bob"), ("owner-news", "carl"), ("owner-owner", "root")];
    // The inner list keeps its own owner: the host asks about it again.
    assert_eq!(local(&aliases, "team@example.com"), "ann, news from owner-team@example.com");
    assert_eq!(local(&aliases, "news@example.com"), "bob from owner-news@example.com");
    assert_eq!(local(&aliases, "owner-team@example.com"), "boss from owner-owner@example.com");
    assert_eq!(local(&aliases, "owner-owner@example.com"), "root");
}

#[test]
fn commands_and_files_only_where_allowed() {
    let aliases = [("robot", "|/usr/bin/robot, ann"), ("archive", "/var/archive"), ("list", ":include:/etc/list")];
    let refused = "unavailable: alias robot: a command, and allow_mail_to_commands does not have \"alias\"";
    assert_eq!(local(&aliases, "robot@example.com"), refused);
    assert!(local(&aliases, "archive@example.com").contains("allow_mail_to_files"));
    assert!(local(&aliases, "list@example.com").contains(":include: cannot be read"));
    let open = AliasesSettings { allow_mail_to_commands: true, allow_mail_to_files: true, ..settings() };
    assert_eq!(with(&open, &aliases, &[], "robot@example.com"), "|/usr/bin/robot, ann");
    assert_eq!(with(&open, &aliases, &[], "archive@example.com"), "/var/archive");
}

#[test]
fn virtual_aliases_go_before_local_ones() {
    let virtuals = [
        ("info@virtual.example", "ann@x.example, bob"),
        ("@virtual.example", "catch@x.example"),
        ("root@example.com", "admin@x.example"),
        ("@moved.example", "@new.example"),
        ("plain", "someone@x.example"),
        ("shell@virtual.example", "|/bin/sh"),
    ];
    let ask = |to: &str| with(&settings(), &[("root", "ann")], &virtuals, to);
    assert_eq!(ask("INFO@virtual.example"), "ann@x.example, bob");
    assert_eq!(ask("other@virtual.example"), "catch@x.example");
    assert_eq!(ask("root@example.com"), "admin@x.example");
    assert_eq!(ask("root@localhost"), "ann");
    assert_eq!(ask("who@moved.example"), "who@new.example");
    assert_eq!(ask("plain@example.com"), "someone@x.example");
    assert_eq!(ask("plain@elsewhere.example"), "not-mine");
    assert_eq!(
        ask("shell@virtual.example"),
        "unavailable: virtual alias shell@virtual.example: a virtual alias may contain addresses only"
    );
    assert_eq!(with(&settings(), &[], &[], "any@virtual.example"), "unknown");
}

#[test]
fn extensions_follow_the_user() {
    let ask = |to: &str| {
        with(
            &settings(),
            &[("ann", "ann@x.example")],
            &[("bob@v.example", "bob@x.example"), ("bob+a@v.example", "a@x.example")],
            to,
        )
    };
    assert_eq!(ask("ann+lists@example.com"), "ann@x.example");
    assert_eq!(ask("bob+b@v.example"), "bob+b@x.example");
    assert_eq!(ask("bob+a@v.example"), "a@x.example");
}

#[test]
fn a_broken_alias_waits_for_its_repair() {
    assert_eq!(local(&[("a", "ann bob")], "a@example.com"), "unavailable: alias a: not an address: ann bob");
    assert_eq!(local(&[("a", "")], "a@example.com"), "unavailable: alias a has no targets");
}
