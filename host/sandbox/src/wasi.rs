//! WASI 0.2 for guests whose language runtime always imports WASI. The environment is empty: no files, no network, no
//! arguments, no environment variables. Lines written to standard output and error go to the plugin's log. Unless `clock` and
//! `random` are granted, time stands still at the arrival of the message and random bytes depend only on the call, so two runs
//! of the same call are identical.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand_core::TryRng;
use tokio::io::AsyncWrite;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};
use waxwing_types::{Clock, Timestamp};

use crate::state::{CallMonitor, InstanceState, PluginShared, log_line};
use crate::wasi_deny;

/// Maximum number of random bytes in one answer.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Maximum number of bytes that a guest may write to an output at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Links WASI for a component. Sockets and files are linked because some language runtimes always import them; every attempt to
/// open one is denied and counted.
pub(crate) fn link(linker: &mut Linker<InstanceState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasi_deny::link(linker)
}

/// WASI state of an instance.
pub(crate) struct WasiContext {
    ctx: WasiCtx,
    table: ResourceTable,
    /// Arrival time of the current message in milliseconds since 1970.
    arrival_time: Arc<AtomicU64>,
    random: Arc<Mutex<blake3::OutputReader>>,
    outputs: [PluginOutput; 2],
}

impl WasiContext {
    pub(crate) fn new(shared: &Arc<PluginShared>, watch: &CallMonitor) -> Self {
        let time = Arc::new(AtomicU64::new(shared.clock.now().as_millis()));
        let random = Arc::new(Mutex::new(seeded_random(shared, "")));
        let lines =
            [(); 2].map(|()| PluginOutput { shared: Arc::clone(shared), monitor: watch.clone(), partial_line: Arc::default() });
        let mut builder = WasiCtx::builder();
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).max_random_size(RANDOM_BYTES_MAX);
        let [out, err] = &lines;
        builder.stdout(out.clone()).stderr(err.clone());
        if shared.grants.clock {
            builder.wall_clock(ServerClock(Arc::clone(&shared.clock))).monotonic_clock(ServerClock(Arc::clone(&shared.clock)));
        } else {
            builder.wall_clock(FrozenClock(Arc::clone(&time))).monotonic_clock(FrozenClock(Arc::clone(&time)));
        }
        if !shared.grants.random {
            builder
                .secure_random(SeededRandom(Arc::clone(&random)))
                .insecure_random(SeededRandom(Arc::clone(&random)))
                .insecure_random_seed(0);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(shared.limits.wasi_resources_max);
        Self { ctx: builder.build(), table, arrival_time: time, random, outputs: lines }
    }

    /// Starts a call for a message received at the given time. `about` seeds the random bytes: hook and queue id.
    pub(crate) fn begin_call(&self, shared: &PluginShared, arrived: Timestamp, about: &str) {
        self.arrival_time.store(arrived.as_millis(), Ordering::Relaxed);
        *self.random.lock() = seeded_random(shared, about);
    }

    /// Ends a call and logs an unterminated last line.
    pub(crate) fn end_call(&self) {
        self.outputs.iter().for_each(PluginOutput::flush_line);
    }
}

impl InstanceState {
    /// Prepares the WASI state for a new call.
    pub(crate) fn begin_wasi_call(&mut self) {
        if !self.shared.imports_wasi {
            return;
        }
        let wasi = self.wasi.get_or_insert_with(|| Box::new(WasiContext::new(&self.shared, &self.monitor)));
        let id = self.call.context.id;
        let arrived = id.map_or_else(|| self.shared.clock.now(), waxwing_types::QueueId::created_at);
        let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        wasi.begin_call(&self.shared, arrived, &format!("{hook} {id}"));
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (shared, watch) = (&self.shared, &self.monitor);
        let WasiContext { ctx, table, .. } = &mut **self.wasi.get_or_insert_with(|| Box::new(WasiContext::new(shared, watch)));
        WasiCtxView { ctx, table }
    }
}

/// Returns a deterministic stream of bytes for a plugin and a call.
fn seeded_random(shared: &PluginShared, about: &str) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key("waxwing 0.1 random octets of a call");
    hasher.update(shared.name.as_bytes()).update(&[0]).update(about.as_bytes());
    hasher.finalize_xof()
}

struct SeededRandom(Arc<Mutex<blake3::OutputReader>>);

impl SeededRandom {
    fn next<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        self.0.lock().fill(&mut octets);
        octets
    }
}

impl TryRng for SeededRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.next()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.next()))
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), Infallible> {
        self.0.lock().fill(octets);
        Ok(())
    }
}

struct FrozenClock(Arc<AtomicU64>);

impl HostWallClock for FrozenClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl HostMonotonicClock for FrozenClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

struct ServerClock(Arc<dyn Clock>);

impl HostWallClock for ServerClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now().as_millis())
    }
}

impl HostMonotonicClock for ServerClock {
    fn resolution(&self) -> u64 {
        1000
    }

    fn now(&self) -> u64 {
        self.0.monotonic().as_micros().saturating_mul(1000)
    }
}

/// Standard output or error, logged line by line.
#[derive(Clone)]
struct PluginOutput {
    shared: Arc<PluginShared>,
    monitor: CallMonitor,
    /// Unterminated line so far.
    partial_line: Arc<Mutex<Vec<u8>>>,
}

impl PluginOutput {
    fn log_lines(&self, octets: &[u8]) {
        let max = self.shared.limits.log_line_bytes_max;
        let mut partial = self.partial_line.lock();
        for piece in octets.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let remaining = max.saturating_sub(partial.len());
            partial.extend_from_slice(text.get(..remaining.min(text.len())).unwrap_or_default());
            if ends {
                self.log_output(&std::mem::take(&mut *partial));
            }
        }
    }

    fn flush_line(&self) {
        let partial = std::mem::take(&mut *self.partial_line.lock());
        if !partial.is_empty() {
            self.log_output(&partial);
        }
    }

    fn log_output(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        log_line(&self.shared, &self.monitor, tracing::Level::INFO, line.trim_end_matches('\r'));
    }
}

#[async_trait]
impl Pollable for PluginOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for PluginOutput {
    fn write(&mut self, octets: Bytes) -> StreamResult<()> {
        self.log_lines(&octets);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl IsTerminal for PluginOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for PluginOutput {
    /// Part of WASI 0.3, which is not served.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
