use std::os::unix::fs::PermissionsExt;

use super::*;

const ALL: [PluginLanguage; 4] = [PluginLanguage::Rust, PluginLanguage::Js, PluginLanguage::Python, PluginLanguage::C];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn begun(language: PluginLanguage, base: &Path) -> Result<String, ToolError> {
    let mut out = Vec::new();
    create(&NewPluginArgs { name: "greeter".into(), lang: language, dir: base.join("deep") }, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// The files below `folder`, relative to it, but for what a build makes.
fn below(folder: &Path) -> Vec<String> {
    let mut open = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(here).unwrap().map(|e| e.unwrap().path()) {
            let name = entry.file_name().unwrap().to_string_lossy().into_owned();
            let made =
                ["node_modules", "target", ".venv", "__pycache__", "Cargo.lock", "package-lock.json"].contains(&name.as_str());
            match (made || name.ends_with(".wasm"), entry.is_dir()) {
                (true, _) => {}
                (false, true) => open.push(entry),
                (false, false) => found.push(entry.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_of_the_repository_comes_along() {
    for (language, folders) in [
        (PluginLanguage::Rust, &["plugins/examples/rust", "plugins/sdk", "wit/mail/0.1.0"][..]),
        (PluginLanguage::Js, &["plugins/examples/js", "wit/mail/0.1.0"]),
        (PluginLanguage::Python, &["plugins/examples/python", "wit/mail/0.1.0"]),
        (PluginLanguage::C, &["plugins/examples/c", "wit/mail/0.1.0"]),
    ] {
        let known: Vec<&str> = templates::for_language(language).map(|file| file.source).collect();
        for folder in folders {
            for file in below(&root().join(folder)) {
                let file = format!("{folder}/{file}");
                assert!(known.contains(&file.as_str()), "{file} is missing in new/files.rs");
            }
        }
    }
}

#[test]
fn nothing_of_the_example_or_the_repository_is_left() {
    for language in ALL {
        let base = tempfile::tempdir().unwrap();
        let words = begun(language, base.path()).unwrap();
        let folder = base.path().join("deep/greeter");
        assert!(words.contains("greeter/build"), "{words}");
        let binding = fs::read_to_string(folder.join(BINDING)).unwrap();
        assert!(binding.contains("[plugins.greeter.grants]") && binding.contains("/deep/greeter/greeter.wasm\""), "{binding}");
        for file in below(&folder) {
            assert!(!file.contains(EXAMPLE_NAME), "{file}");
            let Ok(text) = fs::read_to_string(folder.join(&file)) else { continue };
            let foreign = [EXAMPLE_NAME, "../../../", ".workspace", "../../sdk"];
            // The SDK finds the contract where it found it in the repository.
            let found: Vec<_> = foreign.iter().filter(|word| text.contains(**word)).collect();
            assert!(found.is_empty(), "{language:?}: {file} has {found:?}");
        }
        assert_eq!(fs::metadata(folder.join("build")).unwrap().permissions().mode() & 0o111, 0o111);
        assert!(fs::read_to_string(folder.join("README.md")).unwrap().contains("greeter.wasm"));
    }
}

#[test]
fn nothing_is_overwritten() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("deep/greeter")).unwrap();
    let error = begun(PluginLanguage::C, base.path()).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    assert_eq!(below(&base.path().join("deep")), Vec::<String>::new());
}

#[test]
fn names_are_checked() {
    for good in ["a", "greeter", "anti-spam-2"] {
        assert!(check_name(good, PluginLanguage::Rust).is_ok(), "{good}");
    }
    let long = "a".repeat(NAME_BYTES_MAX + 1);
    for bad in ["", "A", "2a", "-a", "a-", "a--b", "a_b", "a/b", "..", "a b", "é", "waxwing-sdk", "cleanup", "fn", &long] {
        assert!(check_name(bad, PluginLanguage::Rust).is_err(), "{bad}");
    }
    assert!(check_name("fn", PluginLanguage::C).is_ok());
}

#[test]
fn the_sdk_outside_has_the_generator_of_the_workspace() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.lines().any(|line| line == templates::WIT_BINDGEN), "{}", templates::WIT_BINDGEN);
}

#[test]
fn what_is_no_module_says_so() {
    let base = tempfile::tempdir().unwrap();
    let (module, made) = (base.path().join("m.wasm"), base.path().join("c.wasm"));
    assert!(write_component(&module, &made).unwrap_err().to_string().contains("m.wasm: No such file"));
    // A component is none either.
    fs::write(&module, b"\0asm\x0d\0\x01\0").unwrap();
    assert!(write_component(&module, &made).is_err());
    fs::write(&module, b"nothing").unwrap();
    assert!(write_component(&module, &made).unwrap_err().to_string().starts_with(&module.display().to_string()));
    assert!(!made.exists());
}
