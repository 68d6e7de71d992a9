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

use crate::denied;
use crate::state::{Shared, State, Watch, say};

/// Maximum number of random bytes in one answer.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Maximum number of bytes that a guest may write to an output at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Links WASI for a component. Sockets and files are linked because some language runtimes always import them; every attempt to
/// open one is denied and counted.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    denied::link(linker)
}

/// WASI state of an instance.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    /// Arrival time of the current message in milliseconds since 1970.
    time: Arc<AtomicU64>,
    random: Arc<Mutex<blake3::OutputReader>>,
    lines: [Lines; 2],
}

impl Wasi {
    pub(crate) fn new(shared: &Arc<Shared>, watch: &Watch) -> Self {
        let time = Arc::new(AtomicU64::new(shared.clock.now().as_millis()));
        let random = Arc::new(Mutex::new(seed(shared, "")));
        let lines = [(); 2].map(|()| Lines { shared: Arc::clone(shared), watch: watch.clone(), begun: Arc::default() });
        let mut builder = WasiCtx::builder();
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false).max_random_size(RANDOM_BYTES_MAX);
        let [out, err] = &lines;
        builder.stdout(out.clone()).stderr(err.clone());
        if shared.grants.clock {
            builder.wall_clock(Real(Arc::clone(&shared.clock))).monotonic_clock(Real(Arc::clone(&shared.clock)));
        } else {
            builder.wall_clock(Frozen(Arc::clone(&time))).monotonic_clock(Frozen(Arc::clone(&time)));
        }
        if !shared.grants.random {
            builder
                .secure_random(Seeded(Arc::clone(&random)))
                .insecure_random(Seeded(Arc::clone(&random)))
                .insecure_random_seed(0);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(shared.limits.wasi_resources_max);
        Self { ctx: builder.build(), table, time, random, lines }
    }

    /// Starts a call for a message received at the given time. `about` seeds the random bytes: hook and queue id.
    pub(crate) fn begin(&self, shared: &Shared, arrived: Timestamp, about: &str) {
        self.time.store(arrived.as_millis(), Ordering::Relaxed);
        *self.random.lock() = seed(shared, about);
    }

    /// Ends a call and logs an unterminated last line.
    pub(crate) fn end(&self) {
        self.lines.iter().for_each(Lines::end);
    }
}

impl State {
    /// Prepares the WASI state for a new call.
    pub(crate) fn begin_wasi(&mut self) {
        if !self.shared.wasi {
            return;
        }
        let wasi = self.wasi.get_or_insert_with(|| Box::new(Wasi::new(&self.shared, &self.watch)));
        let id = self.call.context.id;
        let arrived = id.map_or_else(|| self.shared.clock.now(), waxwing_types::QueueId::created_at);
        let hook = self.call.hook.map_or("on-load", waxwing_pipeline::Hook::as_str);
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        wasi.begin(&self.shared, arrived, &format!("{hook} {id}"));
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (shared, watch) = (&self.shared, &self.watch);
        let Wasi { ctx, table, .. } = &mut **self.wasi.get_or_insert_with(|| Box::new(Wasi::new(shared, watch)));
        WasiCtxView { ctx, table }
    }
}

/// Returns a deterministic stream of bytes for a plugin and a call.
fn seed(shared: &Shared, about: &str) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key("waxwing 0.1 random octets of a call");
    hasher.update(shared.name.as_bytes()).update(&[0]).update(about.as_bytes());
    hasher.finalize_xof()
}

struct Seeded(Arc<Mutex<blake3::OutputReader>>);

impl Seeded {
    fn next<const N: usize>(&self) -> [u8; N] {
        let mut octets = [0; N];
        self.0.lock().fill(&mut octets);
        octets
    }
}

impl TryRng for Seeded {
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

struct Frozen(Arc<AtomicU64>);

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}

struct Real(Arc<dyn Clock>);

impl HostWallClock for Real {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.now().as_millis())
    }
}

impl HostMonotonicClock for Real {
    fn resolution(&self) -> u64 {
        1000
    }

    fn now(&self) -> u64 {
        self.0.monotonic().as_micros().saturating_mul(1000)
    }
}

/// Standard output or error, logged line by line.
#[derive(Clone)]
struct Lines {
    shared: Arc<Shared>,
    watch: Watch,
    /// Unterminated line so far.
    begun: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take(&self, octets: &[u8]) {
        let max = self.shared.limits.log_line_bytes_max;
        let mut begun = self.begun.lock();
        for piece in octets.split_inclusive(|b| *b == b'\n') {
            let (text, ends) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let remaining = max.saturating_sub(begun.len());
            begun.extend_from_slice(text.get(..remaining.min(text.len())).unwrap_or_default());
            if ends {
                self.say(&std::mem::take(&mut *begun));
            }
        }
    }

    fn end(&self) {
        let begun = std::mem::take(&mut *self.begun.lock());
        if !begun.is_empty() {
            self.say(&begun);
        }
    }

    fn say(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        say(&self.shared, &self.watch, tracing::Level::INFO, line.trim_end_matches('\r'));
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, octets: Bytes) -> StreamResult<()> {
        self.take(&octets);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    /// Part of WASI 0.3, which is not served.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
