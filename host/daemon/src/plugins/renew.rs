//! Reload of plugins for a new configuration: staged first, then committed.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use waxwing_accounts::Accounts;
use waxwing_config::{self as config, Config};
use waxwing_control::PluginChange;
use waxwing_pipeline::{Binding, ClassOf};

use super::slot::{Cause, Slot, Which};
use super::{Builtin, Keeper, Loader};

/// Plugins of a new configuration, loaded but not yet in service. Blocks all other changes of plugins while alive.
pub(crate) struct Renewal<'a> {
    _turn: tokio::sync::MutexGuard<'a, ()>,
    loader: Arc<Loader>,
    slots: Vec<Slot>,
    changes: Vec<PluginChange>,
}

impl Keeper {
    /// Loads plugins that are new or have changed settings, and checks the files of the others. On error nothing changes.
    pub(crate) async fn prepare(
        &self,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        builtin: Builtin,
    ) -> anyhow::Result<Renewal<'_>> {
        let turn = self.turn.lock().await;
        let before = self.loader.load_full();
        let loader = Arc::new(before.renewed(config, accounts)?);
        let old: Vec<Slot> = self.slots.lock().clone();
        let mut renewal = Renewal { _turn: turn, loader: Arc::clone(&loader), slots: Vec::new(), changes: Vec::new() };
        for plugin in config.plugins.iter().filter(|plugin| plugin.enabled) {
            let kept =
                old.iter().find(|slot| slot.plugin.name == plugin.name && before.serves_alike(&slot.plugin, &loader, plugin));
            let added = match kept {
                Some(slot) => renewal.look(slot.clone()).await,
                None => renewal.add(plugin, old.iter().find(|slot| slot.plugin.name == plugin.name), builtin).await,
            };
            if let Err(error) = added {
                // The plugins to be replaced stay in service.
                old.iter().for_each(|slot| slot.current.binding.plugin.retire(false));
                return Err(error);
            }
        }
        for gone in old.iter().filter(|slot| renewal.slots.iter().all(|new| new.plugin.name != slot.plugin.name)) {
            renewal.changes.push(gone.change("removed", None));
        }
        Ok(renewal)
    }

    /// Puts the staged plugins into service for hook sessions opened from now on; returns the changes.
    pub(crate) fn commit(&self, renewal: Renewal<'_>, classes: Arc<dyn ClassOf>) -> Vec<PluginChange> {
        let Renewal { loader, slots, changes, .. } = renewal;
        let bindings: Vec<Arc<Binding>> = slots.iter().map(Slot::binding).collect();
        self.loader.store(loader);
        *self.slots.lock() = slots;
        self.pipeline.renew(bindings, classes);
        changes.iter().for_each(super::keeper::log);
        changes
    }
}

impl Renewal<'_> {
    /// Stages a plugin with unchanged settings, reloading changed files.
    async fn look(&mut self, mut slot: Slot) -> anyhow::Result<()> {
        for track in [Which::Stable, Which::Canary] {
            match slot.reload(&self.loader, track, Cause::All).await {
                Some(change) if change.is_failed() => {
                    return Err(anyhow!("plugin \"{}\": {}", change.name, change.note.unwrap_or_default()));
                }
                Some(change) if change.change != "unchanged" => self.changes.push(change),
                Some(_) | None => {}
            }
        }
        self.slots.push(slot);
        Ok(())
    }

    /// Stages a plugin that is new or has changed settings; counters restart at zero.
    async fn add(&mut self, plugin: &config::Plugin, before: Option<&Slot>, builtin: Builtin) -> anyhow::Result<()> {
        let slot = Slot::load(&self.loader, plugin, builtin).await.with_context(|| format!("plugin \"{}\"", plugin.name))?;
        let mut change = slot.change(if before.is_some() { "reloaded" } else { "added" }, None);
        if let Some(before) = before {
            change.before = before.current.binding.version.to_string();
        }
        self.changes.push(change);
        self.slots.push(slot);
        Ok(())
    }
}
