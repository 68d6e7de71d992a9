//! Restrictions, with the configuration as an operator writes it.

use std::net::IpAddr;
use std::path::Path;

use waxwing_config::{Config, HostEnvironment};
use waxwing_pipeline::{DnsError, DnsRecords, MxHost, Resolver, Table};

use super::*;

/// Names that the DNS of these tests knows: `record type name` to answers.
#[derive(Default)]
pub(super) struct Dns(HashMap<String, Vec<Bytes>>);

impl Dns {
    fn with(entries: &[(&str, &[u8])]) -> Self {
        let mut map: HashMap<String, Vec<Bytes>> = HashMap::new();
        for (name, octets) in entries {
            map.entry((*name).to_owned()).or_default().push(Bytes::copy_from_slice(octets));
        }
        Self(map)
    }
}

#[async_trait]
impl Resolver for Dns {
    async fn mx(&self, domain: &str) -> Result<Vec<MxHost>, DnsError> {
        match domain {
            "far.example" => Ok(vec![MxHost { preference: 1, name: "mx.far.example".into() }]),
            "null.example" => Err(DnsError::NullMx),
            "slow.example" => Err(DnsError::Temporary("time-out".into())),
            _ => Err(DnsError::NoSuchName),
        }
    }
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let records = self.records(host, 1).await?;
        let address = |octets: &Bytes| IpAddr::from(<[u8; 4]>::try_from(octets.as_ref()).unwrap());
        Ok(records.rdata.iter().map(address).collect())
    }
    async fn records(&self, name: &str, rrtype: u16) -> Result<DnsRecords, DnsError> {
        let rdata = self.0.get(&format!("{rrtype} {name}")).cloned().ok_or(DnsError::NoSuchName)?;
        Ok(DnsRecords { rdata, ttl: 60, authentic: false })
    }
}

struct Entries(HashMap<String, String>);

#[async_trait]
impl Table for Entries {
    async fn get(&self, key: &str) -> Result<Option<String>, TableError> {
        match key {
            "broken@far.example" => Err(TableError { table: "t".into(), reason: "gone".into() }),
            key => Ok(self.0.get(key).cloned()),
        }
    }
}

pub(super) fn none() -> Policy {
    policy("smtpd_peername_lookup = false\n", &[], Dns::default())
}

/// The configuration `text`, whose table `t` holds these pairs; also `smtpd_sender_login_maps` does.
pub(super) fn policy(text: &str, table: &[(&str, &str)], dns: Dns) -> Policy {
    policy_and_config(text, table, dns).0
}

pub(super) fn policy_and_config(text: &str, table: &[(&str, &str)], dns: Dns) -> (Policy, Config) {
    let facts = HostEnvironment { hostname: "mx.test".into(), is_root: false, path_exists: |_| true };
    let text = format!("{text}\n[tables]\nt = {{}}\n");
    let config = Config::parse(Path::new("w.toml"), &text, &facts).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let entries: HashMap<String, String> = table.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let entries: Arc<dyn Table> = Arc::new(Entries(entries));
    (Policy::from_config(&config, Arc::new(dns), |_| Some(Arc::clone(&entries))), config)
}

const STRANGER: [u8; 4] = [192, 0, 2, 1];

/// What the client `from` hears at RCPT, and the rule in the trace.
pub(super) async fn heard(house: &House, from: [u8; 4], helo: &str, sender: &str, to: &str) -> (u16, String) {
    let mut host = house.session(from);
    assert_eq!(host.answer(ServerQuestion::Connect).await, ServerAnswer::Step(StepAnswer::Ok));
    assert_eq!(host.answer(ServerQuestion::Helo { name: helo.into(), esmtp: true }).await, ServerAnswer::Step(StepAnswer::Ok));
    let sender = if sender.is_empty() { ReversePath::Null } else { ReversePath::Address(address(sender)) };
    host.answer(ServerQuestion::Mail { sender, parameters: Vec::new(), size: None, options: MailOptions::default() }).await;
    let answer = rcpt(&mut host, to).await;
    host.answer(ServerQuestion::Reset).await;
    let rule = house.traces.0.lock().unwrap().drain(..).flat_map(|record| record.entries).map(|entry| entry.step).next_back();
    (code(&answer), rule.unwrap_or_default().into_owned())
}

#[tokio::test]
async fn each_test_refuses_what_it_is_for_and_is_named() {
    let names: &[(&str, &[u8])] = &[("1 helo.example", &[192, 0, 2, 9]), ("1 mx.example", &[192, 0, 2, 9])];
    for (list, rule, helo, sender, expected) in [
        ("client", "reject", "a.example", "x@far.example", 554),
        ("client", "reject_unknown_client_hostname", "a.example", "x@far.example", 450),
        ("client", "reject_unknown_reverse_client_hostname", "a.example", "x@far.example", 450),
        ("helo", "reject_invalid_helo_hostname", "a_b", "x@far.example", 501),
        ("helo", "reject_invalid_helo_hostname", "a.example", "x@far.example", 0),
        ("helo", "reject_non_fqdn_helo_hostname", "localhost", "x@far.example", 504),
        ("helo", "reject_unknown_helo_hostname", "gone.example", "x@far.example", 450),
        ("helo", "reject_unknown_helo_hostname", "helo.example", "x@far.example", 0),
        ("sender", "reject_non_fqdn_sender", "a.example", "x@far", 504),
        ("sender", "reject_unknown_sender_domain", "a.example", "x@gone.example", 450),
        ("sender", "reject_unknown_sender_domain", "a.example", "x@null.example", 550),
        ("sender", "reject_unknown_sender_domain", "a.example", "x@slow.example", 450),
        ("sender", "reject_unknown_sender_domain", "a.example", "x@far.example", 0),
        ("sender", "reject_unknown_sender_domain", "a.example", "", 0),
        ("sender", "reject_unlisted_sender", "a.example", "nobody@box.example", 550),
        ("sender", "reject_unlisted_sender", "a.example", "demo@box.example", 0),
        ("recipient", "defer", "a.example", "x@far.example", 450),
        ("relay", "reject", "a.example", "x@far.example", 554),
        ("recipient", "warn_if_reject reject", "a.example", "x@far.example", 0),
    ] {
        let text = format!("smtpd_{list}_restrictions = [{rule:?}]");
        let house = house_with(Vec::new(), policy(&text, &[], Dns::with(names))).await;
        let (code, step) = heard(&house, STRANGER, helo, sender, "demo@box.example").await;
        assert_eq!(code, expected, "{rule} {helo} {sender}");
        if expected > 0 {
            assert_eq!(step, format!("smtpd_{list}_restrictions: {rule}"));
        }
    }
}

#[tokio::test]
async fn a_permit_ends_its_own_list_and_opens_no_relay() {
    let text = "smtpd_client_restrictions = [\"permit_mynetworks\", \"reject\"]\nsmtpd_recipient_restrictions = [\"permit\"]";
    let house = house_with(Vec::new(), policy(text, &[], Dns::default())).await;
    assert_eq!(heard(&house, [10, 0, 0, 1], "a", "x@far.example", "demo@box.example").await.0, 0);
    assert_eq!(heard(&house, STRANGER, "a", "x@far.example", "demo@box.example").await.0, 554);
    let text = "smtpd_relay_restrictions = [\"permit\"]\nsmtpd_client_restrictions = [\"check_client_access t\"]";
    let house = house_with(Vec::new(), policy(text, &[("192.0.2", "OK")], Dns::default())).await;
    let (code, rule) = heard(&house, STRANGER, "a", "x@far.example", "y@far.example").await;
    assert_eq!((code, rule.as_str()), (554, "reject_unauth_destination"));
    let (code, rule) = heard(&house, STRANGER, "a", "x@far.example", "nobody@box.example").await;
    assert_eq!((code, rule.as_str()), (550, "reject_unlisted_recipient"));
}

#[tokio::test]
async fn tables_say_what_is_done() {
    for (value, expected, text) in [
        ("OK", 0, ""),
        ("DUNNO", 0, ""),
        ("REJECT", 554, "Access denied"),
        ("reject 5.7.8 not you", 554, "5.7.8"),
        ("REJECT not you", 554, "not you"),
        ("421 4.7.0 wait", 421, "4.7.0"),
        ("550 gone", 550, "gone"),
        ("DEFER later", 450, "later"),
        ("DEFER_IF_PERMIT grey", 450, "grey"),
        ("WARN look", 0, ""),
        ("200", 0, ""),
        ("FILTER smtp:x", 451, "configuration"),
        ("PREPEND nonsense", 451, "configuration"),
        ("nonsense", 451, "configuration"),
        ("permit_mynetworks, reject", 554, "Access denied"),
        ("check_sender_access t", 451, "configuration"),
    ] {
        let text_of = "smtpd_sender_restrictions = [\"check_sender_access t\"]";
        let house = house_with(Vec::new(), policy(text_of, &[("far.example", value)], Dns::default())).await;
        let mut host = house.session(STRANGER);
        mail(&mut host).await;
        let answer = rcpt(&mut host, "demo@box.example").await;
        assert_eq!(code(&answer), expected, "{value}: {answer:?}");
        if let ServerAnswer::Step(StepAnswer::Reply(reply)) = &answer {
            assert!(reply.to_string().contains(text), "{value}: {reply}");
        }
    }
    let text = "smtpd_sender_restrictions = [\"check_sender_access t\"]";
    let house = house_with(Vec::new(), policy(text, &[("<>", "REJECT")], Dns::default())).await;
    assert_eq!(heard(&house, STRANGER, "a", "", "demo@box.example").await.0, 554);
    assert_eq!(heard(&house, STRANGER, "a", "broken@far.example", "demo@box.example").await.0, 451);
}

#[tokio::test]
async fn tables_change_the_message_too() {
    let table = [
        ("demo@box.example", "PREPEND X-One: first"),
        ("ann@box.example", "HOLD look at it"),
        ("bob@box.example", "REDIRECT demo@box.example"),
    ];
    let text = "smtpd_recipient_restrictions = [\"check_recipient_access t\"]";
    let house = house_with(Vec::new(), policy(text, &table, Dns::default())).await;
    send(&house, &["demo@box.example"], "Subject: 1\r\n\r\n").await;
    send(&house, &["ann@box.example", "bob@box.example"], "Subject: 2\r\n\r\n").await;
    let mut queued = house.queued().await;
    queued.sort_by_key(|message| message.envelope.origin.received_at);
    let heads: Vec<String> = queued.iter().map(|m| String::from_utf8(m.header.to_vec()).unwrap()).collect();
    let first = heads.iter().find(|head| head.contains("Subject: 1")).unwrap();
    assert!(first.starts_with("X-One: first\r\nReceived: "), "{first}");
    let second = queued.iter().find(|m| !m.header.starts_with(b"X-One")).unwrap();
    assert_eq!(second.envelope.recipients.iter().map(|r| r.address.to_string()).collect::<Vec<_>>(), ["demo@box.example"]);
    let page = house.spool.list(None, 100).await.unwrap();
    assert!(page.entries.iter().any(|entry| format!("{entry:?}").contains("look at it")), "held");
    let text = "smtpd_data_restrictions = [\"check_sender_access t\"]";
    let house = house_with(Vec::new(), policy(text, &[("far.example", "DISCARD bin")], Dns::default())).await;
    let mut host = house.session(STRANGER);
    mail(&mut host).await;
    rcpt(&mut host, "demo@box.example").await;
    assert_eq!(host.answer(ServerQuestion::Data).await, ServerAnswer::Step(StepAnswer::Ok));
    assert!(matches!(data(&mut host, &["Subject: x\r\n\r\n"]).await, ServerAnswer::Message(MessageAnswer::Discarded(_))));
}

#[tokio::test]
async fn lists_in_the_dns_have_weights() {
    let dns = || {
        Dns::with(&[
            ("1 1.2.0.192.a.list", &[127, 0, 0, 2]),
            ("1 1.2.0.192.b.list", &[127, 0, 0, 9]),
            ("1 1.2.0.192.good.list", &[127, 0, 2, 1]),
            ("1 far.example.d.list", &[127, 0, 1, 2]),
        ])
    };
    for (text, expected) in [
        ("smtpd_client_restrictions = [\"reject_rbl_client a.list\"]", 554),
        ("smtpd_client_restrictions = [\"reject_rbl_client a.list=127.0.0.[3..9]\"]", 0),
        ("smtpd_client_restrictions = [\"permit_dnswl_client good.list\", \"reject_rbl_client a.list\"]", 0),
        ("smtpd_sender_restrictions = [\"reject_rhsbl_sender d.list\"]", 554),
        ("postscreen_dnsbl_sites = [\"a.list*2\", \"b.list\"]\npostscreen_dnsbl_threshold = 3", 550),
        ("postscreen_dnsbl_sites = [\"a.list*2\", \"b.list\"]\npostscreen_dnsbl_threshold = 4", 0),
        ("postscreen_dnsbl_sites = [\"a.list*2\", \"b.list\", \"good.list*-2\"]\npostscreen_dnsbl_threshold = 2", 0),
    ] {
        let house = house_with(Vec::new(), policy(text, &[], dns())).await;
        assert_eq!(heard(&house, STRANGER, "a", "x@far.example", "demo@box.example").await.0, expected, "{text}");
    }
}

#[tokio::test]
async fn a_name_counts_if_it_leads_back() {
    let ptr = b"\x02mx\x07example\0";
    for (address, name) in [([192, 0, 2, 1], Some("mx.example")), ([192, 0, 2, 2], None)] {
        let dns = Dns::with(&[("12 1.2.0.192.in-addr.arpa", ptr), ("1 mx.example", &address)]);
        let house = house_with(Vec::new(), policy("", &[], dns)).await;
        let mut host = house.session(STRANGER);
        host.answer(ServerQuestion::Connect).await;
        mail(&mut host).await;
        rcpt(&mut host, "demo@box.example").await;
        data(&mut host, &["Subject: x\r\n\r\n"]).await;
        assert_eq!(house.queued().await.remove(0).envelope.origin.client_name.as_deref(), name);
    }
    let house = house_with(Vec::new(), policy("", &[], Dns::default())).await;
    let mut host = house.session([127, 0, 0, 1]);
    host.answer(ServerQuestion::Connect).await;
    assert_eq!(code(&mail(&mut host).await), 0);
}

#[tokio::test]
async fn without_delay_each_list_is_asked_in_its_turn() {
    let text = "smtpd_delay_reject = false\nsmtpd_client_restrictions = [\"reject\"]";
    let house = house_with(Vec::new(), policy(text, &[], Dns::default())).await;
    assert_eq!(code(&house.session(STRANGER).answer(ServerQuestion::Connect).await), 554);
    let text = "smtpd_delay_reject = false\nsmtpd_helo_restrictions = [\"reject_non_fqdn_helo_hostname\"]";
    let house = house_with(Vec::new(), policy(text, &[], Dns::default())).await;
    let mut host = house.session(STRANGER);
    assert_eq!(code(&host.answer(ServerQuestion::Helo { name: "x".into(), esmtp: true }).await), 504);
    assert_eq!(house.traces.0.lock().unwrap()[0].entries[0].step, "smtpd_helo_restrictions: reject_non_fqdn_helo_hostname");
    let text = "smtpd_delay_reject = false\nsmtpd_sender_restrictions = [\"reject\"]";
    let house = house_with(Vec::new(), policy(text, &[], Dns::default())).await;
    assert_eq!(code(&mail(&mut house.session(STRANGER)).await), 554);
}

#[tokio::test]
async fn users_send_as_who_they_are() {
    let table = [("ann@box.example", "ann@box.example"), ("@ann.example", "bob, ANN@box.example")];
    let text = "smtpd_sender_login_maps = { x = \"y\" }";
    let house = house_with(Vec::new(), policy(text, &table, Dns::default())).await;
    for (sender, from, expected) in [
        ("ann@box.example", "Ann <ann@box.example>", (0, 250)),
        ("x@ann.example", "x@ann.example", (0, 250)),
        ("bob@box.example", "ann@box.example", (553, 0)),
        ("ann@box.example", "Bob <bob@box.example>", (0, 553)),
        ("ann@box.example", "ann@box.example, bob@box.example", (0, 553)),
        ("ann@box.example", "ann@box.example\r\nSender: bob@box.example", (0, 553)),
    ] {
        let peer = SocketAddr::from((Ipv4Addr::from(STRANGER), 4000));
        let mut host =
            house.intake.session_handler(SessionClient { peer, name: None, listener: "in".into() }, Source::Submission);
        session::log_in(&mut host).await;
        let question = ServerQuestion::Mail {
            sender: ReversePath::Address(address(sender)),
            parameters: Vec::new(),
            size: None,
            options: MailOptions::default(),
        };
        assert_eq!(code(&host.answer(question).await), expected.0, "{sender}");
        if expected.0 == 0 {
            rcpt(&mut host, "x@far.example").await;
            assert_eq!(code(&data(&mut host, &[&format!("From: {from}\r\n\r\n")]).await), expected.1, "{from}");
        }
    }
    let text = "smtpd_sender_login_maps = { x = \"y\" }\nsmtpd_sender_restrictions = [\"reject_sender_login_mismatch\"]";
    let house = house_with(Vec::new(), policy(text, &table, Dns::default())).await;
    let (code, _) = heard(&house, STRANGER, "a", "ann@box.example", "demo@box.example").await;
    assert_eq!(code, 553, "a stranger has no address of ours");
    assert_eq!(heard(&house, STRANGER, "a", "x@far.example", "demo@box.example").await.0, 0);
}
