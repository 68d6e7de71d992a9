//! Interface `lookup`: the server's tables, by granted name.

use std::sync::Arc;

use wasmtime::Result;
use waxwing_bindings::imports::lookup::{Host, LookupError};

use crate::state::InstanceState;

/// Maximum length of a key in bytes; no key of a mail lookup is longer.
const KEY_BYTES_MAX: usize = 1024;

impl Host for InstanceState {
    async fn get(&mut self, table: String, key: String) -> Result<std::result::Result<Option<String>, LookupError>> {
        self.called("lookup.get");
        let lookup_table = self.shared.tables.get(&table).filter(|_| self.shared.grants.lookup.contains(&table)).map(Arc::clone);
        let Some(lookup_table) = lookup_table else {
            self.record_denial("lookup.get", "not-granted");
            return Ok(Err(LookupError::NotGranted));
        };
        if key.len() > KEY_BYTES_MAX {
            return Ok(Ok(None));
        }
        Ok(lookup_table.get(&key).await.map_err(|error| {
            self.record_denial("lookup.get", "unavailable");
            LookupError::Unavailable(error.reason)
        }))
    }
}
