//! `waxwing plugin check` and `plugin test` through the program, with the plugins of the fixtures and those that are built in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

const MESSAGE: &str = "From: a@x.example\nTo: b@y.example\nSubject: hello\n\n.dot\nbody\n";

/// The components of `tests/fixtures/evil` as files.
fn component(package: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/evil/Cargo.toml");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for built in waxwing_builder::build(&manifest, &["evil", "chorus", "later"], folder.parent().unwrap()).unwrap() {
            // Tests run in processes of their own: whole, or not at all.
            let temporary = folder.join(format!("{}.{}", built.package, std::process::id()));
            std::fs::write(&temporary, built.component).unwrap();
            std::fs::rename(temporary, folder.join(format!("{}.wasm", built.package))).unwrap();
        }
        folder.to_owned()
    });
    folder.join(format!("{package}.wasm"))
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("m.eml"), MESSAGE).unwrap();
        Self { dir }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waxwing"));
        command.args(arguments).current_dir(self.dir.path()).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command.output().unwrap()
    }

    /// `plugin test` of a component; its exit code, the JSON, and what it said on standard error.
    fn test(&self, file: &str, arguments: &[&str]) -> (i32, Value, String) {
        // Debug builds on busy machines are slower than any limit of a server.
        let mut all = vec!["plugin", "test", file, "--eml", "m.eml", "--json", "--limit", "time=60s", "--limit", "cpu=20s"];
        all.extend(arguments);
        let output = self.run(&all);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
    }

    fn evil(&self, arguments: &[&str]) -> (i32, Value, String) {
        self.test(component("evil").to_str().unwrap(), arguments)
    }
}

/// With names of the same length in the place of others.
fn replaced(octets: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = octets.to_vec();
    let places: Vec<usize> = out.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty() && from.len() == to.len());
    for at in places {
        out[at..at + to.len()].copy_from_slice(to);
    }
    out
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn check_prints_what_a_component_needs() {
    let bench = Bench::new();
    let output = bench.run(&["plugin", "check", component("evil").to_str().unwrap(), "--json"]);
    assert!(output.status.success());
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["grants"], serde_json::json!(["message = \"full\"", "edit = true", "lookup = [\"NAME-OF-A-TABLE\"]"]));
    assert_eq!((&found["contract"], &found["on_load"]), (&Value::from("0.1.0"), &Value::from(true)));
    assert!(words(&found["hooks"]).contains(&"on-rewrite-address"));
    assert!(bench.run(&["plugin", "check", "builtin:cleanup"]).status.success());
}

#[test]
fn check_says_in_a_sentence_what_does_not_fit() {
    let bench = Bench::new();
    std::fs::write(bench.dir.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let chorus = std::fs::read(component("chorus")).unwrap();
    let changed = |file: &str, from: &str, to: &str| {
        let octets = replaced(&chorus, from.as_bytes(), to.as_bytes());
        std::fs::write(bench.dir.path().join(file), octets).unwrap();
    };
    changed("other.wasm", "@0.1.0", "@0.2.0");
    changed("import.wasm", "waxwing:mail/log@", "waxwing:mail/lag@");
    changed("export.wasm", "waxwing:mail/on-data@", "waxwing:mail/on-dada@");
    let later = component("later");
    for (file, sentence) in [
        (later.to_str().unwrap(), "the hook on-file is not implemented yet in this version of the server; build it without"),
        ("other.wasm", "was built for version 0.2.0 of waxwing:mail"),
        ("import.wasm", "imports waxwing:mail/lag@0.1.0, which is part of neither waxwing:mail nor WASI"),
        ("export.wasm", "exports waxwing:mail/on-dada@0.1.0, which is no hook"),
        ("core.wasm", "is a core module, not a component"),
        ("m.eml", "is not a WebAssembly file"),
        ("gone.wasm", "gone.wasm: No such file"),
        ("builtin:gone", "no plugin \"gone\" is built in"),
    ] {
        let output = bench.run(&["plugin", "check", file]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(sentence), "{file}: {said}");
    }
}

#[test]
fn test_shows_what_changed_and_what_it_cost() {
    let bench = Bench::new();
    let (code, seen, said) = bench.evil(&["--set", "act=good", "--expect", "accept", "--client", "2001:db8::1"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(words(&seen["header"]), ["+ X-Subject: hello", "- Subject: hello", "+ Subject: changed", "+ X-Evil: was here"]);
    assert_eq!(seen["body"], serde_json::json!({ "before": 12, "after": 15, "changed": true }));
    assert_eq!(seen["recipients"]["after"], serde_json::json!(["RECIPIENT@example.net"]));
    assert_eq!(seen["tags"]["seen"], "RECIPIENT@example.net");
    let cost = seen["cost"].as_array().unwrap().iter().find(|cost| cost["hook"] == "on-message").unwrap();
    assert_eq!((&cost["host_calls"]["edit.write-body"], &cost["host_calls"]["action.skip-rest"]), (&2.into(), &1.into()));
    assert!(cost["fuel"].as_u64().unwrap() > 1000 && seen["micros"].as_u64().unwrap() > 0);
    let steps: Vec<&str> = seen["hooks"].as_array().unwrap().iter().map(|hook| hook["hook"].as_str().unwrap()).collect();
    let order = ["on-connect", "on-helo", "on-mail", "on-rcpt", "on-message"];
    let places: Vec<usize> = order.iter().map(|hook| steps.iter().position(|step| step == hook).unwrap()).collect();
    assert!(places.is_sorted(), "{steps:?}");
}

#[test]
fn test_says_what_a_server_would_say() {
    let bench = Bench::new();
    for (arguments, verdict, stage, reply) in [
        (["--set", "act=panic", "--set", "at=on-message"], "defer", ".", "451 4.3.0"),
        (["--set", "act=discard", "--set", "at=on-message"], "discard", ".", "250 2.0.0 queued as"),
        (["--set", "act=discard", "--set", "at=on-mail"], "discard", ".", "250 2.0.0 queued as"),
        (["--set", "act=panic", "--set", "at=on-connect"], "defer", "connect", "451"),
    ] {
        let (code, seen, said) = bench.evil(&[&arguments[..], &["--expect", verdict]].concat());
        assert_eq!(code, 0, "{arguments:?}: {said}{seen}");
        assert_eq!(seen["stage"], stage, "{seen}");
        assert!(seen["reply"].as_str().unwrap().starts_with(reply), "{seen}");
        assert_eq!(seen["header"], Value::Null);
    }
    let (code, seen, said) = bench.test(component("chorus").to_str().unwrap(), &["--expect", "accept"]);
    assert_eq!((code, &seen["verdict"]), (1, &Value::from("reject")));
    assert!(said.contains("expected accept, and it was reject: 554 5.7.1 1 recipients"), "{said}");
    assert_eq!(seen["hooks"][1]["log"], serde_json::json!(["heard of the end"]));
}

#[test]
fn what_cannot_be_tried_is_told_from_what_is_not_as_expected() {
    let bench = Bench::new();
    for (arguments, words) in [
        (vec!["--grant", "none", "--set", "act=good"], "which is not granted; add message"),
        (vec!["--set", "act=load-error"], "the moon is not full"),
        (vec!["--set", "no-such-key=1"], "does not know the key \"no-such-key\""),
        (vec!["--grant", "massage=full"], "unknown key \"massage\""),
        (vec!["--config", "gone.toml"], "gone.toml"),
        (vec!["--update"], "--golden"),
    ] {
        let (code, _, said) = bench.evil(&arguments);
        assert!(code == 2 && said.contains(words), "{arguments:?}: {code} {said}");
    }
}

#[test]
fn golden_files_are_the_same_in_each_run() {
    let bench = Bench::new();
    let golden = ["--golden", "g.json"];
    assert_eq!(bench.test("builtin:cleanup", &golden).0, 2, "there is none yet");
    let (code, _, said) = bench.test("builtin:cleanup", &["--golden", "g.json", "--update"]);
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(bench.dir.path().join("g.json")).unwrap();
    assert!(text.contains("+ Date: Fri, 15 Jan 2027 08:00:00 +0000") && text.contains("QUEUE-ID"), "{text}");
    let (code, _, said) = bench.test("builtin:cleanup", &golden);
    assert_eq!(code, 0, "{said}");
    std::fs::write(bench.dir.path().join("m.eml"), MESSAGE.replace("hello", "hullo")).unwrap();
    assert_eq!(bench.test("builtin:cleanup", &golden).0, 0, "the subject is no part of what cleanup does");
    let (code, _, said) = bench.test("builtin:cleanup", &["--golden", "g.json", "--from", "other@x.example"]);
    assert!(code == 1 && said.contains("+      \"command\": \"MAIL FROM:<other@x.example>\","), "{said}");
}

#[test]
fn a_plugin_is_tried_among_those_of_a_server() {
    let bench = Bench::new();
    let config = format!(
        "virtual_mailbox_domains = [\"example.net\"]\nvirtual_mailbox_maps = {{ \"demo@example.net\" = \"demo/\" }}\nalias_maps = []\n\
         [plugins.cleanup.when]\naddresses = \"any\"\n[plugins.mine]\nfile = {:?}\n[plugins.mine.grants]\nmessage = \"full\"\nedit = true\nlookup = [\"alias_maps\"]\n\
         [plugins.mine.limits]\ntime = \"60s\"\ncpu = \"20s\"\n[plugins.mine.config]\nact = \"panic\"\nat = \"on-message\"\n",
        component("evil")
    );
    std::fs::write(bench.dir.path().join("w.toml"), config).unwrap();
    let evil = component("evil");
    let run = |rcpt: &str| {
        let arguments =
            ["plugin", "test", evil.to_str().unwrap(), "--eml", "m.eml", "--config", "w.toml", "--name", "mine", "--rcpt", rcpt];
        let output = bench.run(&[&arguments[..], &["--json"]].concat());
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let seen = run("demo@example.net");
    assert_eq!((&seen["verdict"], &seen["stage"]), (&"defer".into(), &".".into()), "{seen}");
    let who: Vec<&str> = seen["hooks"].as_array().unwrap().iter().map(|hook| hook["plugin"].as_str().unwrap()).collect();
    assert!(who.contains(&"cleanup") && who.contains(&"mine"), "{who:?}");
    let seen = run("nobody@example.net");
    assert_eq!((&seen["verdict"], &seen["reply"]), (&"reject".into(), &"550 5.1.1 User unknown".into()), "{seen}");
}
