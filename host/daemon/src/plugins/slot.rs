//! One plugin of the configuration: which version is in service, which stands beside it, which was before.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use waxwing_config::{self as config, PluginSource};
use waxwing_control::PluginChange;
use waxwing_milter::Milter;
use waxwing_pipeline::{Binding, Canary, Plugin};

use super::settings::binding_settings;
use super::watch::{Stamp, Watched};
use super::{Builtin, Loader, in_one_line};

/// A version that has been loaded.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) binding: Arc<Binding>,
    /// Which load of the plugin it is, from 1.
    number: u32,
    hash: blake3::Hash,
}

/// Everything about one plugin. A copy is changed and put back whole, so that lists never wait for a load.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) plugin: Arc<config::Plugin>,
    pub(super) current: Version,
    pub(super) previous: Option<Version>,
    canary: Option<Version>,
    /// None for a built-in plugin and for a milter.
    pub(super) file: Option<Watched>,
    pub(super) canary_file: Option<Watched>,
    /// Loads so far, the number of the latest version.
    loads: u32,
    /// Why the last change of its file was not taken into service.
    pub(super) last_error: Option<String>,
}

/// Which of a plugin's two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Stable,
    Canary,
}

/// Who wants a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The file has changed: content that was tried before is not tried again.
    Poll,
    /// The operator, for all plugins: content that failed is tried again, content that was rolled back is not.
    All,
    /// The operator, for this one: whatever is not in service is tried.
    Named,
}

impl Slot {
    /// The start: the version of the configuration and its canary.
    pub(super) async fn load(loader: &Loader, plugin: &config::Plugin, builtin: Builtin) -> anyhow::Result<Self> {
        let began = loader.clock.monotonic();
        let mut file = None;
        let (loaded, hash): (Arc<dyn Plugin>, _) = match plugin.source() {
            // Nothing of it is here: it is asked for when there is mail for it.
            PluginSource::Milter(endpoint) => {
                let hash = blake3::hash(endpoint.to_string().as_bytes());
                (Milter::new(loader.milter_settings(plugin, endpoint)), hash)
            }
            PluginSource::Builtin => {
                let source = loader.builtin(plugin, builtin)?;
                (loader.load(plugin, Cow::Borrowed(source)).await?, blake3::hash(source))
            }
            PluginSource::File(path) => {
                let (source, watched) = read_first(loader, plugin, path).await?;
                file = Some(watched);
                let hash = blake3::hash(&source);
                (loader.load(plugin, Cow::Owned(source)).await?, hash)
            }
        };
        let binding = Binding::first(&plugin.name, loaded, binding_settings(plugin), loader.clock.now());
        let hooks: Vec<&str> = binding.plugin.exports().iter().map(|hook| hook.as_str()).collect();
        let micros = loader.clock.monotonic().since(began).as_micros();
        tracing::info!(name = plugin.name, version = %binding.version, hooks = %hooks.join(","), micros, "plugin loaded");
        let mut slot = Self {
            plugin: Arc::new(plugin.clone()),
            current: Version { binding, number: 1, hash },
            previous: None,
            canary: None,
            file,
            canary_file: None,
            loads: 1,
            last_error: None,
        };
        if let Some(canary) = &plugin.canary {
            let (source, watched) = read_first(loader, plugin, canary.file.clone()).await?;
            slot.canary_file = Some(watched);
            let version = slot.next(loader, Which::Canary, source).await?;
            tracing::info!(name = plugin.name, version = %version.binding.version, percent = canary.percent, "canary loaded");
            slot.canary = Some(version);
        }
        Ok(slot)
    }

    /// What the pipeline calls.
    pub(super) fn binding(&self) -> Arc<Binding> {
        let (Some(version), Some(settings)) = (&self.canary, &self.plugin.canary) else {
            return Arc::clone(&self.current.binding);
        };
        let percent = u8::try_from(settings.percent).unwrap_or(u8::MAX);
        self.current.binding.with_canary(Some(Canary { binding: Arc::clone(&version.binding), percent }))
    }

    pub(super) fn watched(&mut self, which: Which) -> Option<&mut Watched> {
        match which {
            Which::Stable => self.file.as_mut(),
            Which::Canary => self.canary_file.as_mut(),
        }
    }

    fn in_service(&self, which: Which) -> Option<&Version> {
        match which {
            Which::Stable => Some(&self.current),
            Which::Canary => self.canary.as_ref(),
        }
    }

    /// Loads what is in one of its files, if it should be. None: this plugin has no such file.
    pub(super) async fn reload(&mut self, loader: &Loader, which: Which, cause: Cause) -> Option<PluginChange> {
        let path = self.watched(which)?.path.clone();
        let stamp = Stamp::of(&path);
        let read = loader.read(&self.plugin, &path).await;
        let had_failed = self.last_error.is_some();
        let watched = self.watched(which)?;
        watched.has_been_read(stamp);
        let source = match read {
            Ok(source) => source,
            Err(error) => return Some(self.failed(&error)),
        };
        let hash = blake3::hash(&source);
        let was_tried = std::mem::replace(&mut watched.tried, hash) == hash;
        let is_in_service = self.in_service(which).is_some_and(|version| version.hash == hash);
        let is_left = match cause {
            Cause::Poll => was_tried,
            Cause::All => was_tried && !had_failed,
            Cause::Named => false,
        };
        if is_in_service {
            self.last_error = None;
            return Some(self.change("unchanged", None));
        }
        if is_left {
            return Some(
                self.change("unchanged", Some("what its file holds was taken back before; reload it by its name".to_owned())),
            );
        }
        Some(match self.next(loader, which, source).await {
            Ok(version) => self.put(version, which),
            Err(error) => self.failed(&error),
        })
    }

    async fn next(&mut self, loader: &Loader, which: Which, source: Vec<u8>) -> anyhow::Result<Version> {
        let hash = blake3::hash(&source);
        let plugin = loader.load(&self.plugin, Cow::Owned(source)).await?;
        self.loads = self.loads.saturating_add(1);
        let (current, number, now) = (&self.current.binding, self.loads, loader.clock.now());
        let binding = match which {
            Which::Stable => current.successor(plugin, number, now),
            Which::Canary => current.beside(plugin, number, now),
        };
        Ok(Version { binding, number, hash })
    }

    fn put(&mut self, version: Version, which: Which) -> PluginChange {
        self.last_error = None;
        match which {
            Which::Stable => {
                let before = std::mem::replace(&mut self.current, version);
                let change = PluginChange { before: before.binding.version.to_string(), ..self.change("reloaded", None) };
                before.binding.plugin.retire(true);
                self.previous = Some(before);
                change
            }
            Which::Canary => {
                let name = version.binding.version.to_string();
                let before = self.canary.replace(version);
                let before = before.map_or_else(String::new, |before| before.binding.version.to_string());
                PluginChange { before, version: name, ..self.change("canary-reloaded", None) }
            }
        }
    }

    /// Takes the canary away, or puts the version before back. What is taken away is not loaded again until its file changes.
    pub(super) fn roll_back(&mut self) -> Result<PluginChange, String> {
        if let Some(canary) = self.canary.take() {
            self.last_error = None;
            let note = format!("its canary {} serves no more transactions", canary.binding.version);
            return Ok(self.change("canary-removed", Some(note)));
        }
        let Some(previous) = self.previous.take() else {
            return Err(format!("there is no version of {} before {}", self.plugin.name, self.current.binding.version));
        };
        previous.binding.plugin.retire(false);
        let taken_back = std::mem::replace(&mut self.current, previous);
        taken_back.binding.plugin.retire(true);
        self.last_error = None;
        Ok(PluginChange { before: taken_back.binding.version.to_string(), ..self.change("rolled-back", None) })
    }

    /// Puts the canary in the place of the version in service.
    pub(super) fn promote(&mut self) -> Result<PluginChange, String> {
        let Some(canary) = self.canary.take() else {
            return Err(format!("{} has no canary", self.plugin.name));
        };
        let Version { binding, number, hash } = canary;
        let binding = self.current.binding.successor(Arc::clone(&binding.plugin), number, binding.loaded_at);
        let change = self.put(Version { binding, number, hash }, Which::Stable);
        let file = self.plugin.canary.as_ref().map(|canary| canary.file.display().to_string()).unwrap_or_default();
        let note = format!(
            "until the next start; to keep it, make {file} the plugin's file and take the canary out of the configuration"
        );
        Ok(PluginChange { change: "promoted".to_owned(), note: Some(note), ..change })
    }

    /// The version in service is the one before as well.
    pub(in crate::plugins) fn change(&self, change: &str, note: Option<String>) -> PluginChange {
        let version = self.current.binding.version.to_string();
        PluginChange { name: self.plugin.name.clone(), change: change.to_owned(), before: version.clone(), version, note }
    }

    fn failed(&mut self, error: &anyhow::Error) -> PluginChange {
        let why = in_one_line(error);
        self.last_error = Some(why.clone());
        self.change("failed", Some(why))
    }
}

/// A file that is read for the first time, and watched from then on.
async fn read_first(loader: &Loader, plugin: &config::Plugin, path: PathBuf) -> anyhow::Result<(Vec<u8>, Watched)> {
    let stamp = Stamp::of(&path);
    let source = loader.read(plugin, &path).await?;
    let hash = blake3::hash(&source);
    Ok((source, Watched::new(path, stamp, hash)))
}
