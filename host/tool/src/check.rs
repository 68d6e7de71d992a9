//! `waxwing plugin check`: what a component offers and wants, without a server.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use waxwing_sandbox::{Inspection, inspect};

use crate::ToolError;
use crate::queue::print_json;
use crate::text::clean;

/// Octets of a component; the server loads no larger one.
const COMPONENT_BYTES_MAX: u64 = 64 << 20;

/// Looks at a file and prints what it found. What does not fit is the error.
pub(crate) fn check(file: &Path, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let name = name_of(file);
    let found = inspect(&name, &read(file)?)?;
    match json {
        true => print_json(&as_json(&found), out),
        false => print(&name, file, &found, out),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, ToolError> {
    let failed = |error| ToolError::Component { file: file.to_owned(), error };
    if std::fs::metadata(file).map_err(failed)?.len() > COMPONENT_BYTES_MAX {
        return Err(failed(std::io::Error::other("larger than 64 MiB, which the server does not load")));
    }
    std::fs::read(file).map_err(failed)
}

/// The name under which the plugin could stand in a configuration.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "plugin".to_owned() } else { name.to_owned() }
}

fn as_json(found: &Inspection) -> serde_json::Value {
    json!({
        "hooks": found.hooks.iter().map(|hook| hook.as_str()).collect::<Vec<_>>(),
        "on_load": found.on_load,
        "imports": found.imports,
        "grants": found.grant_lines(),
        "contract": found.contract,
        "size": found.size,
    })
}

fn print(name: &str, file: &Path, found: &Inspection, out: &mut dyn Write) -> Result<(), ToolError> {
    let hooks: Vec<&str> = found.on_load.then_some("on-load").into_iter().chain(found.hooks.iter().map(|h| h.as_str())).collect();
    writeln!(out, "{}: a plugin for version {} of waxwing:mail", file.display(), clean(&found.contract))?;
    writeln!(out, "  size     {} octets", found.size)?;
    writeln!(out, "  exports  {}", hooks.join(", "))?;
    let imports: Vec<_> = found.imports.iter().map(|import| clean(import)).collect();
    writeln!(out, "  imports  {}", if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") })?;
    writeln!(out, "\nTo use it, add to the configuration:\n\n[plugins.{name}]\nfile = {:?}", file.display().to_string())?;
    let lines = found.grant_lines();
    if !lines.is_empty() {
        writeln!(out, "[plugins.{name}.grants]\n{}", lines.join("\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_pipeline::Hook;
    use waxwing_sandbox::{Grants, MessageGrant};

    use super::*;

    #[test]
    fn prints_the_lines_to_add() {
        let found = Inspection {
            hooks: vec![Hook::OnRcpt, Hook::OnMessage],
            on_load: true,
            imports: vec!["waxwing:mail/edit@0.1.0".into()],
            grants: Grants { message: MessageGrant::Headers, edit: true, ..Grants::default() },
            contract: "0.1.0".into(),
            size: 4096,
        };
        let mut out = Vec::new();
        print("subject", Path::new("a/subject.wasm"), &found, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "version 0.1.0 of waxwing:mail\n",
            "exports  on-load, on-rcpt, on-message\n",
            "[plugins.subject]\nfile = \"a/subject.wasm\"\n[plugins.subject.grants]\nmessage = \"headers\"\nedit = true\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(as_json(&found)["hooks"], json!(["on-rcpt", "on-message"]));
    }

    #[test]
    fn a_wrong_file_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("My_Plugin.wasm");
        let sentence = |octets: Option<&[u8]>| {
            if let Some(octets) = octets {
                std::fs::write(&file, octets).unwrap();
            }
            check(&file, false, &mut Vec::new()).unwrap_err().to_string()
        };
        assert!(sentence(None).contains("My_Plugin.wasm: "));
        assert!(sentence(Some(b"\0asm\x01\0\0\0")).starts_with("plugin \"my-plugin\" is a core module"));
        assert_eq!(name_of(Path::new("/.wasm")), "wasm");
        assert_eq!(name_of(Path::new("__")), "plugin");
    }
}
