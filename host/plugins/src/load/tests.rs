use std::path::PathBuf;

use waxwing_config::HostEnvironment;
use waxwing_control::PluginChange;
use waxwing_pipeline::{Context as MailContext, Event, Pipeline};
use waxwing_types::{Address, ManualClock, Source};

use super::*;
use crate::manager::PluginManager;

const NO_STANDARD: &str = "[plugins.cleanup]\nenabled = false\n[plugins.aliases]\nenabled = false\n";

/// A folder with a configuration, and what was loaded by it.
struct House {
    dir: tempfile::TempDir,
    loaded: LoadedPlugins,
}

async fn load_in(dir: tempfile::TempDir, text: &str) -> anyhow::Result<House> {
    let file = dir.path().join("w.toml");
    let facts = HostEnvironment { hostname: "h.example".into(), is_root: false, path_exists: |_| true };
    let text = format!("queue_directory = \"q\"\nalias_maps = {{ a = \"b\" }}\n{text}");
    let config = Arc::new(Config::parse(&file, &text, &facts)?);
    std::fs::create_dir(&config.general.queue_directory)?;
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
    let accounts = Arc::new(Accounts::open(&config, &clock)?);
    let loaded = load(sandbox_settings(&config), &config, &accounts, &clock, |_| None, HostServices::default()).await?;
    Ok(House { dir, loaded })
}

async fn load_text(text: &str) -> anyhow::Result<House> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("empty.wasm"), "")?;
    load_in(dir, text).await
}

#[tokio::test]
async fn without_plugins_no_engine_is_needed() {
    let house = load_text(NO_STANDARD).await.unwrap();
    assert!(house.loaded.bindings().is_empty() && house.loaded.loader.sandbox.is_none());
}

#[tokio::test]
async fn a_plugin_that_cannot_be_loaded_is_named_with_its_place() {
    for (text, words) in [
        ("".to_owned(), "no built-in plugin \"cleanup\""),
        (format!("{NO_STANDARD}[plugins.x]\nfile = \"gone.wasm\"\n"), "gone.wasm"),
        (format!("{NO_STANDARD}[plugins.x]\nfile = \"empty.wasm\"\n"), "w.toml:7:"),
    ] {
        let Err(error) = load_text(&text).await else { panic!("{text} was loaded") };
        let error = format!("{error:#}");
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}

/// One plugin from a file, which may hold either of two components.
struct Kept {
    keeper: Arc<PluginManager>,
    pipeline: Arc<Pipeline>,
    dir: tempfile::TempDir,
}

/// The components of two standard plugins stand for two versions of one.
fn content(version: &str) -> &'static [u8] {
    match version {
        "bad" => b"no component",
        name => waxwing_bundle::standard_component(name).unwrap(),
    }
}

impl Kept {
    async fn start(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for file in ["p.wasm", "canary.wasm"] {
            std::fs::write(dir.path().join(file), content("cleanup")).unwrap();
        }
        let grants = "grants = { message = \"headers\", edit = true, lookup = [\"alias_maps\", \"virtual_alias_maps\"] }";
        let text = format!("{NO_STANDARD}[plugins.p]\nfile = \"p.wasm\"\ninstance = \"reuse\"\n{grants}\n{more}");
        let House { dir, loaded } = load_in(dir, &text).await.unwrap();
        let pipeline = Arc::new(Pipeline::new(
            loaded.bindings(),
            Arc::new(waxwing_testkit::FixedClassifier::REMOTE),
            Arc::new(ManualClock::default()),
        ));
        Self { keeper: PluginManager::new(loaded, Arc::clone(&pipeline)), pipeline, dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// Another content takes the file's place, as an installer does it.
    fn install(&self, file: &str, version: &str) {
        std::fs::write(self.path("new"), content(version)).unwrap();
        std::fs::rename(self.path("new"), self.path(file)).unwrap();
    }

    async fn reload(&self, name: Option<&str>) -> Vec<PluginChange> {
        self.keeper.reload(name).await.unwrap()
    }

    /// Two looks: what is seen to change at the first is settled at the second.
    async fn look(&self) -> Vec<String> {
        self.keeper.poll_files().await;
        self.keeper.poll_files().await;
        self.versions()
    }

    /// The loads that are in service, the canary's last: `v2`.
    fn versions(&self) -> Vec<String> {
        self.pipeline.status().iter().map(|status| status.version.split(':').next().unwrap().to_owned()).collect()
    }
}

fn words(changes: &[PluginChange]) -> Vec<&str> {
    changes.iter().map(|change| change.change.as_str()).collect()
}

#[tokio::test]
async fn a_changed_file_is_loaded_and_a_bad_one_leaves_the_version_before() {
    let kept = Kept::start("").await;
    assert_eq!(words(&kept.reload(None).await), ["unchanged"]);
    assert_eq!(kept.look().await, ["v1"]);
    kept.install("p.wasm", "aliases");
    assert_eq!(kept.look().await, ["v2"]);
    kept.install("p.wasm", "bad");
    let failed = kept.reload(None).await.remove(0);
    assert!(failed.is_failed() && failed.note.as_ref().is_some_and(|note| note.contains("w.toml:7:")), "{failed:?}");
    assert_eq!(kept.versions(), ["v2"]);
    assert!(kept.keeper.last_change("p").1.is_some(), "lists say why it is not in service");
    assert_eq!(kept.look().await, ["v2"]);
    assert!(kept.reload(None).await[0].is_failed(), "whoever asks again is told again");
    std::fs::remove_file(kept.path("p.wasm")).unwrap();
    assert!(kept.reload(Some("p")).await[0].is_failed());
    kept.install("p.wasm", "cleanup");
    assert_eq!(kept.look().await, ["v3"]);
    assert_eq!(kept.keeper.last_change("p").1, None);
}

#[tokio::test]
async fn a_version_that_was_rolled_back_waits_for_its_file_to_change() {
    let kept = Kept::start("").await;
    assert!(kept.keeper.roll_back("p").await.is_err(), "there is nothing before it");
    kept.install("p.wasm", "aliases");
    assert_eq!(words(&kept.reload(None).await), ["reloaded"]);
    assert_eq!(kept.keeper.last_change("p").0.unwrap().split(':').next(), Some("v1"));
    let change = kept.keeper.roll_back("p").await.unwrap();
    assert_eq!((change.change.as_str(), kept.versions()), ("rolled-back", vec!["v1".to_owned()]));
    kept.install("p.wasm", "aliases");
    assert_eq!(kept.look().await, ["v1"], "it is the same bad content in a new file");
    assert_eq!(words(&kept.reload(None).await), ["unchanged"]);
    assert_eq!(words(&kept.reload(Some("p")).await), ["reloaded"], "by its name it is what the operator wants");
    assert_eq!(kept.versions(), ["v3"]);
}

#[tokio::test]
async fn what_has_begun_keeps_its_version_and_then_its_instances_are_gone() {
    let kept = Kept::start("").await;
    let old = kept.pipeline.bindings().remove(0);
    assert_eq!(old.plugin.instances(), 1, "the one that was loaded waits for calls");
    let mut begun = kept.pipeline.open_session();
    kept.install("p.wasm", "aliases");
    kept.reload(None).await;
    assert_eq!(old.plugin.instances(), 0);
    let mut context = MailContext::new(Source::Smtp, None);
    let address = Address::parse("root@h.example").unwrap();
    let role = waxwing_pipeline::AddressRole::EnvelopeRecipient;
    kept.pipeline.rewrite(&mut begun, &mut context, address.clone(), role).await.unwrap();
    assert_eq!(begun.trace.iter().map(|e| &*e.version).collect::<Vec<_>>(), [&*old.version]);
    assert_eq!(old.plugin.instances(), 0, "no instance of it waits for more");
    let mut fresh = kept.pipeline.open_session();
    kept.pipeline.resolve(&mut fresh, &mut context, &address, false).await;
    assert!(fresh.trace[0].version.starts_with("v2:"), "{:?}", fresh.trace);
    let weak = Arc::downgrade(&old.plugin);
    drop((old, begun));
    assert!(weak.upgrade().is_some(), "it can still be put back");
    kept.install("p.wasm", "cleanup");
    kept.reload(None).await;
    assert!(weak.upgrade().is_none(), "two versions later nothing holds it");
}

#[tokio::test]
async fn a_canary_stands_beside_and_is_taken_away_or_promoted() {
    let kept = Kept::start("canary = { file = \"canary.wasm\", percent = 30 }\n").await;
    assert_eq!(kept.versions(), ["v1", "v2"]);
    assert_eq!(kept.pipeline.status()[1].canary, Some(30));
    let change = kept.keeper.roll_back("p").await.unwrap();
    assert_eq!((change.change.as_str(), kept.versions()), ("canary-removed", vec!["v1".to_owned()]));
    assert_eq!(kept.look().await, ["v1"]);
    assert!(kept.keeper.promote("p").await.is_err());
    kept.install("canary.wasm", "aliases");
    assert_eq!(kept.look().await, ["v1", "v3"]);
    let change = kept.keeper.promote("p").await.unwrap();
    assert!(change.change == "promoted" && change.note.is_some_and(|note| note.contains("canary.wasm")));
    assert_eq!(kept.versions(), ["v3"]);
    assert_eq!(kept.look().await, ["v3"], "the file of before has not changed");
    kept.keeper.roll_back("p").await.unwrap();
    assert_eq!(kept.versions(), ["v1"]);
    let chain = &mut kept.pipeline.open_session();
    kept.pipeline.notify(chain, &mut MailContext::new(Source::Smtp, None), Event::Tick).await;
}

#[tokio::test]
async fn a_milter_needs_no_engine_and_need_not_be_there_yet() {
    let house = load_text(&format!("{NO_STANDARD}[plugins.rspamd]\nmilter = \"inet:1@127.0.0.1\"\n")).await.unwrap();
    assert!(house.loaded.loader.sandbox.is_none());
    let status = house.loaded.bindings()[0].status();
    assert_eq!((status.name.as_str(), status.hooks.len()), ("rspamd", 7));
}
