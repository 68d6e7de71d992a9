//! Simulation of transactions for `waxwing plugin test` and `waxwing replay`: the server's own services from SMTP session to queue, in
//! this process, over a pipe instead of a socket and with a queue in a temporary directory. Nothing is delivered.

mod client;
mod results;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;
use waxwing_accounts::Accounts;
use waxwing_config::Config;
use waxwing_intake::{Intake, IntakeServices, IntakeSettings, Policy};
use waxwing_net::{Shutdown, TlsMode, UnavailableResolver, drive, spawn};
use waxwing_pipeline::{Pipeline, SessionClient, Trace, TraceRecord};
use waxwing_queue::{EmbeddedSpool, KEYSPACES, SpoolSettings};
use waxwing_sandbox::{HostServices, Meter, SandboxSettings};
use waxwing_smtp::{ServerSession, ServerSettings};
use waxwing_spool::Spool;
use waxwing_store::{Store, StoreOptions};
use waxwing_tool::{Simulate, TestCase, TestResult, TestSetup, ToolError};
use waxwing_types::{Clock, Monotonic, Timestamp};

use crate::clock::SystemClock;
use crate::listener_settings;

/// Longest time for a transaction; plugins can delay replies.
const CASE_TIME_MAX: Duration = Duration::from_secs(300);
/// Bytes of the pipe buffer between client and server.
const PIPE_BYTES: usize = 64 << 10;
/// Instances of all plugins: a single transaction at a time needs few, and each instance reserves address space.
const INSTANCES_MAX: u32 = 32;
/// Directory of compiled plugins below the user's cache directory, so that the next test of the same component starts at once.
const CACHE_DIRECTORY: &str = "waxwing/plugins-metered";

/// Runs simulated transactions.
pub(crate) struct Simulator {
    /// Clock of the process.
    pub(crate) clock: SystemClock,
}

impl Simulate for Simulator {
    fn simulate(&self, cast: TestSetup, scenes: &[TestCase]) -> Result<Vec<TestResult>, ToolError> {
        self.run_all(cast, scenes).map_err(|error| ToolError::Simulation(waxwing_plugins::error_chain(&error)))
    }
}

impl Simulator {
    fn run_all(&self, cast: TestSetup, scenes: &[TestCase]) -> anyhow::Result<Vec<TestResult>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let directory = tempfile::Builder::new().prefix("waxwing-rehearsal-").tempdir().context("a temporary directory")?;
        let seen = runtime.block_on(async {
            let server = TestServer::build(cast.config, directory.path(), self.clock).await?;
            let mut seen = Vec::with_capacity(scenes.len());
            for scene in scenes {
                seen.push(server.run_case(scene).await?);
            }
            anyhow::Ok(seen)
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        seen
    }
}

/// System clock with an adjustable date, as a test case may require.
struct SimulatedClock {
    system: SystemClock,
    /// Simulated wall time in milliseconds since 1970; 0 selects the real time.
    wall_millis: AtomicU64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        match self.wall_millis.load(Ordering::Relaxed) {
            0 => self.system.now(),
            millis => Timestamp::from_millis(millis),
        }
    }

    fn monotonic(&self) -> Monotonic {
        self.system.monotonic()
    }
}

/// Collects the trace records of the current transaction.
#[derive(Default)]
struct TraceCollector(Mutex<Vec<TraceRecord>>);

impl Trace for TraceCollector {
    fn record(&self, record: TraceRecord) {
        self.0.lock().push(record);
    }
}

/// A server without listeners: intake, plugins and a temporary queue.
struct TestServer {
    intake: Arc<Intake>,
    spool: Arc<dyn Spool>,
    traces: Arc<TraceCollector>,
    meter: Arc<Meter>,
    settings: Arc<ServerSettings>,
    clock: Arc<SimulatedClock>,
    _store: Store,
}

impl TestServer {
    async fn build(mut config: Config, directory: &Path, system: SystemClock) -> anyhow::Result<Self> {
        // Test cases must not depend on earlier cases or on chance: no breaker, no canary.
        for plugin in &mut config.plugins {
            (plugin.breaker_faults, plugin.canary) = (0, None);
        }
        let config = Arc::new(config);
        let simulated_clock = Arc::new(SimulatedClock { system, wall_millis: AtomicU64::new(0) });
        let clock: Arc<dyn Clock> = Arc::clone(&simulated_clock) as _;
        let store = Store::open(&directory.join("store"), &StoreOptions::new(&KEYSPACES))?;
        drop(spawn("store", store.completion_dispatcher()));
        let mut settings = SpoolSettings::new(config.smtpd.message_size_limit, Arc::clone(&clock));
        // The queue is temporary: no free space to reserve.
        settings.queue_minfree = 0;
        let spool: Arc<dyn Spool> = Arc::new(EmbeddedSpool::open(&store, &directory.join("bodies"), settings).await?);
        let accounts = Arc::new(Accounts::open(&config, &clock)?);
        let meter = Arc::new(Meter::default());
        let sandbox = SandboxSettings {
            cache_directory: cache_directory(),
            instances_max: INSTANCES_MAX,
            meter: Some(Arc::clone(&meter)),
            ..SandboxSettings::default()
        };
        let loaded = waxwing_plugins::load(
            sandbox,
            &config,
            &accounts,
            &clock,
            waxwing_bundle::standard_component,
            HostServices::default(),
        )
        .await?;
        let pipeline = Arc::new(Pipeline::new(loaded.bindings(), Arc::clone(&accounts) as _, Arc::clone(&clock)));
        let traces = Arc::new(TraceCollector::default());
        let intake = Intake::new(IntakeServices {
            settings: IntakeSettings::from_config(&config),
            pipeline,
            policy: Policy::from_config(&config, Arc::new(UnavailableResolver), |name| accounts.table(name)),
            spool: Arc::clone(&spool),
            directory: accounts,
            trace: Arc::clone(&traces) as _,
            authenticator: None,
            recorder: None,
            clock: Arc::clone(&clock),
        });
        let settings = Arc::new(listener_settings::server_settings(&config));
        Ok(Self { intake, spool, traces, meter, settings, clock: simulated_clock, _store: store })
    }

    async fn run_case(&self, scene: &TestCase) -> anyhow::Result<TestResult> {
        self.clock.wall_millis.store(scene.fixed_time.map_or(0, Timestamp::as_millis), Ordering::Relaxed);
        let held = self.spool.stats().hold;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let client =
            SessionClient { peer: scene.peer, name: scene.client_name.clone(), listener: Arc::from(scene.listener.as_str()) };
        let session = ServerSession::new(Arc::clone(&self.settings));
        let host = self.intake.session_handler(client, scene.source);
        let (_trigger, shutdown) = Shutdown::new();
        let server = spawn("session", drive(theirs, TlsMode::None, session, host, Arc::clone(&self.clock) as _, shutdown));
        let dialogue = timeout(CASE_TIME_MAX, client::run_dialogue(ours, scene)).await;
        let dialogue =
            dialogue.map_err(|_| anyhow::anyhow!("the transaction took longer than {} s", CASE_TIME_MAX.as_secs()))??;
        server.await?;
        let records = std::mem::take(&mut *self.traces.0.lock());
        let held = self.spool.stats().hold > held;
        results::test_result(&*self.spool, held, dialogue, records, self.meter.take()).await
    }
}

/// Returns the cache directory of the user, if writable by no other user; otherwise `None`, and compiled plugins are not cached.
fn cache_directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    let directory = base.join(CACHE_DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    let about = std::fs::symlink_metadata(&directory).ok()?;
    let is_ours = about.is_dir() && about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0;
    is_ours.then_some(directory)
}

/// Applies dot-stuffing and appends the end-of-data line (RFC 5321 §4.5.2).
fn dot_stuffed(content: &Bytes) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 64 + 3);
    let mut at_start = true;
    for &octet in content {
        if at_start && octet == b'.' {
            out.push(b'.');
        }
        out.push(octet);
        at_start = octet == b'\n';
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_message_is_its_end() {
        assert_eq!(dot_stuffed(&Bytes::from_static(b".\r\n..\r\nx")), b"..\r\n...\r\nx\r\n.\r\n");
        assert_eq!(dot_stuffed(&Bytes::new()), b".\r\n");
    }
}
