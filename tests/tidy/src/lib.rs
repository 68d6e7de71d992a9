//! The rules of this source tree, as functions that list what breaks them.
//!
//! Owns: layers, crate headers, circles of imports, limits of size, names and documentation comments, dependencies that are declared and
//! not used, paths named in pages, frozen folders.
//! Uses: `cargo metadata` and `git ls-files`, nothing of ours.
//! Used by: `cargo test -p waxwing-tidy`, which the static stage of `cargo ci` runs.
//! Never: judge style that rustfmt or clippy can judge.
//! Start reading at: `tests/tree.rs`, one test for each rule; each module's own tests show it failing on bad input.
#![forbid(unsafe_code)]

pub mod circles;
pub mod dependencies;
pub mod frozen;
pub mod headers;
pub mod imports;
pub mod layers;
pub mod log_fields;
pub mod mask;
pub mod metadata;
pub mod names;
pub mod pages;
pub mod prose;
pub mod roots;
pub mod size;
pub mod sources;
pub mod tree;
pub mod words;

use std::fmt;

/// One place that breaks one rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// A path in the tree, with a line where there is one, or a crate.
    pub place: String,
    /// What is wrong and what to do about it.
    pub advice: String,
}

impl Finding {
    /// A finding at `place`.
    pub fn new(place: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { place: place.into(), advice: advice.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.advice)
    }
}

/// Panics with all findings, one a line; returns when there are none.
///
/// # Panics
/// When `findings` is not empty: that is the failed test.
#[allow(clippy::panic, reason = "a rule that is broken is a failed test")]
pub fn assert_none(rule: &str, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    let lines: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    panic!("{rule}: {} finding(s)\n{}", findings.len(), lines.join("\n"));
}
