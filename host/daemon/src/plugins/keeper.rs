//! Changes plugins while mail passes: what has begun keeps the versions that it began with.

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

/// Between two looks at the files of plugins.
const POLL_PERIOD: Duration = Duration::from_secs(1);

/// The plugins, their versions, and the pipeline that calls them.
pub(crate) struct Keeper {
    pub(super) loader: ArcSwap<Loader>,
    pub(super) slots: Mutex<Vec<Slot>>,
    pub(super) pipeline: Arc<Pipeline>,
    /// One change at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Loaded {
    /// In the order of the configuration.
    pub(crate) fn bindings(&self) -> Vec<Arc<Binding>> {
        self.slots.iter().map(Slot::binding).collect()
    }
}

impl Keeper {
    /// `pipeline` was made of what is loaded.
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

    /// What `waxwing plugin rollback` would put back, and why the last change of its file was not taken into service.
    pub(crate) fn notes(&self, plugin: &str) -> (Option<String>, Option<String>) {
        let slots = self.slots.lock();
        let Some(slot) = slots.iter().find(|slot| slot.plugin.name == plugin) else { return (None, None) };
        (slot.previous.as_ref().map(|previous| previous.binding.version.to_string()), slot.last_error.clone())
    }

    /// Looks at the files again, of all plugins or of one; a version that can't be loaded leaves the one before in service.
    pub(crate) async fn reload(&self, name: Option<&str>) -> Result<Vec<PluginChange>, Problem> {
        let _turn = self.turn.lock().await;
        let cause = if name.is_some() { Cause::Named } else { Cause::All };
        let wanted: Vec<usize> = match name {
            Some(name) => vec![self.place(name)?],
            None => (0..self.slots.lock().len()).collect(),
        };
        let mut changes = Vec::new();
        for at in wanted {
            for which in [Which::Stable, Which::Canary] {
                changes.extend(self.reload_one(at, which, cause).await);
            }
            if let (Some(_), true, Some(slot)) = (name, changes.is_empty(), self.slot(at)) {
                changes.push(slot.change("unchanged", Some("it is a part of the program".to_owned())));
            }
        }
        Ok(changes)
    }

    /// Undoes the last change of a plugin.
    pub(crate) async fn roll_back(&self, name: &str) -> Result<PluginChange, Problem> {
        self.exchange(name, Slot::roll_back).await
    }

    /// Puts a plugin's canary in its place.
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

    /// Looks at the files until the shutdown. A reload may bring the first one.
    pub(crate) async fn poll(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(POLL_PERIOD) => {}
                () = shutdown.wait() => return,
            }
            self.look().await;
        }
    }

    /// One look at all files.
    pub(super) async fn look(&self) {
        let _turn = self.turn.lock().await;
        let mut files = Vec::new();
        for (at, slot) in self.slots.lock().iter_mut().enumerate() {
            for which in [Which::Stable, Which::Canary] {
                files.extend(slot.watched(which).map(|watched| (at, which, watched.path.clone())));
            }
        }
        if files.is_empty() {
            return;
        }
        let stamps = move || files.into_iter().map(|(at, which, path)| (at, which, Stamp::of(&path))).collect::<Vec<_>>();
        let Ok(stamps) = tokio::task::spawn_blocking(stamps).await else { return };
        for (at, which, stamp) in stamps {
            let changed = |slot: &mut Slot| slot.watched(which).is_some_and(|watched| watched.is_changed(stamp));
            if self.slots.lock().get_mut(at).is_some_and(changed) {
                self.reload_one(at, which, Cause::Poll).await;
            }
        }
    }

    async fn reload_one(&self, at: usize, which: Which, cause: Cause) -> Option<PluginChange> {
        let mut slot = self.slot(at)?;
        let change = slot.reload(&self.loader.load_full(), which, cause).await?;
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

    /// From the next chain on.
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
