//! Lookup tables served by plugins: `plugin:NAME` calls the `on-table` hook of plugin NAME.

use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use waxwing_config::PLUGIN_TABLE_PREFIX;
use waxwing_pipeline::{Pipeline, Table, TableError, TableLookup};

/// Late-bound handle of the pipeline: plugins load before the pipeline exists, and the pipeline owns the plugins.
#[derive(Clone, Default)]
pub(crate) struct PluginTables(Arc<OnceLock<Weak<Pipeline>>>);

impl PluginTables {
    /// Returns the table of this name, if served by a plugin. The configuration has excluded circular lookups between plugins.
    pub(crate) fn table(&self, name: &str) -> Option<Arc<dyn Table>> {
        let plugin = name.strip_prefix(PLUGIN_TABLE_PREFIX)?.to_owned();
        Some(Arc::new(PluginTable { plugin, tables: self.clone() }))
    }

    /// Sets the pipeline; lookups succeed from now on.
    pub(crate) fn set_pipeline(&self, pipeline: &Arc<Pipeline>) {
        // A second call has no effect.
        let _ = self.0.set(Arc::downgrade(pipeline));
    }
}

struct PluginTable {
    plugin: String,
    tables: PluginTables,
}

#[async_trait]
impl Table for PluginTable {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        let failed = |reason: String| TableError { table: format!("{PLUGIN_TABLE_PREFIX}{}", self.plugin), reason };
        let Some(pipeline) = self.tables.0.get().and_then(Weak::upgrade) else {
            return Err(failed("the plugins are not all loaded".to_owned()));
        };
        match pipeline.table_lookup(&self.plugin, key).await {
            TableLookup::Value(value) => Ok(Some(value)),
            TableLookup::Absent => Ok(None),
            TableLookup::Unavailable(reason) => Err(failed(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use waxwing_pipeline::{
        AddressClassifier, Binding, BindingSettings, CallOutcome, Context, Event, Fault, FaultKind, Hook, HookAnswer, HookSet,
        Plugin, PluginSession,
    };
    use waxwing_types::{Address, AddressClass, ManualClock};

    use super::*;

    struct Names;

    impl Plugin for Names {
        fn version(&self) -> &str {
            "1"
        }
        fn exports(&self) -> HookSet {
            HookSet::default().with(Hook::OnTable)
        }
        fn open_session(self: Arc<Self>) -> Box<dyn PluginSession> {
            Box::new(Names)
        }
    }

    #[async_trait]
    impl PluginSession for Names {
        async fn call(&mut self, event: &Event, _: &Context) -> Result<CallOutcome, Fault> {
            let Event::Table(key) = event else { return Err(Fault::new(FaultKind::Trap, "not asked for")) };
            match key.as_str() {
                "bad" => Err(Fault::new(FaultKind::Trap, "unreachable")),
                "ann" => Ok(CallOutcome::from_answer(HookAnswer::TableLookup(TableLookup::Value("Ann Other".into())))),
                "off" => Ok(CallOutcome::from_answer(HookAnswer::TableLookup(TableLookup::Unavailable("resting".into())))),
                _ => Ok(CallOutcome::from_answer(HookAnswer::TableLookup(TableLookup::Absent))),
            }
        }
    }

    impl AddressClassifier for Names {
        fn class_of(&self, _: &Address) -> AddressClass {
            AddressClass::Remote
        }
    }

    #[tokio::test]
    async fn a_plugin_answers_as_a_table_once_all_are_loaded() {
        let tables = PluginTables::default();
        assert!(tables.table("alias_maps").is_none());
        let names = tables.table("plugin:names").unwrap();
        assert_eq!(names.get("ann").await.unwrap_err().reason, "the plugins are not all loaded");
        let bindings = vec![Binding::new("names", Arc::new(Names), BindingSettings::default())];
        let pipeline = Arc::new(Pipeline::new(bindings, Arc::new(Names), Arc::new(ManualClock::default())));
        tables.set_pipeline(&pipeline);
        assert_eq!(names.get("ann").await, Ok(Some("Ann Other".into())));
        assert_eq!(names.get("bob").await, Ok(None));
        assert_eq!(names.get("off").await.unwrap_err().reason, "resting");
        assert_eq!(names.get("bad").await.unwrap_err().to_string(), "table plugin:names: the plugin names failed");
        let other = tables.table("plugin:other").unwrap();
        assert_eq!(other.get("ann").await.unwrap_err().reason, "the plugin other is not loaded");
        drop(pipeline);
        assert!(names.get("ann").await.is_err(), "a table keeps no pipeline alive");
    }
}
