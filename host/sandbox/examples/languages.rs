//! What the example of each language costs: `cargo run --example languages -p waxwing-sandbox -- FILE.wasm ...`, of components that
//! `plugins/examples/*/build` made. The message has a body of 4 KiB. The time to compile is that of the processor; the others are of the
//! clock, and the lower quartile of all, so that other work on the machine counts little.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, with a clock of its own")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{Context, Event, Plugin};
use waxwing_sandbox::{InstanceMode, MessageAccess, PluginGrants, PluginSettings, Sandbox, SandboxSettings};
use waxwing_testkit::RealClock;
use waxwing_types::{Address, AddressClass, MemoryBody, QueueIdGenerator, Recipient, ReversePath, Source, Timestamp};

const HEAD: &[u8] = b"From: Ann <ann@client.example>\r\nTo: <to@example.com>\r\nSubject: lunch\r\n";

fn message() -> Context {
    let mut context = Context::new(Source::Smtp, None);
    context.id = Some(QueueIdGenerator::default().next(Timestamp::from_millis(1_800_000_000_000)));
    context.sender = Some(Arc::new(ReversePath::Address(Address::parse("ann@client.example").unwrap())));
    context.push_recipient(Recipient::new(Address::parse("to@example.com").unwrap()), AddressClass::Local, Vec::new());
    context.header = Some(Arc::new(HeaderBlock::parse(Bytes::from_static(HEAD), true)));
    context.body = Some(Arc::new(MemoryBody::new(Bytes::from(b"nothing to see here\r\n".repeat(195)))));
    context
}

fn settings(instance: InstanceMode) -> PluginSettings {
    let mut settings = PluginSettings::new("checker");
    settings.instance_mode = instance;
    settings.grants = PluginGrants { message: MessageAccess::Full, edit: true, ..PluginGrants::default() };
    settings.config = [("word".to_owned(), json!("lottery"))].into();
    settings.limits.memory_bytes_max = 64 << 20;
    (settings.limits.wall, settings.limits.cpu) = (Duration::from_secs(60), Duration::from_secs(60));
    settings
}

/// Milliseconds on processors of all threads, in steps of ten.
fn process_millis() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = text.rsplit(')').next().unwrap().to_owned();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<f64>().unwrap()).sum();
    ticks * 10.0
}

fn lower_quartile(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 4).copied().unwrap()
}

async fn measure(file: &Path, cache: &Path) {
    let component = std::fs::read(file).unwrap();
    let make = || {
        let settings =
            SandboxSettings { cache_directory: Some(cache.to_owned()), instances_max: 20, ..SandboxSettings::default() };
        Sandbox::new(settings, Arc::new(RealClock::start())).unwrap()
    };
    let began = process_millis();
    make().load(&component, settings(InstanceMode::Fresh)).await.unwrap();
    let compiled = process_millis() - began;
    let mut times = Vec::new();
    for _ in 0..9 {
        let sandbox = make();
        let began = Instant::now();
        sandbox.load(&component, settings(InstanceMode::Fresh)).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let cached = lower_quartile(times);
    let sandbox = make();
    let fresh = sandbox.load(&component, settings(InstanceMode::Fresh)).await.unwrap();
    let context = message();
    let mut times = Vec::new();
    for _ in 0..401 {
        let began = Instant::now();
        Arc::clone(&fresh).open_session().call(&Event::Message, &context).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let fresh = lower_quartile(times);
    let reused = sandbox.load(&component, settings(InstanceMode::Reuse { recycle_calls: 1_000_000 })).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..51 {
        let began = Instant::now();
        for _ in 0..20 {
            Arc::clone(&reused).open_session().call(&Event::Message, &context).await.unwrap();
        }
        times.push(began.elapsed().as_secs_f64() * 1e6 / 20.0);
    }
    let (name, octets) = (file.display(), component.len());
    println!("| {name} | {octets} | {compiled:.0} ms | {cached:.1} ms | {fresh:.0} µs | {:.1} µs |", lower_quartile(times));
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cache = std::env::temp_dir().join(format!("waxwing-languages-{}", std::process::id()));
    println!(
        "| component | octets | compile | from the cache | fresh instance and call | call, reused |\n|---|--:|--:|--:|--:|--:|"
    );
    for file in std::env::args().skip(1) {
        measure(Path::new(&file), &cache).await;
    }
    let _ = std::fs::remove_dir_all(cache);
}
