//! Lists of lookup tables, and inline tables of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use waxwing_config::TableSpec;
use waxwing_pipeline::{Table, TableError};
use waxwing_types::Clock;

use crate::file_table::{FileTable, TableFormat};

/// Inline table of the configuration; keys are folded to lower case.
#[derive(Clone, Debug, Default)]
pub struct InlineTable(BTreeMap<String, String>);

impl InlineTable {
    /// Copies the entries of a configuration table.
    #[must_use]
    pub fn new(entries: &BTreeMap<String, String>) -> Self {
        Self(entries.iter().map(|(key, value)| (key.to_lowercase(), value.clone())).collect())
    }
}

#[async_trait]
impl Table for InlineTable {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        Ok(self.0.get(&key.to_lowercase()).cloned())
    }
}

/// Lookup tables queried in order; the first table with the key answers. A failing table ends the search, since a later table must not
/// answer instead.
#[derive(Clone, Default)]
pub struct TableList(Vec<Arc<dyn Table>>);

impl TableList {
    /// Opens the tables listed in a configuration key.
    pub fn open(specs: &[TableSpec], clock: &Arc<dyn Clock>) -> Result<Self, TableError> {
        let open = |spec: &TableSpec| -> Result<Arc<dyn Table>, TableError> {
            Ok(match spec {
                TableSpec::Texthash(path) => Arc::new(FileTable::open(path, TableFormat::Texthash, Arc::clone(clock))?),
                TableSpec::Aliases(path) => Arc::new(FileTable::open(path, TableFormat::Aliases, Arc::clone(clock))?),
                TableSpec::Inline(entries) => Arc::new(InlineTable::new(entries)),
            })
        };
        specs.iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the value of the first key present in the tables.
    pub async fn get_first(&self, keys: &[String]) -> Result<Option<String>, TableError> {
        for key in keys {
            if let Some(value) = self.get(key).await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Table for TableList {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        for table in &self.0 {
            if let Some(value) = table.get(key).await? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}
