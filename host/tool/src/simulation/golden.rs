//! Golden files: the report of a simulation without the values of a single run.

use std::path::Path;

use serde_json::Value;

use super::header_diff::longest_common_subsequence;
use crate::ToolError;
use crate::component::read_bounded_file;

/// Maximum size of a golden file, in bytes.
const GOLDEN_BYTES_MAX: u64 = 16 << 20;
/// Maximum number of lines for a comparison line by line.
const LINES_MAX: usize = 4000;
/// Keys with times, or with values changed by another build of the same plugin.
const UNSTABLE_KEYS: [&str; 4] = ["micros", "fuel", "memory_bytes", "expected"];
/// Placeholder for a queue id.
const QUEUE_ID_PLACEHOLDER: &str = "QUEUE-ID";

/// Formats a report as the text of a golden file.
pub(crate) fn normalize(report: &Value, id: Option<&str>) -> Result<String, ToolError> {
    let mut steady = report.clone();
    remove_unstable(&mut steady);
    let mut text = serde_json::to_string_pretty(&steady)?;
    if let Some(id) = id {
        text = text.replace(id, QUEUE_ID_PLACEHOLDER);
    }
    text.push('\n');
    Ok(text)
}

fn remove_unstable(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !UNSTABLE_KEYS.contains(&key.as_str()));
            map.values_mut().for_each(remove_unstable);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_unstable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Writes the golden file with `update`; otherwise returns the differing lines.
pub(crate) fn compare(file: &Path, now: &str, update: bool) -> Result<Vec<String>, ToolError> {
    if update {
        let failed = |error| ToolError::File { file: file.to_owned(), error };
        std::fs::write(file, now).map_err(failed)?;
        return Ok(Vec::new());
    }
    let then = String::from_utf8_lossy(&read_bounded_file(file, GOLDEN_BYTES_MAX)?).into_owned();
    Ok(line_diff(&then, now))
}

fn line_diff(then: &str, now: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (then.lines().collect(), now.lines().collect());
    if old == new {
        return Vec::new();
    }
    if old.len() > LINES_MAX || new.len() > LINES_MAX {
        return vec![format!("~ {} lines became {}", old.len(), new.len())];
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    for (a, b) in longest_common_subsequence(&old, &new).into_iter().chain([(old.len(), new.len())]) {
        lines.extend(old.iter().take(a).skip(i).map(|line| format!("-{line}")));
        lines.extend(new.iter().take(b).skip(j).map(|line| format!("+{line}")));
        (i, j) = (a + 1, b + 1);
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_ids_are_left_out() {
        let report = json!({ "micros": 5, "reply": "250 queued as abc", "cost": [{ "fuel": 1, "calls": 2 }] });
        let text = normalize(&report, Some("abc")).unwrap();
        assert!(text.contains("queued as QUEUE-ID") && text.contains("calls"), "{text}");
        assert!(!text.contains("micros") && !text.contains("fuel"), "{text}");
    }

    #[test]
    fn differences_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("golden.json");
        assert!(compare(&file, "a\nb\n", false).is_err(), "there is none yet");
        assert_eq!(compare(&file, "a\nb\n", true).unwrap(), [""; 0]);
        assert_eq!(compare(&file, "a\nb\n", false).unwrap(), [""; 0]);
        assert_eq!(compare(&file, "a\nc\n", false).unwrap(), ["-b", "+c"]);
    }
}
