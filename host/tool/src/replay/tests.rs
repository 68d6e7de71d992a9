use waxwing_control::DaemonInfo;
use waxwing_pipeline::TraceEntry;
use waxwing_types::{Source, Tags, Timestamp};

use super::*;
use crate::control_client::tests::serve;
use crate::simulation::{TestResult, TransactionOutcome};

const CONFIG: &str = "[plugins.spam]\nfile = \"spam.wasm\"\nenabled = true\n";

fn entry(result: &'static str, edits: &[&str]) -> TraceEntry {
    let mut entry = TraceEntry::server_step(Timestamp::default(), "spam", "on-message", "", result);
    entry.edits = edits.iter().map(|e| (*e).to_owned()).collect();
    entry
}

fn recording(n: u64, body: RecordedBody) -> Recording {
    let id = QueueId::from_u64(n).to_string();
    Recording {
        at: Timestamp::from_millis(1_800_000_000_000),
        peer: None,
        client_name: None,
        listener: "smtp".into(),
        source: Source::Smtp,
        helo: "me.example".into(),
        esmtp: true,
        sender: "a@x.example".into(),
        mail_parameters: vec![("AUTH".into(), Some("(redacted)".into())), ("SIZE".into(), Some("9".into()))],
        recipients: vec![("b@y.example".into(), Vec::new())],
        header: Some(Bytes::from_static(b"Subject: x\r\n\r\n")),
        body,
        redacted_headers: vec!["Cookie".into()],
        tags: Tags::new(),
        final_verdict: "accept".into(),
        reply: format!("250 2.0.0 queued as {id}"),
        entries: vec![
            entry("next", &["+X-Id: 1"]),
            TraceEntry::server_step(Timestamp::default(), "other", "on-mail", "", "next"),
        ],
        id,
    }
}

/// Refuses what it is shown from the second scene on.
struct Playing;

impl Simulate for Playing {
    fn simulate(&self, cast: TestSetup, scenes: &[TestCase]) -> Result<Vec<TestResult>, ToolError> {
        assert_eq!(cast.plugin, "spam");
        assert!(cast.config.plugins.iter().any(|p| p.name == "spam" && p.file.as_ref().unwrap().ends_with("new.wasm")));
        assert!(scenes.iter().all(|scene| scene.mail_parameters.len() == 1 && scene.fixed_time.is_some()));
        let play = |(n, scene): (usize, &TestCase)| {
            let text = String::from_utf8(scene.content.clone().unwrap().to_vec()).unwrap();
            assert!(text.ends_with(if n == 0 { "body\r\n" } else { "(redacted: 77 octets)\r\n" }), "{text}");
            let refused = n > 0;
            TestResult {
                id: Some("NEWID".into()),
                outcome: if refused { TransactionOutcome::Reject } else { TransactionOutcome::Accept },
                reply: if refused { "550 5.7.1 no".into() } else { "250 2.0.0 queued as NEWID".into() },
                stage: ".".into(),
                dialogue: Vec::new(),
                trace: vec![if refused { entry("reject 550 5.7.1 no", &[]) } else { entry("next", &["+X-Id: 1"]) }],
                queued: None,
                costs: Vec::new(),
            }
        };
        Ok(scenes.iter().enumerate().map(play).collect())
    }
}

fn run(json: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("spam.wasm"), "").unwrap();
    std::fs::write(dir.path().join("new.wasm"), "").unwrap();
    let value = |recording: &Recording| serde_json::to_value(recording).unwrap();
    // The newest first, in two pages.
    let (new, old) = (recording(2, RecordedBody::Redacted { size: 77 }), recording(1, RecordedBody::Complete("body\r\n".into())));
    let answers = vec![
        ControlResponse::Recordings { recordings: vec![value(&new)], next: Some(new.id.clone()) },
        ControlResponse::Recordings { recordings: vec![value(&old)], next: None },
        ControlResponse::Config { file: dir.path().join("w.toml").display().to_string(), text: CONFIG.into() },
        ControlResponse::Pong(DaemonInfo {
            version: String::new(),
            pid: 0,
            hostname: String::new(),
            started_at: Timestamp::default(),
        }),
    ];
    let socket = dir.path().join("control");
    let server = serve(&socket, answers);
    let args = ReplayArgs {
        id: None,
        last: Some(5),
        plugin: dir.path().join("new.wasm").display().to_string(),
        section: PluginArgs::default(),
    };
    let mut client = ControlClient::connect(&socket).unwrap();
    let mut out = Vec::new();
    replay(&mut client, &args, |_| None, &Playing, json, &mut out).unwrap();
    client.ping().unwrap();
    let asked = server.join().unwrap();
    assert_eq!(asked[1], ControlRequest::RecordingLast { before: Some(new.id), limit: 4 });
    String::from_utf8(out).unwrap()
}

#[test]
fn prints_then_and_now_and_the_sum() {
    assert_eq!(
        run(false),
        "0000000000001  2027-01-15 08:00:00.000Z from <a@x.example> to <b@y.example> [Cookie redacted]\n  \
           same: accept: 250 2.0.0 queued as ID\n\
         0000000000002  2027-01-15 08:00:00.000Z from <a@x.example> to <b@y.example> [body redacted, 77 B; Cookie redacted]\n  \
           then: accept: 250 2.0.0 queued as ID\n  \
           now:  reject: 550 5.7.1 no\n    \
             - on-message: next\n    \
             -   +X-Id: 1\n    \
             + on-message: reject 550 5.7.1 no\n\
         \nspam: 2 transactions, 1 the same, 1 different\n  \
           accept -> reject: 1\n\
         Of 2 transactions a part was not recorded: a plugin that reads it may have decided otherwise.\n"
    );
}

#[test]
fn json_has_one_object_for_each_and_the_sum() {
    let lines: Vec<serde_json::Value> = run(true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[0]["same"], &lines[1]["same"]), (&json!(true), &json!(false)));
    assert_eq!(lines[1]["redacted"], json!(["body redacted, 77 B", "Cookie redacted"]));
    assert_eq!(lines[2]["summary"]["verdicts"], json!({ "accept -> reject": 1 }));
}
