//! Plugin manager: replaces plugin versions while mail passes. Transactions in progress keep their versions.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use waxwing_control::{ControlError, ControlErrorKind, PluginChange};
use waxwing_net::Shutdown;
use waxwing_pipeline::Pipeline;

use crate::file_watcher::FileFingerprint;
use crate::load::LoadedPlugins;
use crate::loader::PluginLoader;
use crate::versions::{PluginVersions, ReloadTrigger, Track};

/// Interval of the checks of plugin files.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// Plugins, their versions, and the pipeline that calls them.
pub struct PluginManager {
    pub(crate) loader: ArcSwap<PluginLoader>,
    pub(crate) plugins: Mutex<Vec<PluginVersions>>,
    pub(crate) pipeline: Arc<Pipeline>,
    /// Serialises changes of plugins.
    pub(crate) change_lock: tokio::sync::Mutex<()>,
}

impl PluginManager {
    /// Creates the manager; `pipeline` must have been built from the bindings of `loaded`.
    pub fn new(loaded: LoadedPlugins, pipeline: Arc<Pipeline>) -> Arc<Self> {
        let LoadedPlugins { loader, versions: plugins } = loaded;
        loader.tables.set_pipeline(&pipeline);
        Arc::new(Self {
            loader: ArcSwap::from_pointee(loader),
            plugins: Mutex::new(plugins),
            pipeline,
            change_lock: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the version that `waxwing plugin rollback` would restore, and the error of the last failed reload.
    pub fn last_change(&self, plugin: &str) -> (Option<String>, Option<String>) {
        let plugins = self.plugins.lock();
        let Some(versions) = plugins.iter().find(|versions| versions.plugin.name == plugin) else { return (None, None) };
        (versions.previous.as_ref().map(|previous| previous.binding.version.to_string()), versions.last_error.clone())
    }

    /// Reads the files of all plugins, or of the plugin `name`, again; if a version fails to load, the current version stays in service.
    pub async fn reload(&self, name: Option<&str>) -> Result<Vec<PluginChange>, ControlError> {
        let _guard = self.change_lock.lock().await;
        let trigger = if name.is_some() { ReloadTrigger::OnePlugin } else { ReloadTrigger::AllPlugins };
        let wanted: Vec<usize> = match name {
            Some(name) => vec![self.index_of(name)?],
            None => (0..self.plugins.lock().len()).collect(),
        };
        let mut changes = Vec::new();
        for at in wanted {
            for track in [Track::Stable, Track::Canary] {
                changes.extend(self.reload_one(at, track, trigger).await);
            }
            if let (Some(_), true, Some(versions)) = (name, changes.is_empty(), self.versions_at(at)) {
                changes.push(versions.describe_change("unchanged", Some("it is a part of the program".to_owned())));
            }
        }
        Ok(changes)
    }

    /// Undoes the last change of a plugin (`waxwing plugin rollback`).
    pub async fn roll_back(&self, name: &str) -> Result<PluginChange, ControlError> {
        self.change_one(name, PluginVersions::roll_back).await
    }

    /// Makes a plugin's canary the stable version (`waxwing plugin promote`).
    pub async fn promote(&self, name: &str) -> Result<PluginChange, ControlError> {
        self.change_one(name, PluginVersions::promote).await
    }

    async fn change_one(
        &self,
        name: &str,
        how: fn(&mut PluginVersions) -> Result<PluginChange, String>,
    ) -> Result<PluginChange, ControlError> {
        let _guard = self.change_lock.lock().await;
        let at = self.index_of(name)?;
        let mut versions = self.versions_at(at).ok_or_else(|| unknown_plugin(name))?;
        let change = how(&mut versions).map_err(|text| ControlError { kind: ControlErrorKind::Failed, text })?;
        self.install(at, versions);
        log_change(&change);
        Ok(change)
    }

    /// Returns the pipeline that the plugins are bound to.
    #[must_use]
    pub fn pipeline(&self) -> Arc<Pipeline> {
        Arc::clone(&self.pipeline)
    }

    /// Polls the plugin files until shutdown, even with no files yet: a reload may add some.
    pub async fn watch_files(self: Arc<Self>, mut shutdown: Shutdown) {
        while shutdown.sleep(POLL_PERIOD).await {
            self.poll_files().await;
        }
    }

    /// Checks all plugin files once and reloads the changed files.
    pub(crate) async fn poll_files(&self) {
        let _guard = self.change_lock.lock().await;
        let mut files = Vec::new();
        for (at, versions) in self.plugins.lock().iter_mut().enumerate() {
            for track in [Track::Stable, Track::Canary] {
                files.extend(versions.file_mut(track).map(|watched| (at, track, watched.path.clone())));
            }
        }
        if files.is_empty() {
            return;
        }
        let fingerprints =
            move || files.into_iter().map(|(at, track, path)| (at, track, FileFingerprint::read(&path))).collect::<Vec<_>>();
        let Ok(fingerprints) = tokio::task::spawn_blocking(fingerprints).await else { return };
        for (at, track, fingerprint) in fingerprints {
            let changed = |versions: &mut PluginVersions| {
                versions.file_mut(track).is_some_and(|watched| watched.check_changed(fingerprint))
            };
            if self.plugins.lock().get_mut(at).is_some_and(changed) {
                self.reload_one(at, track, ReloadTrigger::FileChanged).await;
            }
        }
    }

    async fn reload_one(&self, at: usize, track: Track, trigger: ReloadTrigger) -> Option<PluginChange> {
        let mut versions = self.versions_at(at)?;
        let change = versions.reload(&self.loader.load_full(), track, trigger).await?;
        self.install(at, versions);
        log_change(&change);
        Some(change)
    }

    fn index_of(&self, name: &str) -> Result<usize, ControlError> {
        self.plugins.lock().iter().position(|versions| versions.plugin.name == name).ok_or_else(|| unknown_plugin(name))
    }

    fn versions_at(&self, at: usize) -> Option<PluginVersions> {
        self.plugins.lock().get(at).cloned()
    }

    /// Installs a version set, in effect for hook sessions opened from now on.
    fn install(&self, at: usize, versions: PluginVersions) {
        let mut plugins = self.plugins.lock();
        if let Some(place) = plugins.get_mut(at) {
            *place = versions;
        }
        self.pipeline.replace(plugins.iter().map(PluginVersions::binding).collect());
    }
}

fn unknown_plugin(name: &str) -> ControlError {
    ControlError { kind: ControlErrorKind::NotFound, text: format!("no plugin \"{name}\" is loaded") }
}

pub(crate) fn log_change(change: &PluginChange) {
    let PluginChange { name, change: what, before, version, note } = change;
    let note = note.as_deref().unwrap_or_default();
    match what.as_str() {
        "unchanged" => tracing::debug!(target: "plugins", plugin = name, version, "unchanged"),
        "failed" => {
            tracing::error!(target: "plugins", plugin = name, version, error = note, "not reloaded: the version before stays in service")
        }
        what => tracing::info!(target: "plugins", plugin = name, version, before, note, "{what}"),
    }
}
