//! Versions of a configured plugin: stable, canary and previous.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use waxwing_config::{self as config, PluginSource};
use waxwing_control::PluginChange;
use waxwing_milter::Milter;
use waxwing_pipeline::{Binding, Canary, Plugin};

use crate::error::error_chain;
use crate::file_watcher::{FileFingerprint, PluginFile};
use crate::loader::{BuiltinLookup, PluginLoader};
use crate::settings::binding_settings;

/// A loaded version of a plugin.
#[derive(Clone)]
pub(crate) struct LoadedVersion {
    pub(crate) binding: Arc<Binding>,
    /// Serial number of the load, from 1.
    number: u32,
    hash: blake3::Hash,
}

/// Versions and files of a plugin. Changes are made on a copy and stored at once, so that readers never wait for a load.
#[derive(Clone)]
pub(crate) struct PluginVersions {
    pub(crate) plugin: Arc<config::PluginConfig>,
    pub(crate) current: LoadedVersion,
    pub(crate) previous: Option<LoadedVersion>,
    canary: Option<LoadedVersion>,
    /// Component file; `None` for built-in plugins and milters.
    pub(crate) file: Option<PluginFile>,
    pub(crate) canary_file: Option<PluginFile>,
    /// Number of loads so far, the serial number of the latest version.
    loads: u32,
    /// Error of the last reload that failed.
    pub(crate) last_error: Option<String>,
}

/// Selects the stable or the canary version and file of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Track {
    Stable,
    Canary,
}

/// Trigger of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReloadTrigger {
    /// The file has changed: content tried before is not tried again.
    FileChanged,
    /// The operator reloads all plugins: content that failed is tried again, content rolled back is not.
    AllPlugins,
    /// The operator reloads this plugin: any content not in service is tried.
    OnePlugin,
}

impl PluginVersions {
    /// Loads the configured version of a plugin, and its canary, at startup.
    pub(crate) async fn load(
        loader: &PluginLoader,
        plugin: &config::PluginConfig,
        builtin: BuiltinLookup,
    ) -> anyhow::Result<Self> {
        let began = loader.clock.monotonic();
        let mut file = None;
        let (loaded, hash): (Arc<dyn Plugin>, _) = match plugin.source() {
            // Milters connect on demand, when mail arrives: nothing to load.
            PluginSource::Milter(endpoint) => {
                let hash = blake3::hash(endpoint.to_string().as_bytes());
                (Milter::new(loader.milter_settings(plugin, endpoint)), hash)
            }
            PluginSource::Builtin => {
                let source = loader.builtin_component(plugin, builtin)?;
                (loader.load(plugin, Cow::Borrowed(source)).await?, blake3::hash(source))
            }
            PluginSource::File(path) => {
                let (source, watched) = read_watched(loader, plugin, path).await?;
                file = Some(watched);
                let hash = blake3::hash(&source);
                (loader.load(plugin, Cow::Owned(source)).await?, hash)
            }
        };
        let binding = Binding::initial(&plugin.name, loaded, binding_settings(plugin), loader.clock.now());
        let hooks: Vec<&str> = binding.plugin.exports().iter().map(|hook| hook.as_str()).collect();
        let micros = loader.clock.monotonic().since(began).as_micros();
        tracing::info!(plugin = plugin.name, version = %binding.version, hooks = %hooks.join(","), micros, "plugin loaded");
        let mut versions = Self {
            plugin: Arc::new(plugin.clone()),
            current: LoadedVersion { binding, number: 1, hash },
            previous: None,
            canary: None,
            file,
            canary_file: None,
            loads: 1,
            last_error: None,
        };
        if let Some(canary) = &plugin.canary {
            let (source, watched) = read_watched(loader, plugin, canary.file.clone()).await?;
            versions.canary_file = Some(watched);
            let version = versions.load_next(loader, Track::Canary, source).await?;
            tracing::info!(plugin = plugin.name, version = %version.binding.version, percent = canary.percent, "canary loaded");
            versions.canary = Some(version);
        }
        Ok(versions)
    }

    /// Returns the binding for the pipeline, with the canary attached.
    pub(crate) fn binding(&self) -> Arc<Binding> {
        let (Some(version), Some(settings)) = (&self.canary, &self.plugin.canary) else {
            return Arc::clone(&self.current.binding);
        };
        let percent = u8::try_from(settings.percent).unwrap_or(u8::MAX);
        self.current.binding.with_canary(Some(Canary { binding: Arc::clone(&version.binding), percent }))
    }

    pub(crate) fn file_mut(&mut self, track: Track) -> Option<&mut PluginFile> {
        match track {
            Track::Stable => self.file.as_mut(),
            Track::Canary => self.canary_file.as_mut(),
        }
    }

    fn version(&self, track: Track) -> Option<&LoadedVersion> {
        match track {
            Track::Stable => Some(&self.current),
            Track::Canary => self.canary.as_ref(),
        }
    }

    /// Reads a file of the plugin again and loads changed content, subject to the trigger's rules. `None`: the plugin has no such file.
    pub(crate) async fn reload(&mut self, loader: &PluginLoader, track: Track, trigger: ReloadTrigger) -> Option<PluginChange> {
        let path = self.file_mut(track)?.path.clone();
        let fingerprint = FileFingerprint::read(&path);
        let read = loader.read_file(&self.plugin, &path).await;
        let had_failed = self.last_error.is_some();
        let watched = self.file_mut(track)?;
        watched.mark_read(fingerprint);
        let source = match read {
            Ok(source) => source,
            Err(error) => return Some(self.record_failure(&error)),
        };
        let hash = blake3::hash(&source);
        let was_tried = std::mem::replace(&mut watched.tried_hash, hash) == hash;
        let is_in_service = self.version(track).is_some_and(|version| version.hash == hash);
        let is_skipped = match trigger {
            ReloadTrigger::FileChanged => was_tried,
            ReloadTrigger::AllPlugins => was_tried && !had_failed,
            ReloadTrigger::OnePlugin => false,
        };
        if is_in_service {
            self.last_error = None;
            return Some(self.describe_change("unchanged", None));
        }
        if is_skipped {
            return Some(self.describe_change(
                "unchanged",
                Some("what its file holds was taken back before; reload it by its name".to_owned()),
            ));
        }
        Some(match self.load_next(loader, track, source).await {
            Ok(version) => self.install(version, track),
            Err(error) => self.record_failure(&error),
        })
    }

    async fn load_next(&mut self, loader: &PluginLoader, track: Track, source: Vec<u8>) -> anyhow::Result<LoadedVersion> {
        let hash = blake3::hash(&source);
        let plugin = loader.load(&self.plugin, Cow::Owned(source)).await?;
        self.loads = self.loads.saturating_add(1);
        let (current, number, now) = (&self.current.binding, self.loads, loader.clock.now());
        let binding = match track {
            Track::Stable => current.replaced_by(plugin, number, now),
            Track::Canary => current.as_canary(plugin, number, now),
        };
        Ok(LoadedVersion { binding, number, hash })
    }

    fn install(&mut self, version: LoadedVersion, track: Track) -> PluginChange {
        self.last_error = None;
        match track {
            Track::Stable => {
                let before = std::mem::replace(&mut self.current, version);
                let change =
                    PluginChange { before: before.binding.version.to_string(), ..self.describe_change("reloaded", None) };
                before.binding.plugin.set_retired(true);
                self.previous = Some(before);
                change
            }
            Track::Canary => {
                let name = version.binding.version.to_string();
                let before = self.canary.replace(version);
                let before = before.map_or_else(String::new, |before| before.binding.version.to_string());
                PluginChange { before, version: name, ..self.describe_change("canary-reloaded", None) }
            }
        }
    }

    /// Removes the canary, or else restores the previous version. Removed content is not loaded again until the file changes.
    pub(crate) fn roll_back(&mut self) -> Result<PluginChange, String> {
        if let Some(canary) = self.canary.take() {
            self.last_error = None;
            let note = format!("its canary {} serves no more transactions", canary.binding.version);
            return Ok(self.describe_change("canary-removed", Some(note)));
        }
        let Some(previous) = self.previous.take() else {
            return Err(format!("there is no version of {} before {}", self.plugin.name, self.current.binding.version));
        };
        previous.binding.plugin.set_retired(false);
        let taken_back = std::mem::replace(&mut self.current, previous);
        taken_back.binding.plugin.set_retired(true);
        self.last_error = None;
        Ok(PluginChange { before: taken_back.binding.version.to_string(), ..self.describe_change("rolled-back", None) })
    }

    /// Makes the canary the stable version.
    pub(crate) fn promote(&mut self) -> Result<PluginChange, String> {
        let Some(canary) = self.canary.take() else {
            return Err(format!("{} has no canary", self.plugin.name));
        };
        let LoadedVersion { binding, number, hash } = canary;
        let binding = self.current.binding.replaced_by(Arc::clone(&binding.plugin), number, binding.loaded_at);
        let change = self.install(LoadedVersion { binding, number, hash }, Track::Stable);
        let file = self.plugin.canary.as_ref().map(|canary| canary.file.display().to_string()).unwrap_or_default();
        let note = format!(
            "until the next start; to keep it, make {file} the plugin's file and take the canary out of the configuration"
        );
        Ok(PluginChange { change: "promoted".to_owned(), note: Some(note), ..change })
    }

    /// Describes a change with the current version as both old and new version.
    pub(crate) fn describe_change(&self, change: &str, note: Option<String>) -> PluginChange {
        let version = self.current.binding.version.to_string();
        PluginChange { name: self.plugin.name.clone(), change: change.to_owned(), before: version.clone(), version, note }
    }

    fn record_failure(&mut self, error: &anyhow::Error) -> PluginChange {
        let why = error_chain(error);
        self.last_error = Some(why.clone());
        self.describe_change("failed", Some(why))
    }
}

/// Reads a component file for the first time and starts watching the file.
async fn read_watched(
    loader: &PluginLoader,
    plugin: &config::PluginConfig,
    path: PathBuf,
) -> anyhow::Result<(Vec<u8>, PluginFile)> {
    let fingerprint = FileFingerprint::read(&path);
    let source = loader.read_file(plugin, &path).await?;
    let hash = blake3::hash(&source);
    Ok((source, PluginFile::new(path, fingerprint, hash)))
}
