//! Reload of plugins for a new configuration: staged first, then committed.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use waxwing_accounts::Accounts;
use waxwing_config::{self as config, Config};
use waxwing_control::PluginChange;
use waxwing_pipeline::{AddressClassifier, Binding};

use crate::loader::{BuiltinLookup, PluginLoader};
use crate::manager::PluginManager;
use crate::manager::log_change;
use crate::settings::enabled_plugins;
use crate::versions::{PluginVersions, ReloadTrigger, Track};

/// Plugins of a new configuration, loaded but not yet in service. Blocks all other changes of plugins while alive.
pub struct StagedReload<'a> {
    _change_lock: tokio::sync::MutexGuard<'a, ()>,
    loader: Arc<PluginLoader>,
    plugins: Vec<PluginVersions>,
    changes: Vec<PluginChange>,
}

impl PluginManager {
    /// Loads plugins that are new or have changed settings, and checks the files of the others. On error nothing changes.
    pub async fn stage_reload(
        &self,
        config: &Arc<Config>,
        accounts: &Arc<Accounts>,
        builtin: BuiltinLookup,
    ) -> anyhow::Result<StagedReload<'_>> {
        let guard = self.change_lock.lock().await;
        let before = self.loader.load_full();
        let loader = Arc::new(before.for_config(config, accounts)?);
        let old: Vec<PluginVersions> = self.plugins.lock().clone();
        let mut staged =
            StagedReload { _change_lock: guard, loader: Arc::clone(&loader), plugins: Vec::new(), changes: Vec::new() };
        for plugin in enabled_plugins(config) {
            let kept = old
                .iter()
                .find(|versions| versions.plugin.name == plugin.name && before.is_equivalent(&versions.plugin, &loader, plugin));
            let added = match kept {
                Some(versions) => staged.stage_unchanged(versions.clone()).await,
                None => staged.stage_new(plugin, old.iter().find(|versions| versions.plugin.name == plugin.name), builtin).await,
            };
            if let Err(error) = added {
                // The plugins to be replaced stay in service.
                old.iter().for_each(|versions| versions.current.binding.plugin.set_retired(false));
                return Err(error);
            }
        }
        for gone in old.iter().filter(|versions| staged.plugins.iter().all(|new| new.plugin.name != versions.plugin.name)) {
            staged.changes.push(gone.describe_change("removed", None));
        }
        Ok(staged)
    }

    /// Puts the staged plugins into service for hook sessions opened from now on; returns the changes.
    pub fn commit_reload(&self, staged: StagedReload<'_>, classes: Arc<dyn AddressClassifier>) -> Vec<PluginChange> {
        let StagedReload { loader, plugins, changes, .. } = staged;
        let bindings: Vec<Arc<Binding>> = plugins.iter().map(PluginVersions::binding).collect();
        self.loader.store(loader);
        *self.plugins.lock() = plugins;
        self.pipeline.replace_with_classes(bindings, classes);
        changes.iter().for_each(log_change);
        changes
    }
}

impl StagedReload<'_> {
    /// Stages a plugin with unchanged settings, reloading changed files.
    async fn stage_unchanged(&mut self, mut versions: PluginVersions) -> anyhow::Result<()> {
        for track in [Track::Stable, Track::Canary] {
            match versions.reload(&self.loader, track, ReloadTrigger::AllPlugins).await {
                Some(change) if change.is_failed() => {
                    return Err(anyhow!("plugin \"{}\": {}", change.name, change.note.unwrap_or_default()));
                }
                Some(change) if change.change != "unchanged" => self.changes.push(change),
                Some(_) | None => {}
            }
        }
        self.plugins.push(versions);
        Ok(())
    }

    /// Stages a plugin that is new or has changed settings; counters restart at zero.
    async fn stage_new(
        &mut self,
        plugin: &config::PluginConfig,
        before: Option<&PluginVersions>,
        builtin: BuiltinLookup,
    ) -> anyhow::Result<()> {
        let versions =
            PluginVersions::load(&self.loader, plugin, builtin).await.with_context(|| format!("plugin \"{}\"", plugin.name))?;
        let mut change = versions.describe_change(if before.is_some() { "reloaded" } else { "added" }, None);
        if let Some(before) = before {
            change.before = before.current.binding.version.to_string();
        }
        self.changes.push(change);
        self.plugins.push(versions);
        Ok(())
    }
}
