//! Every transcript, cut in every way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::fs;
use std::path::Path;

use waxwing_transcripts::{InputSplit, ScriptedClient, ScriptedServer, ScriptedSession, Stimulus, Transcript, parse, run};

fn each(folder: &str, given: char, mut check: impl FnMut(&str, &Transcript)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let transcripts = parse(&fs::read_to_string(&file).unwrap(), given).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!transcripts.is_empty(), "{name} is empty");
        transcripts.iter().for_each(|transcript| check(&name, transcript));
    }
}

fn in_every_way<S: ScriptedSession>(name: &str, transcript: &Transcript, stage: impl Fn() -> S) {
    let octets: usize = transcript.rounds.iter().flat_map(|round| &round.input).map(octets_of).sum();
    let cuts = [InputSplit::Lines, InputSplit::Octets, InputSplit::Merged].into_iter().chain((1..octets).map(InputSplit::At));
    for cut in cuts {
        run(transcript, stage(), cut).unwrap_or_else(|e| panic!("{name}, {:?}, {cut:?}: {e}", transcript.title));
    }
}

fn octets_of(stimulus: &Stimulus) -> usize {
    match stimulus {
        Stimulus::Octets(octets) => octets.len(),
        Stimulus::Wait(_) | Stimulus::Eof | Stimulus::Shutdown | Stimulus::Handshake(_) => 0,
    }
}

#[test]
fn the_server_holds_its_transcripts() {
    each("server", 'C', |name, transcript| {
        in_every_way(name, transcript, || ScriptedServer::new(transcript).unwrap_or_else(|e| panic!("{name}: {e}")));
    });
}

#[test]
fn the_client_holds_its_transcripts() {
    each("client", 'S', |name, transcript| {
        in_every_way(name, transcript, || ScriptedClient::new(transcript).unwrap_or_else(|e| panic!("{name}: {e}")));
    });
}

#[test]
fn a_wrong_line_is_found() {
    let text = "=== T\nRFC 5321 §4.1.1.9\nS: 220 mx.example ESMTP Waxwing\nC: NOOP\nS: 250 2.0.0 Okay\n";
    let transcript = parse(text, 'C').unwrap().remove(0);
    for cut in [InputSplit::Lines, InputSplit::Octets, InputSplit::Merged, InputSplit::At(1)] {
        assert!(run(&transcript, ScriptedServer::new(&transcript).unwrap(), cut).is_err(), "{cut:?}");
    }
}
