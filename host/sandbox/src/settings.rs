//! What the configuration says of one plugin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use waxwing_pipeline::Table;

/// How much of a message a plugin may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageGrant {
    /// Nothing: it sees the envelope alone.
    #[default]
    None,
    /// The header: interface `message`.
    Headers,
    /// The header and the body: interfaces `message` and `content`.
    Full,
}

/// The interfaces that are linked beside `log`, `config`, `transaction`, `action` and `metrics`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// `message = "headers"` or `"full"`.
    pub message: MessageGrant,
    /// `edit = true`.
    pub edit: bool,
    /// `lookup = ["alias_maps"]`: names of tables.
    pub lookup: Vec<String>,
    /// `credentials = true`: the hooks `on-auth` and `on-credentials`.
    pub credentials: bool,
}

/// Bounds of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the beginning of a call to its end, waiting for the host included.
    pub wall: Duration,
    /// In the guest's own code, counted in ticks of a millisecond.
    pub cpu: Duration,
    /// Octets of linear memory of one instance.
    pub memory_bytes_max: usize,
    /// Instances at a time, of all versions of the plugin together. A call that needs one more waits.
    pub instances_max: u32,
    /// Fresh instances at a time that serve one client: an IPv4 address, or a /64 network of IPv6. A call that needs one more waits.
    pub instances_per_client: u32,
    /// How long a call waits for an instance before it ends in the fault `pool-exhausted`.
    pub instance_wait: Duration,
    /// Instances that wait for the next call, for a plugin whose instances are reused.
    pub idle_max: usize,
    /// Lines that one call may log.
    pub log_lines_max: usize,
    /// Octets of one line; the rest is cut off.
    pub log_line_bytes_max: usize,
    /// Edits, actions and tags that one call may stage.
    pub edits_max: usize,
    /// Octets of header values, addresses and tags that one call may stage; bodies and parts have a limit of their own.
    pub edit_bytes_max: usize,
    /// Octets of a new body, and of the content of all new parts of one call.
    pub body_bytes_max: usize,
    /// Octets of one read of the message.
    pub read_bytes_max: usize,
    /// Octets of a message that is taken apart for `parts` and edits of parts; it is whole in memory for the length of the call.
    pub parts_bytes_max: u64,
    /// Octets of the reason in `discard`, `hold` and `quarantine`.
    pub reason_bytes_max: usize,
    /// Symbols of one call of on-score.
    pub symbols_max: usize,
    /// Octets of a password hash, and of a value of a table.
    pub value_bytes_max: usize,
    /// Targets of one resolution.
    pub targets_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_millis(500),
            cpu: Duration::from_millis(100),
            memory_bytes_max: 16 << 20,
            instances_max: 200,
            instances_per_client: 50,
            instance_wait: Duration::from_secs(2),
            idle_max: 8,
            log_lines_max: 50,
            log_line_bytes_max: 1024,
            edits_max: 1000,
            edit_bytes_max: 1 << 20,
            body_bytes_max: 64 << 20,
            read_bytes_max: 64 << 10,
            parts_bytes_max: 16 << 20,
            reason_bytes_max: 500,
            symbols_max: 1000,
            value_bytes_max: 64 << 10,
            targets_max: 10_000,
        }
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceMode {
    /// One for the hooks before MAIL, one for each transaction: nothing leaks to the next.
    Fresh,
    /// Taken from a list for each call and put back; dropped after this many calls, and after any fault.
    Reuse {
        /// Calls that one instance serves.
        recycle_calls: u32,
    },
}

/// Everything about one plugin but its octets.
#[derive(Clone)]
pub struct PluginSettings {
    /// Its name in the configuration.
    pub name: String,
    /// What it may do.
    pub grants: Grants,
    /// Its bounds.
    pub limits: Limits,
    /// How long an instance lives.
    pub instance: InstanceMode,
    /// Its own table. A key that `on-load` does not read is a load error.
    pub config: BTreeMap<String, Value>,
    /// Values that the server offers to every plugin under `config` (`myorigin`, `mydestination`, …); the plugin's own table goes
    /// before them, and nobody has to read them.
    pub server: Arc<BTreeMap<String, Value>>,
    /// The tables that [`Grants::lookup`] names.
    pub tables: BTreeMap<String, Arc<dyn Table>>,
}

impl PluginSettings {
    /// A plugin with no grants and usual limits, fresh for each transaction.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            grants: Grants::default(),
            limits: Limits::default(),
            instance: InstanceMode::Fresh,
            config: BTreeMap::new(),
            server: Arc::default(),
            tables: BTreeMap::new(),
        }
    }
}
