//! Plugins that misbehave, compiled once, and the host that loads them.
#![allow(unreachable_pub, reason = "not every test file needs everything")]

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{CallOutcome, Context, Event, Fault, Plugin, PluginSession, SessionClient, Table, TableError};
use waxwing_sandbox::{
    InstanceMode, MessageAccess, PluginGrants, PluginLoadError, PluginSettings, Sandbox, SandboxSettings, WasmPlugin,
};
use waxwing_testkit::RealClock;
use waxwing_types::{Address, AddressClass, MemoryBody, QueueIdGenerator, Recipient, ReversePath, Source, Timestamp};

/// The components of `tests/fixtures/evil`.
pub fn component(package: &str) -> &'static [u8] {
    static BUILT: OnceLock<Vec<waxwing_builder::BuiltPlugin>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/evil/Cargo.toml");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let packages = ["evil", "chorus", "later", "outbound", "usher", "reach"];
        waxwing_builder::build(&manifest, &packages, target).unwrap_or_else(|e| panic!("{e}"))
    });
    &built.iter().find(|b| b.package == package).unwrap().component
}

/// One engine for all tests of a process, as in the server.
pub fn sandbox() -> Arc<Sandbox> {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    let make = || {
        // Compiled once for all tests; the directory is checked like any other.
        let cache_directory = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-plugins"));
        let settings = SandboxSettings { cache_directory, instances_max: 100, ..SandboxSettings::default() };
        Sandbox::new(settings, Arc::new(RealClock::start())).unwrap()
    };
    Arc::clone(SANDBOX.get_or_init(make))
}

/// A table whose answers are made up.
pub struct Fixed(pub Result<Option<String>, String>);

#[async_trait]
impl Table for Fixed {
    async fn get(&self, _key: &str) -> Result<Option<String>, TableError> {
        // Waits once, so that a guest is suspended in the host.
        tokio::task::yield_now().await;
        self.0.clone().map_err(|reason| TableError { table: "fixed".to_owned(), reason })
    }
}

/// `evil` with every grant and this misdeed.
pub fn evil(act: &str) -> PluginSettings {
    let mut settings = PluginSettings::new("evil");
    settings.grants = PluginGrants {
        message: MessageAccess::Full,
        edit: true,
        lookup: vec!["granted".into(), "broken".into()],
        ..PluginGrants::default()
    };
    settings.tables.insert("granted".into(), Arc::new(Fixed(Ok(Some("value".into())))));
    settings.tables.insert("broken".into(), Arc::new(Fixed(Err("disk on fire".into()))));
    settings.config.insert("act".into(), json!(act));
    settings.limits.wall = Duration::from_millis(2000);
    settings.limits.cpu = Duration::from_millis(50);
    settings
}

pub fn reused(mut settings: PluginSettings, recycle_calls: u32) -> PluginSettings {
    settings.instance_mode = InstanceMode::Reuse { recycle_calls };
    settings
}

pub async fn load(settings: PluginSettings) -> Arc<WasmPlugin> {
    try_load(settings).await.unwrap_or_else(|e| panic!("{e}"))
}

pub async fn try_load(settings: PluginSettings) -> Result<Arc<WasmPlugin>, PluginLoadError> {
    sandbox().load(component("evil"), settings).await
}

pub fn open(plugin: &Arc<WasmPlugin>) -> Box<dyn PluginSession> {
    Arc::clone(plugin).open_session()
}

/// A session before MAIL.
pub fn session() -> Context {
    let client =
        SessionClient { peer: "192.0.2.1:4242".parse().unwrap(), name: Some("client.example".into()), listener: "mx".into() };
    Context::new(Source::Smtp, Some(Arc::new(client)))
}

/// A complete message.
pub fn message() -> Context {
    let mut context = session();
    context.id = Some(QueueIdGenerator::default().next(Timestamp::from_millis(1_800_000_000_000)));
    context.sender = Some(Arc::new(ReversePath::Address(Address::parse("from@a.example").unwrap())));
    let recipient = Recipient::new(Address::parse("to@b.example").unwrap());
    context.push_recipient(recipient, AddressClass::Local, Vec::new());
    let head = HeaderBlock::parse(Bytes::from_static(b"From: from@a.example\r\nSubject: hello\r\n world\r\n"), true);
    context.header = Some(Arc::new(head));
    context.body = Some(Arc::new(MemoryBody::new(Bytes::from_static(b"the body\r\n"))));
    context
}

/// One call in a conversation of its own.
pub async fn call(plugin: &Arc<WasmPlugin>, event: Event, context: &Context) -> Result<CallOutcome, Fault> {
    open(plugin).call(&event, context).await
}
