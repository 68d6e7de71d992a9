//! The corpus of the fuzzers and the conversations of the transcripts through the same functions, on stable.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use waxwing_fuzz_targets::{TARGETS, Target, seeds, target};

fn give(run: Target, name: &str, input: &[u8]) {
    let done = catch_unwind(AssertUnwindSafe(|| run(input)));
    assert!(done.is_ok(), "{name} breaks a law: {:?}", String::from_utf8_lossy(input));
}

#[test]
fn the_corpus_breaks_no_law() {
    for (name, run) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            give(*run, &file.display().to_string(), &fs::read(&file).unwrap());
        }
    }
}

#[test]
fn the_transcripts_break_no_law() {
    let seeds = seeds().unwrap();
    for (name, _) in TARGETS {
        assert!(seeds.iter().any(|seed| seed.target == *name) || fs::exists(format!("../fuzz/corpus/{name}")).unwrap(), "{name}");
    }
    for seed in seeds {
        give(target(seed.target).unwrap(), &seed.name, &seed.input);
    }
}

/// What follows no grammar, and what follows it for a while: a few thousand inputs by a fixed rule, so that no target is idle where no
/// fuzzer runs.
#[test]
fn damaged_conversations_break_no_law() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    let octets = b"\r\n. :<>@\"\\=;,()\0\x80\xffaAnlgcwbkedoxhip0";
    for seed in seeds().unwrap().iter().filter(|seed| seed.input.len() < 600) {
        for _ in 0..20 {
            let mut input = seed.input.clone();
            for _ in 0..=next() % 4 {
                let at = next() % (input.len() + 1);
                let octet = *octets.get(next() % octets.len()).unwrap();
                match (next() % 3, input.get_mut(at)) {
                    (0, Some(place)) => *place = octet,
                    (1, Some(_)) => drop(input.remove(at)),
                    _ => input.insert(at, octet),
                }
            }
            give(target(seed.target).unwrap(), &seed.name, &input);
        }
    }
}
