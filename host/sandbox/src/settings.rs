//! Settings of a plugin: grants, limits, instance mode and host services.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use waxwing_pipeline::{HttpClient, KvStore, Metrics, Resolver, Table};
use waxwing_types::QueueId;

/// Extent of a plugin's access to the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageAccess {
    /// No access: envelope only.
    #[default]
    None,
    /// Header block: interface `message`.
    Headers,
    /// Header block and body: interfaces `message` and `content`.
    Full,
}

/// Granted interfaces, besides `log`, `config`, `transaction`, `action` and `metrics`, which every plugin may import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginGrants {
    /// Access to the message: `message = "headers"` or `"full"`.
    pub message: MessageAccess,
    /// Changes of the message: `edit = true`.
    pub edit: bool,
    /// Names of tables: `lookup = ["alias_maps"]`.
    pub lookup: Vec<String>,
    /// Hooks `on-auth` and `on-credentials`: `credentials = true`.
    pub credentials: bool,
    /// Quota in bytes of all key-value entries: `kv = "64MiB"`.
    pub kv: Option<u64>,
    /// Names for DNS queries: `dns = ["*.zen.example"]`; `*.` before a name matches all subdomains, `*` matches any name.
    pub dns: Vec<String>,
    /// URL prefixes for requests, as accepted by [`HttpClient::fetch`]: `http = ["POST https://api.example/v1/"]`.
    pub http: Vec<String>,
    /// Submission of new messages: `submit = true`.
    pub submit: bool,
    /// Time of day: `clock = true`. Without the grant, the WASI clocks of a component stand still.
    pub clock: bool,
    /// Unpredictable random bytes: `random = true`. Without the grant, the WASI random bytes of a component are the same for
    /// the same call.
    pub random: bool,
}

/// Function that returns a new queue id, from the spool that will store the message.
pub type NewQueueId = Arc<dyn Fn() -> QueueId + Send + Sync>;

/// Host services behind the interfaces that reach beyond the message. A missing service is `unavailable` or `failed` for the
/// guest.
#[derive(Clone, Default)]
pub struct HostServices {
    /// Store of interface `kv`.
    pub kv: Option<Arc<dyn KvStore>>,
    /// Resolver of interface `dns`.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// HTTP client of interface `http`.
    pub http_client: Option<Arc<dyn HttpClient>>,
    /// Sink of interface `metrics`, and of the host's own counters per plugin.
    pub metrics: Option<Arc<dyn Metrics>>,
    /// Source of queue ids for interface `submit`.
    pub new_id: Option<NewQueueId>,
}

/// Limits of one plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginLimits {
    /// Wall time from the start of a call to the end, including waits for the host.
    pub wall: Duration,
    /// CPU time in the guest's own code, measured in ticks of one millisecond.
    pub cpu: Duration,
    /// Maximum linear memory of one instance in bytes.
    pub memory_bytes_max: usize,
    /// Maximum number of instances of all versions of the plugin together. A call that needs one more waits.
    pub instances_max: u32,
    /// Maximum number of fresh instances for one client: an IPv4 address, or a /64 network of IPv6. A call that needs one more
    /// waits.
    pub instances_per_client: u32,
    /// Time for which a call waits for an instance before the fault `pool-exhausted`.
    pub instance_wait: Duration,
    /// Maximum number of idle instances, for a plugin with reused instances.
    pub idle_max: usize,
    /// Maximum number of log lines per call.
    pub log_lines_max: usize,
    /// Maximum length of a log line in bytes; the remainder is cut off.
    pub log_line_bytes_max: usize,
    /// Maximum number of edits, actions and tags staged per call.
    pub edits_max: usize,
    /// Maximum size in bytes of header values, addresses and tags staged per call; bodies and parts have a limit of their own.
    pub edit_bytes_max: usize,
    /// Maximum size in bytes of a new body, and of the content of all new parts per call.
    pub body_bytes_max: usize,
    /// Maximum number of bytes of one read of the message.
    pub read_bytes_max: usize,
    /// Maximum size in bytes of a message parsed for `parts` and part edits; the complete message is in memory for the duration
    /// of the call.
    pub parts_bytes_max: u64,
    /// Maximum length in bytes of the reason in `discard`, `hold` and `quarantine`.
    pub reason_bytes_max: usize,
    /// Maximum number of symbols per call of on-score.
    pub symbols_max: usize,
    /// Maximum size in bytes of a password hash, and of a table value.
    pub value_bytes_max: usize,
    /// Maximum number of targets of one resolution.
    pub targets_max: usize,
    /// Maximum number of DNS queries per call.
    pub dns_queries_max: u32,
    /// Maximum size in bytes of the records of one DNS answer.
    pub dns_answer_bytes_max: usize,
    /// Maximum number of HTTP requests per call.
    pub http_requests_max: u32,
    /// Maximum size in bytes of the body of one request.
    pub http_request_bytes_max: usize,
    /// Maximum size in bytes of one response.
    pub http_response_bytes_max: usize,
    /// Maximum number of new messages per call.
    pub submissions_max: u32,
    /// Maximum number of recipients of one new message.
    pub submission_recipients_max: usize,
    /// Maximum total size in bytes of all new messages per call.
    pub submission_bytes_max: usize,
    /// Maximum number of metric names of one plugin; more are dropped and counted.
    pub metric_names_max: usize,
    /// Maximum number of WASI resources (streams, pollables) of one instance.
    pub wasi_resources_max: usize,
}

impl Default for PluginLimits {
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
            dns_queries_max: 50,
            dns_answer_bytes_max: 64 << 10,
            http_requests_max: 10,
            http_request_bytes_max: 16 << 20,
            http_response_bytes_max: 1 << 20,
            submissions_max: 10,
            submission_recipients_max: 100,
            submission_bytes_max: 16 << 20,
            metric_names_max: 50,
            wasi_resources_max: 1000,
        }
    }
}

/// Lifetime of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceMode {
    /// One instance for the hooks before MAIL, one for each transaction: no state leaks to the next transaction.
    Fresh,
    /// Instance taken from a list for each call and returned afterwards; dropped after a number of calls, and after any fault.
    Reuse {
        /// Maximum number of calls of one instance.
        recycle_calls: u32,
    },
}

/// Settings of one plugin, without the component itself.
#[derive(Clone)]
pub struct PluginSettings {
    /// Name of the plugin in the configuration.
    pub name: String,
    /// Interfaces granted by the configuration.
    pub grants: PluginGrants,
    /// Limits of time, memory and sizes.
    pub limits: PluginLimits,
    /// Lifetime of an instance.
    pub instance_mode: InstanceMode,
    /// Configuration table of the plugin. A key that `on-load` does not read is a load error.
    pub config: BTreeMap<String, Value>,
    /// Values offered by the server to every plugin under `config` (`myorigin`, `mydestination`, …); the plugin's own table
    /// takes precedence, and unread values are no error.
    pub server_values: Arc<BTreeMap<String, Value>>,
    /// Tables named by [`PluginGrants::lookup`].
    pub tables: BTreeMap<String, Arc<dyn Table>>,
    /// Host services of the interfaces that reach beyond the message.
    pub services: HostServices,
}

impl PluginSettings {
    /// Creates settings without grants, with default limits and a fresh instance for each transaction.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            grants: PluginGrants::default(),
            limits: PluginLimits::default(),
            instance_mode: InstanceMode::Fresh,
            config: BTreeMap::new(),
            server_values: Arc::default(),
            tables: BTreeMap::new(),
            services: HostServices::default(),
        }
    }
}
