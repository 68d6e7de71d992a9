//! `lookup`: the server's tables, by granted name.

use std::sync::Arc;

use wasmtime::Result;
use waxwing_bindings::imports::lookup::{Host, LookupError};

use crate::state::State;

/// Octets of a key; nothing that mail looks up is longer.
const KEY_BYTES_MAX: usize = 1024;

impl Host for State {
    async fn get(&mut self, table: String, key: String) -> Result<std::result::Result<Option<String>, LookupError>> {
        self.called("lookup.get");
        let found = self.shared.tables.get(&table).filter(|_| self.shared.grants.lookup.contains(&table)).map(Arc::clone);
        let Some(found) = found else {
            self.refused("lookup.get", "not-granted");
            return Ok(Err(LookupError::NotGranted));
        };
        if key.len() > KEY_BYTES_MAX {
            return Ok(Ok(None));
        }
        Ok(found.get(&key).await.map_err(|error| {
            self.refused("lookup.get", "unavailable");
            LookupError::Unavailable(error.reason)
        }))
    }
}
