//! State of an instance: the plugin, the current call, and the resources used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use waxwing_message::{MimeParts, PartEditError, StagedPartEdits};
use waxwing_pipeline::{Context, Fault, FaultKind, Hook, StagedChanges, Table};
use waxwing_types::{Clock, Edit, Monotonic, QueueId, Source};

use crate::permissions::Operation;
use crate::settings::{HostServices, PluginGrants, PluginLimits};
use crate::wasi::WasiContext;

/// Configuration key of the plugin.
#[derive(Debug)]
pub(crate) struct ConfigEntry {
    pub(crate) json: String,
    pub(crate) was_read: AtomicBool,
}

/// Data shared by all instances of a plugin.
pub(crate) struct PluginShared {
    pub(crate) name: Arc<str>,
    pub(crate) grants: PluginGrants,
    pub(crate) limits: PluginLimits,
    pub(crate) config: BTreeMap<String, ConfigEntry>,
    pub(crate) server_values: BTreeMap<String, String>,
    pub(crate) tables: BTreeMap<String, Arc<dyn Table>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) services: HostServices,
    /// Whether the component imports any WASI interface.
    pub(crate) imports_wasi: bool,
    /// Metric names used so far.
    pub(crate) metric_names: Mutex<BTreeSet<String>>,
}

impl PluginShared {
    /// Returns the value of a configuration key as JSON: from the plugin's table, otherwise from the values of the server.
    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        match self.config.get(key) {
            Some(setting) => {
                setting.was_read.store(true, Ordering::Relaxed);
                Some(setting.json.clone())
            }
            None => self.server_values.get(key).cloned(),
        }
    }

    /// Returns the keys of the plugin's table that the plugin never read.
    pub(crate) fn unread_keys(&self) -> Vec<String> {
        self.config.iter().filter(|(_, s)| !s.was_read.load(Ordering::Relaxed)).map(|(key, _)| key.clone()).collect()
    }
}

/// Usage of counted resources by one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallUsage {
    pub(crate) dns_queries: u32,
    pub(crate) http_requests: u32,
    pub(crate) submissions: u32,
    pub(crate) submitted_bytes: usize,
    /// Number of attempts to access files and hosts through the language runtime.
    pub(crate) system_accesses: u32,
}

/// Maximum number of system accesses logged in the trace per call.
const SYSTEM_ACCESSES_LOGGED_MAX: u32 = 10;

/// State of one call, from start to end.
pub(crate) struct CallState {
    /// Hook of the call; none for `on-load`.
    pub(crate) hook: Option<Hook>,
    pub(crate) context: Context,
    pub(crate) deadline: Monotonic,
    pub(crate) changes: StagedChanges,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) usage: CallUsage,
    staged_changes: usize,
    staged_bytes: usize,
    header_bytes: Option<Bytes>,
    /// MIME parts, after the first use.
    pub(crate) parts: Option<Arc<MimeParts>>,
    /// Decoded content of the parts read so far.
    pub(crate) decoded_parts: BTreeMap<u32, Bytes>,
    /// Staged edits of parts, after the first edit.
    pub(crate) part_edits: Option<StagedPartEdits>,
    /// Total size in bytes of the content of new parts.
    pub(crate) part_bytes: usize,
}

impl CallState {
    pub(crate) fn new(hook: Option<Hook>, context: Context, deadline: Monotonic) -> Self {
        Self {
            hook,
            context,
            deadline,
            changes: StagedChanges::default(),
            body: None,
            usage: CallUsage::default(),
            staged_changes: 0,
            staged_bytes: 0,
            header_bytes: None,
            parts: None,
            decoded_parts: BTreeMap::new(),
            part_edits: None,
            part_bytes: 0,
        }
    }

    /// Creates the state between calls, which keeps no message alive.
    pub(crate) fn idle() -> Self {
        Self::new(None, Context::new(Source::Api, None), Monotonic::default())
    }

    pub(crate) fn allows(&self, act: Operation) -> bool {
        self.hook.is_some_and(|hook| act.allowed_at(hook))
    }

    /// Returns the bytes before the body, encoded once per call.
    pub(crate) fn encoded_header(&mut self) -> Option<Bytes> {
        if self.header_bytes.is_none() {
            let body_is_empty = self.context.body.as_ref().is_none_or(|b| b.size() == 0);
            self.header_bytes = self.context.header.as_ref().map(|head| head.to_bytes(body_is_empty));
        }
        self.header_bytes.clone()
    }

    /// Returns and removes all staged changes, the new body last. Edits of parts were checked one by one; a failure to combine
    /// them is a fault of the host.
    pub(crate) fn take_changes(&mut self) -> Result<StagedChanges, PartEditError> {
        let mut changes = std::mem::take(&mut self.changes);
        if let Some(body) = self.body.take() {
            changes.edits.push(Edit::ReplaceBody(with_crlf(body)));
        }
        if let Some(staged) = self.part_edits.take() {
            changes.edits.extend(staged.into_edits()?);
        }
        Ok(changes)
    }
}

/// Reason for a call ended by the host.
#[derive(Debug)]
pub(crate) struct HostAbort {
    pub(crate) kind: FaultKind,
    pub(crate) text: String,
}

/// Limit and usage of the linear memory of an instance.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    pub(crate) bytes_max: usize,
    pub(crate) bytes: usize,
    /// Whether an allocation exceeded the limit.
    pub(crate) limit_exceeded: bool,
}

/// Maximum number of table elements of one instance: a Rust plugin has some hundred, JavaScript engines some ten thousand.
const TABLE_ELEMENTS_MAX: usize = 100_000;

impl wasmtime::ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        if bytes > self.bytes_max {
            self.limit_exceeded = true;
            return Ok(false);
        }
        self.bytes = bytes;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// Monitor of a call, readable from outside even if the call never returns.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallMonitor(Arc<CallMonitorState>);

#[derive(Debug, Default)]
struct CallMonitorState {
    /// Ticks used by the call.
    ticks: AtomicU32,
    /// Log lines of the call, within the limits.
    log: Mutex<Vec<String>>,
    /// Number of attempted log lines.
    lines: AtomicUsize,
    /// Queue id of the message; 0 for none.
    id: AtomicU64,
}

impl CallMonitor {
    pub(crate) fn tick(&self) -> u32 {
        self.0.ticks.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(crate) fn ticks(&self) -> u32 {
        self.0.ticks.load(Ordering::Relaxed)
    }

    /// Adds a log line within the limits; returns none if the line is dropped.
    fn add_log_line(&self, limits: &PluginLimits, text: &str) -> Option<String> {
        let number = self.0.lines.fetch_add(1, Ordering::Relaxed);
        if number >= limits.log_lines_max {
            if number == limits.log_lines_max {
                self.0.log.lock().push(format!("(more than {} lines; the rest is dropped)", limits.log_lines_max));
            }
            return None;
        }
        let line = one_line(text, limits.log_line_bytes_max);
        self.0.log.lock().push(line.clone());
        Some(line)
    }

    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.log.lock())
    }

    /// Resets the monitor for a new call on a message.
    pub(crate) fn begin_call(&self, id: Option<QueueId>) {
        self.0.ticks.store(0, Ordering::Relaxed);
        self.0.lines.store(0, Ordering::Relaxed);
        self.0.id.store(id.map_or(0, QueueId::as_u64), Ordering::Relaxed);
        self.0.log.lock().clear();
    }
}

/// Adds a log line to the trace and to the server's log, within the limits.
pub(crate) fn log_line(shared: &PluginShared, watch: &CallMonitor, level: tracing::Level, text: &str) {
    let Some(line) = watch.add_log_line(&shared.limits, text) else { return };
    let plugin = &*shared.name;
    let id = match watch.0.id.load(Ordering::Relaxed) {
        0 => String::new(),
        id => QueueId::from_u64(id).to_string(),
    };
    match level {
        tracing::Level::ERROR => tracing::error!(plugin, id, "{line}"),
        tracing::Level::WARN => tracing::warn!(plugin, id, "{line}"),
        tracing::Level::INFO => tracing::info!(plugin, id, "{line}"),
        tracing::Level::DEBUG | tracing::Level::TRACE => tracing::debug!(plugin, id, "{line}"),
    }
}

/// Data of a wasmtime store.
pub(crate) struct InstanceState {
    pub(crate) shared: Arc<PluginShared>,
    pub(crate) call: CallState,
    pub(crate) memory: MemoryLimiter,
    /// Monitor with the ticks and log lines of the current call.
    pub(crate) monitor: CallMonitor,
    /// Reason set before a host function or the ticker ends a call.
    pub(crate) stop: Option<HostAbort>,
    /// WASI state, created at the first use by an instance that links WASI.
    pub(crate) wasi: Option<Box<WasiContext>>,
    /// Host functions called by the current call; none without a meter.
    pub(crate) host_calls: Option<BTreeMap<&'static str, u64>>,
}

impl InstanceState {
    pub(crate) fn new(shared: Arc<PluginShared>, watch: CallMonitor) -> Self {
        let bytes_max = shared.limits.memory_bytes_max;
        let memory = MemoryLimiter { bytes_max, bytes: 0, limit_exceeded: false };
        Self { shared, call: CallState::idle(), memory, monitor: watch, stop: None, wasi: None, host_calls: None }
    }

    /// Ends the call with a fault. The returned error only unwinds the guest; the reason is kept in `stop`.
    pub(crate) fn abort_call(&mut self, kind: FaultKind, text: impl Into<String>) -> wasmtime::Error {
        let text = text.into();
        let error = wasmtime::Error::msg(text.clone());
        self.stop = Some(HostAbort { kind, text });
        error
    }

    /// Counts a call of a host function, if metered.
    pub(crate) fn called(&mut self, function: &'static str) {
        if let Some(calls) = &mut self.host_calls {
            *calls.entry(function).or_default() += 1;
        }
    }

    /// Counts a tick of a computing guest. Returns an error over the CPU limit.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<()> {
        let ticks = self.monitor.tick();
        let cpu = self.shared.limits.cpu;
        if u128::from(ticks) <= cpu.as_millis() {
            return Ok(());
        }
        Err(self.abort_call(FaultKind::CpuLimit, format!("computed for more than {} ms", cpu.as_millis())))
    }

    /// Counts a staged change; false over the limits.
    pub(crate) fn count_staged(&mut self, octets: usize) -> bool {
        let limits = &self.shared.limits;
        self.call.staged_changes += 1;
        self.call.staged_bytes = self.call.staged_bytes.saturating_add(octets);
        self.call.staged_changes <= limits.edits_max && self.call.staged_bytes <= limits.edit_bytes_max
    }

    /// Adds a log line to the trace and to the server's log, within the limits.
    pub(crate) fn log(&self, level: tracing::Level, text: &str) {
        log_line(&self.shared, &self.monitor, level, text);
    }

    /// Adds a log line of the host about this call.
    pub(crate) fn log_host(&self, text: &str) {
        self.log(tracing::Level::INFO, &format!("(host) {text}"));
    }

    /// Records a denied host call: a counter and a line of the trace. The guest receives the typed error.
    pub(crate) fn record_denial(&self, call: &'static str, reason: &'static str) {
        self.count_denial(call, reason);
        self.log_host(&format!("{call}: {reason}"));
    }

    /// Records a denied system access of a language runtime: a counter and a line of the trace, unless the call has many
    /// already. An interpreter tries many file names for a module, which must not flood the author's log.
    pub(crate) fn record_system_access(&mut self, call: &'static str, what: &str) {
        self.count_denial(call, "not-granted");
        self.call.usage.system_accesses += 1;
        match self.call.usage.system_accesses {
            ..=SYSTEM_ACCESSES_LOGGED_MAX => self.log_host(&format!("{call}: not-granted: {what}")),
            n if n == SYSTEM_ACCESSES_LOGGED_MAX + 1 => self.log_host("further denials are counted only"),
            _ => {}
        }
    }

    fn count_denial(&self, call: &'static str, reason: &'static str) {
        if let Some(metrics) = &self.shared.services.metrics {
            let labels = [("plugin", &*self.shared.name), ("call", call), ("reason", reason)];
            metrics.count("waxwing_plugin_refused_total", &labels, 1);
        }
    }

    /// Builds the fault of an ended call from the recorded reason and the engine's error.
    pub(crate) fn take_fault(&mut self, error: &wasmtime::Error) -> Fault {
        let log = self.monitor.take_log();
        if let Some(stop) = self.stop.take() {
            return Fault { kind: stop.kind, text: stop.text, log };
        }
        let (kind, text) = if self.memory.limit_exceeded {
            (FaultKind::MemoryLimit, format!("asked for more than {} bytes of memory", self.memory.bytes_max))
        } else {
            (FaultKind::Trap, trap_text(error))
        };
        Fault { kind, text, log }
    }
}

/// Returns the engine's text for a trap, without the backtrace of the host.
fn trap_text(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(trap) => trap.to_string(),
        None => one_line(&format!("{error:#}"), 500),
    }
}

/// Converts bare CR and LF to CRLF; a body is sent as stored.
pub(crate) fn with_crlf(body: impl Into<Bytes>) -> Bytes {
    let body: Bytes = body.into();
    let bare = |i: usize, b: u8| match b {
        b'\n' => i.checked_sub(1).and_then(|i| body.get(i)) != Some(&b'\r'),
        b'\r' => body.get(i + 1) != Some(&b'\n'),
        _ => false,
    };
    if !body.iter().enumerate().any(|(i, b)| bare(i, *b)) {
        return body;
    }
    let mut out = Vec::with_capacity(body.len() + body.len() / 32);
    for (i, b) in body.iter().enumerate() {
        if bare(i, *b) { out.extend_from_slice(b"\r\n") } else { out.push(*b) }
    }
    out.into()
}

/// Replaces control characters by spaces and truncates to `bytes_max` bytes.
pub(crate) fn one_line(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max);
    let text = text.get(..end).unwrap_or(text);
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text.to_owned() }
}
