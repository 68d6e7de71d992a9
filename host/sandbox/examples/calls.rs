//! What a call costs: `cargo run --release --example calls -p waxwing-sandbox [-- COMPONENT…]`; of each component, whose hook is
//! on-message, what a call with a message of 4 KB costs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, with a clock of its own")]

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{AddressRole, Context, Event, Plugin, Table, TableError};
use waxwing_sandbox::{InstanceMode, MessageAccess, PluginGrants, PluginSettings, Sandbox, SandboxSettings, WasmPlugin};
use waxwing_testkit::RealClock;
use waxwing_types::{Address, AddressClass, MemoryBody, QueueIdGenerator, Recipient, ReversePath, Source, Timestamp};

struct NoAlias;

#[async_trait]
impl Table for NoAlias {
    async fn get(&self, _key: &str) -> Result<Option<String>, TableError> {
        Ok(None)
    }
}

const HEAD: &[u8] =
    b"Received: from client.example (client.example [192.0.2.1])\r\n\tby mx.example.com with ESMTP id 0j5v8k3m2x4t0\r\n\
    \tfor <to@example.com>; Fri, 15 Jan 2027 08:00:00 +0000\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n\
    Message-ID: <1@client.example>\r\nFrom: Ann <ann@client.example>\r\nTo: <to@example.com>\r\nSubject: hello\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";

fn message() -> Context {
    let mut context = Context::new(Source::Smtp, None);
    context.id = Some(QueueIdGenerator::default().next(Timestamp::from_millis(1_800_000_000_000)));
    context.sender = Some(Arc::new(ReversePath::Address(Address::parse("ann@client.example").unwrap())));
    context.push_recipient(Recipient::new(Address::parse("to@example.com").unwrap()), AddressClass::Local, Vec::new());
    context.header = Some(Arc::new(HeaderBlock::parse(Bytes::from_static(HEAD), true)));
    context.body = Some(Arc::new(MemoryBody::new(Bytes::from(vec![b'x'; 4096]))));
    context
}

async fn load(sandbox: &Sandbox, name: &str, instance: InstanceMode) -> Arc<WasmPlugin> {
    let mut settings = PluginSettings::new(name);
    settings.instance_mode = instance;
    settings.grants = PluginGrants {
        message: MessageAccess::Headers,
        edit: true,
        lookup: vec!["alias_maps".into(), "virtual_alias_maps".into()],
        ..PluginGrants::default()
    };
    for table in ["alias_maps", "virtual_alias_maps"] {
        settings.tables.insert(table.into(), Arc::new(NoAlias));
    }
    let server =
        [("myorigin", json!("example.com")), ("myhostname", json!("mx.example.com")), ("mydestination", json!(["example.com"]))];
    settings.server_values = Arc::new(server.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
    let Some(component) = waxwing_bundle::standard_component(name) else {
        settings.grants.message = MessageAccess::Full;
        return sandbox.load(&std::fs::read(name).unwrap(), settings).await.unwrap();
    };
    sandbox.load(component, settings).await.unwrap()
}

/// Median and least microseconds of a call over batches.
async fn measure(what: &str, plugin: &Arc<WasmPlugin>, event: &Event, context: &Context, calls: u32, conversations: u32) {
    let mut batches = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        for _ in 0..conversations {
            let mut guest = Arc::clone(plugin).open_session();
            for _ in 0..calls {
                guest.call(event, context).await.unwrap();
            }
        }
        batches.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(calls * conversations));
    }
    batches.sort_by(f64::total_cmp);
    println!("{what:<60} {:>8.2} µs, at least {:.2}", batches.get(10).unwrap(), batches.first().unwrap());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let began = Instant::now();
    let sandbox = Sandbox::new(SandboxSettings::default(), Arc::new(RealClock::start())).unwrap();
    println!("{:<60} {:>8.2} ms", "engine", began.elapsed().as_secs_f64() * 1e3);
    let context = message();
    for file in std::env::args().skip(1) {
        for (instance, conversations) in [(InstanceMode::Reuse { recycle_calls: 10_000 }, 2000), (InstanceMode::Fresh, 500)] {
            let plugin = load(&sandbox, &file, instance).await;
            measure(&format!("{file} {instance:?}"), &plugin, &Event::Message, &context, 1, conversations).await;
        }
    }
    let address = Address::parse("ann@client.example").unwrap();
    let events = [
        ("cleanup", Event::RewriteAddress(address.clone(), AddressRole::EnvelopeSender)),
        ("cleanup", Event::Cleanup),
        ("aliases", Event::Resolve { recipient: Address::parse("to@example.com").unwrap(), verify: false }),
    ];
    for (name, event) in events {
        let began = Instant::now();
        let reused = load(&sandbox, name, InstanceMode::Reuse { recycle_calls: 10_000 }).await;
        println!("{:<60} {:>8.2} ms", format!("{name}: compile and load"), began.elapsed().as_secs_f64() * 1e3);
        let fresh = load(&sandbox, name, InstanceMode::Fresh).await;
        let hook = event.hook();
        measure(&format!("{name} {hook}, reused instance"), &reused, &event, &context, 2000, 1).await;
        measure(&format!("{name} {hook}, reused, conversation for each call"), &reused, &event, &context, 1, 2000).await;
        measure(&format!("{name} {hook}, fresh instance for each call"), &fresh, &event, &context, 1, 500).await;
    }
    let status = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let pss = status.lines().find(|l| l.starts_with("Pss:")).unwrap_or_default();
    println!("{pss}");
}
