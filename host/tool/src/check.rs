//! Command `waxwing plugin check`: exports, imports and required grants of a component, without a server.

use std::io::Write;

use serde_json::json;
use waxwing_sandbox::{Inspection, inspect};

use crate::ToolError;
use crate::component::{BuiltinPlugins, ComponentSource};
use crate::formatting::sanitize;
use crate::queue::print_json;

/// Inspects a component and prints the result. An unusable component is an error, and with `--json` an object as well.
pub(crate) fn check(source: &ComponentSource, builtin: BuiltinPlugins, json: bool, out: &mut dyn Write) -> Result<(), ToolError> {
    let name = source.name();
    let inspection = inspect(&name, &source.read(builtin)?);
    match (inspection, json) {
        (Ok(inspection), true) => print_json(&as_json(&inspection), out),
        (Ok(inspection), false) => print(&name, source, &inspection, out),
        (Err(problem), true) => {
            print_json(&json!({ "fits": false, "problem": problem.to_string() }), out)?;
            Err(problem.into())
        }
        (Err(problem), false) => Err(problem.into()),
    }
}

fn as_json(inspection: &Inspection) -> serde_json::Value {
    json!({
        "fits": true,
        "hooks": inspection.hooks.iter().map(|hook| hook.as_str()).collect::<Vec<_>>(),
        "on_load": inspection.on_load,
        "imports": inspection.imports,
        "grants": inspection.grant_lines(),
        "contract": inspection.contract,
        "size": inspection.size,
    })
}

fn print(name: &str, source: &ComponentSource, inspection: &Inspection, out: &mut dyn Write) -> Result<(), ToolError> {
    let hooks: Vec<&str> =
        inspection.on_load.then_some("on-load").into_iter().chain(inspection.hooks.iter().map(|h| h.as_str())).collect();
    let location = match source {
        ComponentSource::Builtin(name) => format!("builtin:{name}"),
        ComponentSource::File(file) => file.display().to_string(),
    };
    writeln!(out, "{}: a plugin for version {} of waxwing:mail", sanitize(&location), sanitize(&inspection.contract))?;
    writeln!(out, "  size     {} octets", inspection.size)?;
    writeln!(out, "  exports  {}", hooks.join(", "))?;
    let imports: Vec<_> = inspection.imports.iter().map(|import| sanitize(import)).collect();
    writeln!(out, "  imports  {}", if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") })?;
    if matches!(source, ComponentSource::Builtin(_)) {
        return Ok(writeln!(out, "\nIt is built in, with the grants that it needs.")?);
    }
    writeln!(out, "\nTo use it, add to the configuration:\n\n[plugins.{name}]\nfile = {location:?}")?;
    let lines = inspection.grant_lines();
    if !lines.is_empty() {
        writeln!(out, "[plugins.{name}.grants]\n{}", lines.join("\n"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use waxwing_pipeline::Hook;
    use waxwing_sandbox::{MessageAccess, PluginGrants};

    use super::*;

    #[test]
    fn prints_the_lines_to_add() {
        let found = Inspection {
            hooks: vec![Hook::OnRcpt, Hook::OnMessage],
            on_load: true,
            imports: vec!["waxwing:mail/edit@0.1.0".into()],
            grants: PluginGrants { message: MessageAccess::Headers, edit: true, ..PluginGrants::default() },
            contract: "0.1.0".into(),
            size: 4096,
        };
        let mut out = Vec::new();
        print("subject", &ComponentSource::parse("a/subject.wasm"), &found, &mut out).unwrap();
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
        let source = ComponentSource::File(file.clone());
        let sentence = |octets: Option<&[u8]>| {
            if let Some(octets) = octets {
                std::fs::write(&file, octets).unwrap();
            }
            check(&source, |_| None, false, &mut Vec::new()).unwrap_err().to_string()
        };
        assert!(sentence(None).contains("My_Plugin.wasm: "));
        assert!(sentence(Some(b"\0asm\x01\0\0\0")).starts_with("plugin \"my-plugin\" is a core module"));
        let mut out = Vec::new();
        assert!(check(&source, |_| None, true, &mut out).is_err());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap()["fits"], json!(false));
    }
}
