//! Plugin manager: replaces plugin versions while mail passes. Transactions in progress keep their versions.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use waxwing_control::{PluginChange, Problem, ProblemKind};
use waxwing_net::Shutdown;
use waxwing_pipeline::{Binding, Pipeline};

use super::slot::{Cause, Slot, Which};
use super::watch::Stamp;
use super::{Loaded, Loader};

/// Interval of the checks of plugin files.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// Plugins, their versions, and the pipeline that calls them.
pub(crate) struct Keeper {
    pub(super) loader: ArcSwap<Loader>,
    pub(super) slots: Mutex<Vec<Slot>>,
    pub(super) pipeline: Arc<Pipeline>,
    /// Serialises changes of plugins.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Loaded {
    /// Returns the bindings, in configuration order.
    pub(crate) fn bindings(&self) -> Vec<Arc<Binding>> {
        self.slots.iter().map(Slot::binding).collect()
    }
}

impl Keeper {
    /// Creates the manager; `pipeline` must have been built from the bindings of `loaded`.
    pub(crate) fn new(loaded: Loaded, pipeline: Arc<Pipeline>) -> Arc<Self> {
        let Loaded { loader, slots } = loaded;
        loader.tables.join(&pipeline);
        Arc::new(Self {
            loader: ArcSwap::from_pointee(loader),
            slots: Mutex::new(slots),
            pipeline,
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the version that `waxwing plugin rollback` would restore, and the error of the last failed reload.
    pub(crate) fn notes(&self, plugin: &str) -> (Option<String>, Option<String>) {
        let slots = self.slots.lock();
        let Some(slot) = slots.iter().find(|slot| slot.plugin.name == plugin) else { return (None, None) };
        (slot.previous.as_ref().map(|previous| previous.binding.version.to_string()), slot.last_error.clone())
    }

    /// Reads the files of all plugins, or of the plugin `name`, again; if a version fails to load, the current version stays in service.
    pub(crate) async fn reload(&self, name: Option<&str>) -> Result<Vec<PluginChange>, Problem> {
        let _turn = self.turn.lock().await;
        let trigger = if name.is_some() { Cause::Named } else { Cause::All };
        let wanted: Vec<usize> = match name {
            Some(name) => vec![self.place(name)?],
            None => (0..self.slots.lock().len()).collect(),
        };
        let mut changes = Vec::new();
        for at in wanted {
            for track in [Which::Stable, Which::Canary] {
                changes.extend(self.reload_one(at, track, trigger).await);
            }
            if let (Some(_), true, Some(slot)) = (name, changes.is_empty(), self.slot(at)) {
                changes.push(slot.change("unchanged", Some("it is a part of the program".to_owned())));
            }
        }
        Ok(changes)
    }

    /// Undoes the last change of a plugin (`waxwing plugin rollback`).
    pub(crate) async fn roll_back(&self, name: &str) -> Result<PluginChange, Problem> {
        self.exchange(name, Slot::roll_back).await
    }

    /// Makes a plugin's canary the stable version (`waxwing plugin promote`).
    pub(crate) async fn promote(&self, name: &str) -> Result<PluginChange, Problem> {
        self.exchange(name, Slot::promote).await
    }

    async fn exchange(&self, name: &str, how: fn(&mut Slot) -> Result<PluginChange, String>) -> Result<PluginChange, Problem> {
        let _turn = self.turn.lock().await;
        let at = self.place(name)?;
        let mut slot = self.slot(at).ok_or_else(|| unknown(name))?;
        let change = how(&mut slot).map_err(|text| Problem { kind: ProblemKind::Failed, text })?;
        self.put(at, slot);
        log(&change);
        Ok(change)
    }

    /// Polls the plugin files until shutdown, even with no files yet: a reload may add some.
    pub(crate) async fn poll(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_PERIOD) => {}
                () = shutdown.wait() => return,
            }
            self.look().await;
        }
    }

    /// Checks all plugin files once and reloads the changed files.
    pub(super) async fn look(&self) {
        let _turn = self.turn.lock().await;
        let mut files = Vec::new();
        for (at, slot) in self.slots.lock().iter_mut().enumerate() {
            for track in [Which::Stable, Which::Canary] {
                files.extend(slot.watched(track).map(|watched| (at, track, watched.path.clone())));
            }
        }
        if files.is_empty() {
            return;
        }
        let stamps = move || files.into_iter().map(|(at, track, path)| (at, track, Stamp::of(&path))).collect::<Vec<_>>();
        let Ok(stamps) = tokio::task::spawn_blocking(stamps).await else { return };
        for (at, track, stamp) in stamps {
            let changed = |slot: &mut Slot| slot.watched(track).is_some_and(|watched| watched.is_changed(stamp));
            if self.slots.lock().get_mut(at).is_some_and(changed) {
                self.reload_one(at, track, Cause::Poll).await;
            }
        }
    }

    async fn reload_one(&self, at: usize, track: Which, trigger: Cause) -> Option<PluginChange> {
        let mut slot = self.slot(at)?;
        let change = slot.reload(&self.loader.load_full(), track, trigger).await?;
        self.put(at, slot);
        log(&change);
        Some(change)
    }

    fn place(&self, name: &str) -> Result<usize, Problem> {
        self.slots.lock().iter().position(|slot| slot.plugin.name == name).ok_or_else(|| unknown(name))
    }

    fn slot(&self, at: usize) -> Option<Slot> {
        self.slots.lock().get(at).cloned()
    }

    /// Installs a version set, in effect for hook sessions opened from now on.
    fn put(&self, at: usize, slot: Slot) {
        let mut slots = self.slots.lock();
        if let Some(place) = slots.get_mut(at) {
            *place = slot;
        }
        self.pipeline.replace(slots.iter().map(Slot::binding).collect());
    }
}

fn unknown(name: &str) -> Problem {
    Problem { kind: ProblemKind::NotFound, text: format!("no plugin \"{name}\" is loaded") }
}

pub(super) fn log(change: &PluginChange) {
    let PluginChange { name, change: what, before, version, note } = change;
    let note = note.as_deref().unwrap_or_default();
    match what.as_str() {
        "unchanged" => tracing::debug!(target: "plugins", name, version, "unchanged"),
        "failed" => {
            tracing::error!(target: "plugins", name, version, error = note, "not reloaded: the version before stays in service")
        }
        what => tracing::info!(target: "plugins", name, version, before, note, "{what}"),
    }
}
