//! The resolver against a name server of our own on loopback.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::MX;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use waxwing_config::{Config, DnsConfig};
use waxwing_net::{HickoryResolver, spawn};
use waxwing_pipeline::{DnsError, MxHost, Resolver as _};

/// Answers by the first label of the name asked for.
fn reply(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    let Some(question) = query.queries.first() else { return reply };
    reply.add_query(question.clone());
    let name = question.name().clone();
    let mx = |preference, host: &str| RData::MX(MX::new(preference, Name::from_str(host).unwrap()));
    let address = |text: &str| RData::from(text.parse::<IpAddr>().unwrap());
    let label = name.to_ascii().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let (code, data) = match (label.as_str(), question.query_type()) {
        ("two", RecordType::MX) => (ResponseCode::NoError, vec![mx(20, "B.example."), mx(10, "a.example.")]),
        ("null", RecordType::MX) => (ResponseCode::NoError, vec![mx(0, ".")]),
        ("both", RecordType::A) => (ResponseCode::NoError, vec![address("192.0.2.1"), address("192.0.2.2")]),
        ("both", RecordType::AAAA) => (ResponseCode::NoError, vec![address("2001:db8::1")]),
        ("half", RecordType::A) => (ResponseCode::NoError, vec![address("192.0.2.3")]),
        ("half" | "broken", RecordType::AAAA) | ("broken", _) => (ResponseCode::ServFail, Vec::new()),
        ("open", RecordType::AAAA) => (ResponseCode::ServFail, Vec::new()),
        ("none", _) => (ResponseCode::NXDomain, Vec::new()),
        (_, _) => (ResponseCode::NoError, Vec::new()),
    };
    reply.metadata.response_code = code;
    reply.add_answers(data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data)));
    reply
}

async fn resolver() -> HickoryResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = socket.local_addr().unwrap();
    spawn("test name server", async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_vec(&buffer[..length]).unwrap();
            socket.send_to(&reply(&query).to_vec().unwrap(), peer).await.unwrap();
        }
    });
    HickoryResolver::new(&DnsConfig { servers: vec![address], ..Config::with_defaults().dns }).unwrap()
}

#[tokio::test]
async fn mx_hosts_come_in_order_of_preference() {
    let hosts = resolver().await.mx("two.example").await.unwrap();
    let host = |preference, name: &str| MxHost { preference, name: name.to_owned() };
    assert_eq!(hosts, [host(10, "a.example"), host(20, "b.example")]);
}

#[tokio::test]
async fn no_mx_is_told_apart() {
    let resolver = resolver().await;
    assert_eq!(resolver.mx("null.example").await, Err(DnsError::NullMx));
    assert_eq!(resolver.mx("plain.example").await, Err(DnsError::NoData));
    assert_eq!(resolver.mx("none.example").await, Err(DnsError::NoSuchName));
    assert!(matches!(resolver.mx("broken.example").await, Err(DnsError::Temporary(_))));
    assert_eq!(resolver.mx("not..a.name").await, Err(DnsError::NoSuchName));
}

#[tokio::test]
async fn addresses_of_both_kinds() {
    let resolver = resolver().await;
    let ips = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert_eq!(resolver.addresses("both.example").await, Ok(ips(&["2001:db8::1", "192.0.2.1", "192.0.2.2"])));
    assert_eq!(resolver.addresses("half.example").await, Ok(ips(&["192.0.2.3"])));
    assert_eq!(resolver.addresses("192.0.2.9").await, Ok(ips(&["192.0.2.9"])));
}

#[tokio::test]
async fn no_address_is_told_apart() {
    let resolver = resolver().await;
    assert_eq!(resolver.addresses("plain.example").await, Err(DnsError::NoData));
    assert_eq!(resolver.addresses("none.example").await, Err(DnsError::NoSuchName));
    // No IPv4 address, and no word about IPv6: that is no answer yet.
    assert!(matches!(resolver.addresses("open.example").await, Err(DnsError::Temporary(_))));
}
