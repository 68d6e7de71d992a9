//! Interface `kv`: the key-value entries of a plugin. Writes take effect at once, whatever the result of the call.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result;
use waxwing_bindings::imports::kv::{Host, KvError};
use waxwing_pipeline::{KvError as PortError, KvStore};

use crate::state::InstanceState;

type KvResult<T> = Result<std::result::Result<T, KvError>>;

impl InstanceState {
    /// Returns the store and the plugin's quota in bytes.
    fn kv_store(&self) -> std::result::Result<(Arc<dyn KvStore>, u64), PortError> {
        let none = || PortError::Unavailable("this server has no key-value store".to_owned());
        let store = self.shared.services.kv.as_ref().map(Arc::clone).ok_or_else(none)?;
        Ok((store, self.shared.grants.kv.unwrap_or_default()))
    }

    fn kv_result<T>(&mut self, call: &'static str, result: std::result::Result<T, PortError>) -> KvResult<T> {
        Ok(result.map_err(|error| {
            let (reason, error) = match error {
                PortError::Full => ("full", KvError::Full),
                PortError::TooLarge => ("too-large", KvError::TooLarge),
                PortError::Unavailable(why) => ("unavailable", KvError::Unavailable(why)),
            };
            self.record_denial(call, reason);
            error
        }))
    }
}

fn ttl(seconds: u32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

impl Host for InstanceState {
    async fn get(&mut self, key: Vec<u8>) -> KvResult<Option<Vec<u8>>> {
        self.called("kv.get");
        let name = Arc::clone(&self.shared.name);
        let result = match self.kv_store() {
            Ok((store, _)) => store.get(&name, &key).await,
            Err(error) => Err(error),
        };
        self.kv_result("kv.get", result)
    }

    async fn set(&mut self, key: Vec<u8>, value: Vec<u8>, ttl_seconds: u32) -> KvResult<()> {
        self.called("kv.set");
        let name = Arc::clone(&self.shared.name);
        let result = match self.kv_store() {
            Ok((store, max)) => store.set(&name, max, &key, &value, ttl(ttl_seconds)).await,
            Err(error) => Err(error),
        };
        self.kv_result("kv.set", result)
    }

    async fn delete(&mut self, key: Vec<u8>) -> KvResult<()> {
        self.called("kv.delete");
        let name = Arc::clone(&self.shared.name);
        let result = match self.kv_store() {
            Ok((store, _)) => store.delete(&name, &key).await,
            Err(error) => Err(error),
        };
        self.kv_result("kv.delete", result)
    }

    async fn add(&mut self, key: Vec<u8>, delta: i64, ttl_seconds: u32) -> KvResult<i64> {
        self.called("kv.add");
        let name = Arc::clone(&self.shared.name);
        let result = match self.kv_store() {
            Ok((store, max)) => store.add(&name, max, &key, delta, ttl(ttl_seconds)).await,
            Err(error) => Err(error),
        };
        self.kv_result("kv.add", result)
    }

    async fn scan(&mut self, prefix: Vec<u8>, after: Option<Vec<u8>>, limit: u32) -> KvResult<Vec<(Vec<u8>, Vec<u8>)>> {
        self.called("kv.scan");
        let name = Arc::clone(&self.shared.name);
        let result = match self.kv_store() {
            Ok((store, _)) => store.scan(&name, &prefix, after.as_deref(), limit as usize).await,
            Err(error) => Err(error),
        };
        self.kv_result("kv.scan", result)
    }
}
