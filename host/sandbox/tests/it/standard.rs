//! The standard plugins as components, through the pipeline that asks them in the server.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{message, sandbox};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use waxwing_message::HeaderBlock;
use waxwing_pipeline::{
    AddressRole, Binding, BindingSettings, Event, ExpansionTarget, Pipeline, ResolvedRecipient, Table, TableError,
};
use waxwing_sandbox::{InstanceMode, MessageAccess, PluginGrants, PluginSettings};
use waxwing_testkit::{FixedClassifier, RealClock};
use waxwing_types::{Address, AddressClass, Verdict};

struct Fixed(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl Table for Fixed {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        Ok(self.0.get(key).map(|v| (*v).to_owned()))
    }
}

async fn pipeline(instance: InstanceMode) -> Pipeline {
    let server =
        [("myorigin", json!("b.example")), ("myhostname", json!("mx.b.example")), ("mydestination", json!(["b.example"]))];
    let server = Arc::new(server.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
    let mut bindings = Vec::new();
    for name in ["cleanup", "aliases"] {
        let mut settings = PluginSettings::new(name);
        settings.instance_mode = instance;
        settings.server_values = Arc::clone(&server);
        if name == "cleanup" {
            settings.grants = PluginGrants { message: MessageAccess::Headers, edit: true, ..PluginGrants::default() };
        } else {
            settings.grants.lookup = vec!["alias_maps".into()];
            let aliases = Fixed([("team", "ann, bob@elsewhere.example"), ("owner-team", "ann"), ("broken", "ann bob")].into());
            settings.tables.insert("alias_maps".into(), Arc::new(aliases));
        }
        let plugin = sandbox().load(waxwing_bundle::standard_component(name).unwrap(), settings).await.unwrap();
        bindings.push(Binding::new(name, plugin, BindingSettings::default()));
    }
    Pipeline::new(bindings, Arc::new(FixedClassifier(AddressClass::Local)), Arc::new(RealClock::start()))
}

const MODES: [InstanceMode; 2] = [InstanceMode::Fresh, InstanceMode::Reuse { recycle_calls: 100 }];

#[tokio::test]
async fn cleanup_completes_a_message() {
    for mode in MODES {
        let pipeline = pipeline(mode).await;
        let mut chain = pipeline.open_session();
        let mut context = message();
        context.header = Some(Arc::new(HeaderBlock::parse(Bytes::from_static(b"Subject: x\r\nBcc: secret\r\n"), true)));
        assert_eq!(pipeline.verdict(&mut chain, &mut context, Event::Cleanup).await, Verdict::Next);
        let head = String::from_utf8(context.header.unwrap().to_bytes(false).to_vec()).unwrap();
        let id = context.id.unwrap();
        assert_eq!(
            head,
            format!(
                "Subject: x\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n\
                 Message-ID: <20270115080000.{id}@mx.b.example>\r\nFrom: from@a.example\r\n\r\n"
            )
        );
        assert_eq!(chain.trace.len(), 1);
        assert_eq!(chain.trace[0].edits[0], "-Bcc[0]");
    }
}

#[tokio::test]
async fn bare_addresses_get_a_domain() {
    for mode in MODES {
        let pipeline = pipeline(mode).await;
        let (mut chain, mut context) = (pipeline.open_session(), message());
        for (from, to) in [("ann", "ann@b.example"), ("ann@x.example", "ann@x.example")] {
            let from = Address::parse(from).unwrap();
            let new = pipeline.rewrite(&mut chain, &mut context, from, AddressRole::EnvelopeRecipient).await.unwrap();
            assert_eq!(new.to_string(), to);
        }
    }
}

#[tokio::test]
async fn aliases_stand_for_others() {
    for mode in MODES {
        let pipeline = pipeline(mode).await;
        let (mut chain, mut context) = (pipeline.open_session(), message());
        let mut ask = async |to: &str, verify| {
            let to = Address::parse(to).unwrap();
            pipeline.resolve(&mut chain, &mut context, &to, verify).await
        };
        let ResolvedRecipient::Targets(expansion) = ask("Team@b.example", false).await else { panic!("not found") };
        let addresses = ["ann", "bob@elsewhere.example"].map(|a| ExpansionTarget::Address(Address::parse(a).unwrap()));
        assert_eq!(expansion.targets, addresses);
        assert_eq!(expansion.sender.unwrap().to_string(), "owner-team@b.example");
        assert!(matches!(ask("team@b.example", true).await, ResolvedRecipient::Targets(e) if e.targets.is_empty()));
        assert_eq!(ask("carl@b.example", false).await, ResolvedRecipient::NotMine);
        assert_eq!(ask("team@elsewhere.example", false).await, ResolvedRecipient::NotMine);
        assert!(matches!(ask("broken@b.example", false).await, ResolvedRecipient::Failed(reply) if reply.code() == 451));
    }
}
