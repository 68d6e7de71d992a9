//! Dialogues of `tests/transcripts` as inputs: seeds of every fuzzer, and part of the corpus test.

use std::fs;
use std::path::Path;

use waxwing_transcripts::{Stimulus, Transcript, parse};

use crate::server::FLIGHT;

/// Input for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Name of the target.
    pub target: &'static str,
    /// File name, unique within the target.
    pub name: String,
    /// Octets of the input.
    pub input: Vec<u8>,
}

/// Failure to read the transcripts.
#[derive(Debug)]
pub struct SeedError(pub String);

/// Writes the seeds of a target into the folder in `WAXWING_SEEDS`, if set; the fuzzers call it at their start.
///
/// # Panics
/// If writing fails.
pub fn write_seeds(target: &str) {
    let Some(folder) = std::env::var_os("WAXWING_SEEDS").map(std::path::PathBuf::from) else { return };
    for seed in seeds().expect("transcripts").iter().filter(|seed| seed.target == target) {
        fs::write(folder.join(&seed.name), &seed.input).expect("a folder for seeds");
    }
}

/// Reads the transcripts beside this crate.
pub fn seeds() -> Result<Vec<Seed>, SeedError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts");
    let mut seeds = Vec::new();
    for (side, given) in [("server", 'C'), ("client", 'S')] {
        let entries = fs::read_dir(folder.join(side)).map_err(|error| SeedError(error.to_string()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let text = fs::read_to_string(&path).map_err(|error| SeedError(error.to_string()))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let transcripts = parse(&text, given).map_err(|error| SeedError(format!("{}: {error}", path.display())))?;
            for (number, transcript) in transcripts.iter().enumerate() {
                add(&mut seeds, given, &format!("{stem}-{number}"), &octets(transcript));
            }
        }
    }
    Ok(seeds)
}

fn octets(transcript: &Transcript) -> Vec<u8> {
    let given = transcript.rounds.iter().flat_map(|round| &round.input);
    given
        .flat_map(|stimulus| match stimulus {
            Stimulus::Octets(octets) => octets.as_slice(),
            Stimulus::Handshake(_) => &[FLIGHT],
            Stimulus::Wait(_) | Stimulus::Eof | Stimulus::Shutdown => &[],
        })
        .copied()
        .collect()
}

fn add(seeds: &mut Vec<Seed>, given: char, name: &str, wire: &[u8]) {
    let mut push = |target, name: String, input: Vec<u8>| seeds.push(Seed { target, name, input });
    if given == 'S' {
        push("reply_reader", name.to_owned(), [b"\x06\n".as_slice(), wire].concat());
        return;
    }
    push("server_session", name.to_owned(), [b"a\n\x06\n".as_slice(), wire].concat());
    if name.contains("auth") {
        push("auth_exchange", name.to_owned(), [b"H\n\x06\n".as_slice(), wire].concat());
    }
    if let Some(at) = wire.windows(6).position(|word| word == b"DATA\r\n") {
        let message = [b"\x06\n".as_slice(), wire.get(at + 6..).unwrap_or_default()].concat();
        push("data_reader", name.to_owned(), message.clone());
        push("chunk_reader", name.to_owned(), [b"\x10N\n".as_slice(), &message].concat());
        push("header", name.to_owned(), message);
    }
    for (number, line) in wire.split(|octet| *octet == b'\n').enumerate().filter(|(_, line)| line.len() > 1) {
        push("command_line", format!("{name}-{number}"), line.trim_ascii_end().to_vec());
    }
}
