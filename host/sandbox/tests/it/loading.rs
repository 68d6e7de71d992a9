//! What is not loaded, and the sentence that says why; compiled plugins on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{call, component, evil, sandbox, session, try_load};
use serde_json::json;
use waxwing_pipeline::{Event, Hook, Plugin};
use waxwing_sandbox::{MessageAccess, PluginLoadError, PluginSettings, Sandbox, SandboxSettings};

async fn refusal(settings: PluginSettings) -> String {
    try_load(settings).await.err().expect("it was loaded").to_string()
}

#[tokio::test]
async fn an_import_that_is_not_granted_names_the_line() {
    let sentence = |import: &str, line: &str| {
        format!(
            "plugin \"evil\" imports waxwing:mail/{import}@0.1.0, which is not granted; add {line} under [plugins.evil.grants]"
        )
    };
    let mut settings = evil("");
    settings.grants.edit = false;
    assert_eq!(refusal(settings).await, sentence("edit", "edit = true"));
    let mut settings = evil("");
    settings.grants.message = MessageAccess::Headers;
    assert_eq!(refusal(settings).await, sentence("content", "message = \"full\""));
    let mut settings = evil("");
    settings.grants.lookup.clear();
    assert_eq!(refusal(settings).await, sentence("lookup", "lookup = [\"NAME-OF-A-TABLE\"]"));
    let mut settings = evil("");
    settings.grants.lookup.push("nowhere".into());
    assert_eq!(refusal(settings).await, "plugin \"evil\" is granted the table \"nowhere\", and the server has no such table");
}

#[tokio::test]
async fn a_hook_to_come_says_so() {
    let error = sandbox().load(component("later"), PluginSettings::new("s")).await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "plugin \"s\" exports on-file, and the hook on-file is not implemented yet in this version of the server; build it \
         without that hook, or use a later server"
    );
}

#[tokio::test]
async fn another_version_or_world_says_so() {
    // Names of the same length: the component stays valid.
    let renamed = |from: &str, to: &str| {
        let text = component("later");
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let mut octets = text.to_vec();
        for at in 0..octets.len() - from.len() {
            if octets[at..].starts_with(from) {
                octets[at..at + to.len()].copy_from_slice(to);
            }
        }
        octets
    };
    let load = async |octets: Vec<u8>| sandbox().load(&octets, PluginSettings::new("s")).await.err().unwrap().to_string();
    let error = load(renamed("@0.1.0", "@0.9.0")).await;
    assert!(error.contains("version 0.9.0 of waxwing:mail") && error.contains("speaks version 0.1.0"), "{error}");
    let error = load(renamed("on-file", "on-fill")).await;
    assert!(error.starts_with("plugin \"s\" exports waxwing:mail/on-fill@0.1.0, which is no hook of waxwing:mail"), "{error}");
    let error = load(b"not a component".to_vec()).await;
    assert!(error.starts_with("plugin \"s\" is not a component that can be run"), "{error}");
}

#[tokio::test]
async fn on_load_has_a_say_within_limits() {
    assert_eq!(refusal(evil("load-error")).await, "plugin \"evil\" does not want to be loaded: the moon is not full");
    let error = refusal(evil("load-loop")).await;
    assert_eq!(error, "plugin \"evil\" failed while it was loaded: cpu-limit: computed for more than 50 ms");
    let mut settings = evil("");
    settings.config.insert("colour".into(), json!("blue"));
    assert_eq!(refusal(settings).await, "plugin \"evil\" does not know the key \"colour\" under [plugins.evil.config]");
    // What the server offers need not be read.
    let mut settings = evil("");
    settings.server_values = Arc::new([("myorigin".to_owned(), json!("example.com"))].into());
    assert!(try_load(settings).await.is_ok());
}

#[tokio::test]
async fn exports_are_what_is_called() {
    let plugin = crate::common::load(evil("")).await;
    let hooks: Vec<Hook> = plugin.exports().iter().collect();
    let evil = [
        Hook::OnConnect,
        Hook::OnHelo,
        Hook::OnMail,
        Hook::OnRcpt,
        Hook::OnMessage,
        Hook::OnCleanup,
        Hook::OnRewriteAddress,
        Hook::OnResolve,
        Hook::OnDeliver,
    ];
    assert_eq!(hooks, evil);
    assert_eq!(plugin.version().len(), 12);
}

fn cached(directory: &Path) -> Result<Arc<Sandbox>, PluginLoadError> {
    let settings =
        SandboxSettings { cache_directory: Some(directory.to_owned()), instances_max: 10, ..SandboxSettings::default() };
    Sandbox::new(settings, Arc::new(waxwing_testkit::RealClock::start()))
}

fn entry(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let entry = entries.next().unwrap();
    assert_eq!(entries.next(), None);
    entry
}

#[tokio::test]
async fn compiled_plugins_are_kept_and_checked() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("compiled");
    let works = async |sandbox: &Sandbox| {
        let plugin = sandbox.load(component("evil"), evil("")).await.unwrap();
        call(&plugin, Event::Helo("x".into()), &session()).await.unwrap()
    };
    works(&*cached(&directory).unwrap()).await;
    let path = entry(&directory);
    let whole = fs::read(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);

    // The entry is what is used: a plain text of the same length under another key is not loaded, the entry itself is not rewritten.
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    works(&*cached(&directory).unwrap()).await;
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "the entry was compiled again");

    // One octet of the code, one of the hash, the end cut off, another's entry under this name.
    let mut other = whole.clone();
    other.rotate_left(1);
    let mut code = whole.clone();
    *code.last_mut().unwrap() ^= 1;
    let mut hash = whole.clone();
    hash[20] ^= 1;
    for tampered in [code, hash, whole[..whole.len() - 100].to_vec(), other, Vec::new()] {
        fs::write(&path, &tampered).unwrap();
        works(&*cached(&directory).unwrap()).await;
        assert_eq!(fs::read(&path).unwrap(), whole, "the entry was not made anew");
    }
}

#[tokio::test]
async fn a_directory_that_others_may_write_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("compiled");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o770)).unwrap();
    let error = cached(&directory).err().unwrap().to_string();
    assert!(error.contains("others may write in it (mode 770)"), "{error}");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&directory, &link).unwrap();
    assert!(cached(&link).err().unwrap().to_string().contains("it is not a directory"));
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut directory = home.path().join("compiled");
    fs::create_dir(&directory).unwrap();
    // Only root can give it away; anybody else finds one of root's.
    let owner = match std::os::unix::fs::chown(&directory, Some(65_534), None) {
        Ok(()) => 65_534,
        Err(_) => {
            directory = PathBuf::from("/usr");
            0
        }
    };
    let error = cached(&directory).err().unwrap().to_string();
    assert!(error.contains(&format!("it belongs to user {owner}, not to the server's user")), "{error}");
}

/// `WAXWING_UPDATE=1 cargo test -p waxwing-sandbox` writes it anew.
#[test]
fn the_table_of_the_documentation_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("HOOKS.md");
    let intro = "# What is possible at which hook\n\nGenerated from `src/permissions.rs`. Anything else is an error of the host function, \
        or makes the call a fault.\n\n";
    let expected = format!("{intro}{}", waxwing_sandbox::permission_table());
    if std::env::var_os("WAXWING_UPDATE").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), expected);
}
