//! What servers offer and do not offer: parameters, conversions, reports, TLS.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use waxwing_pipeline::AddressProbe;
use waxwing_types::{DsnReturn, Notify};

use super::faults::{raw_server, to_port, until};
use super::*;

/// What clients said to a server; a message is one entry.
type CommandLog = Arc<Mutex<Vec<String>>>;

/// A server that offers these keywords and takes everything; `later` defers whoever it is in. Without an acceptor its handshakes fail.
async fn serve_scripted(stream: TcpStream, keywords: &'static [&'static str], heard: CommandLog, acceptor: Option<TlsAcceptor>) {
    let mut io = BufReader::new(stream);
    io.write_all(b"220 raw ESMTP\r\n").await.unwrap();
    if converse(&mut io, keywords, &heard).await
        && let Some(acceptor) = acceptor
        && let Ok(tls) = acceptor.accept(io.into_inner()).await
    {
        heard.lock().unwrap().push("TLS".to_owned());
        converse(&mut BufReader::new(tls), keywords, &heard).await;
    }
}

/// True if the client said STARTTLS.
async fn converse<IO>(io: &mut BufReader<IO>, keywords: &[&str], heard: &CommandLog) -> bool
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = Vec::new();
    loop {
        line.clear();
        if io.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
            return false;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mut reply = "250 2.0.0 ok\r\n".to_owned();
        match text.split([' ', ':']).next().unwrap() {
            "EHLO" => reply = keywords.iter().fold("250-raw\r\n".to_owned(), |all, k| all + "250-" + k + "\r\n") + "250 HELP\r\n",
            "STARTTLS" => reply = "220 go\r\n".to_owned(),
            "RCPT" if text.contains("later") => reply = "450 4.2.0 later\r\n".to_owned(),
            "BDAT" => {
                let mut chunk = vec![0; text.split(' ').nth(1).unwrap().parse().unwrap()];
                io.read_exact(&mut chunk).await.unwrap();
                heard.lock().unwrap().push(String::from_utf8_lossy(&chunk).into_owned());
            }
            "DATA" => {
                io.write_all(b"354 go\r\n").await.unwrap();
                io.flush().await.unwrap();
                let mut message = Vec::new();
                while !message.ends_with(b"\r\n.\r\n") {
                    io.read_until(b'\n', &mut message).await.unwrap();
                }
                heard.lock().unwrap().push(String::from_utf8_lossy(&message).into_owned());
            }
            _ => {}
        }
        heard.lock().unwrap().push(text.clone());
        io.write_all(reply.as_bytes()).await.unwrap();
        io.flush().await.unwrap();
        if text == "STARTTLS" || text == "QUIT" {
            return text == "STARTTLS";
        }
    }
}

async fn server(keywords: &'static [&'static str]) -> (SocketAddr, CommandLog) {
    server_with(keywords, None).await
}

async fn server_with(keywords: &'static [&'static str], acceptor: Option<TlsAcceptor>) -> (SocketAddr, CommandLog) {
    let heard = CommandLog::default();
    let kept = Arc::clone(&heard);
    let address = raw_server("127.0.0.1:0".parse().unwrap(), move |_, stream| {
        serve_scripted(stream, keywords, Arc::clone(&kept), acceptor.clone())
    })
    .await;
    (address, heard)
}

fn commands(heard: &CommandLog) -> Vec<String> {
    heard.lock().unwrap().clone()
}

impl DeliveryHarness {
    /// A message from `sender@mx.example`, whose reports come to the usual remote server.
    async fn send_with(&self, to: &[&str], body: &'static [u8], change: impl FnOnce(&mut NewMessage)) {
        let mut message = new_message(&self.spool, self.clock.now(), "sender@mx.example", to, "");
        message.body = NewBody::inline(Bytes::from_static(body)).unwrap();
        change(&mut message);
        self.spool.enqueue(message).await.unwrap();
    }

    /// What plugins and accounts heard of failures.
    fn failures(&self) -> Vec<String> {
        let events = self.recorder.events.lock().unwrap();
        events.iter().filter(|(name, _)| name == "failed").map(|(_, json)| json.clone()).collect()
    }
}

fn notify(message: &mut NewMessage, notify: Notify) {
    for recipient in &mut message.envelope.recipients {
        recipient.notify = notify;
        recipient.original = Some("rfc822;first@raw.example".into());
    }
    message.envelope.envid = Some("QQ+2B1".into());
    message.envelope.ret = Some(DsnReturn::Full);
}

const SUCCESS: Notify = Notify::On { success: true, failure: false, delay: false };

#[tokio::test]
async fn a_server_with_dsn_is_told_and_reports_itself() {
    let (address, heard) = server(&["DSN"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    house.send_with(&["x@raw.example"], b"x\r\n", |m| notify(m, SUCCESS)).await;
    house.settled(0).await;
    let said = commands(&heard);
    assert!(said.contains(&"MAIL FROM:<sender@mx.example> RET=FULL ENVID=QQ+2B1".to_owned()), "{said:?}");
    assert!(said.contains(&"RCPT TO:<x@raw.example> NOTIFY=SUCCESS ORCPT=rfc822;first@raw.example".to_owned()), "{said:?}");
    assert_eq!(house.received_messages(), []);
}

#[tokio::test]
async fn without_dsn_the_sender_who_asked_hears_that_the_message_was_relayed() {
    let (address, heard) = server(&["8BITMIME"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    house.send_with(&["x@raw.example"], b"secret\r\n", |m| notify(m, SUCCESS)).await;
    house.send_with(&["y@raw.example"], b"x\r\n", |_| {}).await;
    house.settled(0).await;
    assert!(commands(&heard).contains(&"RCPT TO:<x@raw.example>".to_owned()));
    let kept = house.received_messages();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let (to, report) = &kept[0];
    assert_eq!(to, &["sender@mx.example"]);
    for part in [
        "Subject: Successful Mail Delivery Report\r\n",
        "Action: relayed\r\nStatus: 2.0.0\r\n",
        "Original-Envelope-Id: QQ+1\r\n",
        "Original-Recipient: rfc822;first@raw.example\r\n",
        "Content-Type: text/rfc822-headers\r\n",
    ] {
        assert!(report.contains(part), "{part} is not in {report}");
    }
    assert!(!report.contains("secret"), "RET=FULL is for failures: {report}");
}

#[tokio::test]
async fn who_wants_no_report_gets_none() {
    let words: ReplyScript = |who| (who == "gone").then(|| Reply::fixed(550, (5, 1, 1), "no such user"));
    let house = harness(words, by_mx).await;
    house.send_with(&["gone@mx.example"], b"x\r\n", |m| notify(m, Notify::Never)).await;
    house.send_with(&["gone@mx.example"], b"x\r\n", |m| notify(m, SUCCESS)).await;
    until(|| house.failures().len() >= 2).await;
    house.settled(0).await;
    assert_eq!(house.received_messages(), []);
}

#[tokio::test]
async fn a_delay_is_told_once_to_who_asked() {
    let (address, _heard) = server(&[]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    let delay = Notify::On { success: false, failure: true, delay: true };
    house.send_with(&["later@raw.example"], b"x\r\n", |m| notify(m, delay)).await;
    house.send_with(&["later2@raw.example"], b"x\r\n", |_| {}).await;
    let told = || house.received_messages().into_iter().filter(|(to, _)| to == &["sender@mx.example"]).collect::<Vec<_>>();
    for round in 0..7 {
        house.settled(2).await;
        assert_eq!(told().len(), usize::from(round >= 4), "after {round} times 4001 seconds");
        let before: u32 = attempts(&house).await;
        house.clock.advance(Duration::from_secs(4_001));
        // Time was moved by hand: any event makes the manager look at the clock.
        house.send("", &["wake@mx.example"], "x\r\n").await;
        let tried = async {
            while attempts(&house).await < before + 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), tried).await.unwrap();
    }
    let report = told()[0].1.clone();
    assert!(report.contains("Action: delayed\r\nStatus: 4.2.0\r\n") && report.contains("Will-Retry-Until: "), "{report}");
}

async fn attempts(house: &DeliveryHarness) -> u32 {
    let page = house.spool.list(None, 1_000).await.unwrap();
    page.entries.iter().filter_map(|e| e.unit.as_ref()).map(|u| u.attempts).sum()
}

const BINARY: &[u8] = b"a\0b\nc\r\n";

fn binary(message: &mut NewMessage) {
    message.envelope.body_type = BodyType::BinaryMime;
    message.header =
        Bytes::from_static(b"MIME-Version: 1.0\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n");
}

#[tokio::test]
async fn binary_content_goes_in_chunks_or_is_encoded() {
    let (chunks, heard) = server(&["CHUNKING", "BINARYMIME", "SIZE 1000"]).await;
    let house_1 = harness(|_| None, |_| to_port(chunks.port())).await;
    house_1.send_with(&["x@raw.example"], BINARY, binary).await;
    house_1.settled(0).await;
    let octets = commands(&heard);
    assert!(octets.contains(&"a\0b\nc\r\n".to_owned()) && octets.contains(&"BDAT 7 LAST".to_owned()), "{octets:?}");
    let (lines, heard) = server(&["8BITMIME", "CHUNKING"]).await;
    let house_2 = harness(|_| None, |_| to_port(lines.port())).await;
    house_2.send_with(&["x@raw.example"], BINARY, binary).await;
    house_2.settled(0).await;
    let said = commands(&heard);
    let message = said.iter().find(|text| text.starts_with("MIME-Version")).unwrap();
    assert!(message.contains("Content-Transfer-Encoding: base64\r\n\r\nYQBiCmMNCg==\r\n"), "{said:?}");
    assert_eq!((house_1.received_messages(), house_2.received_messages()), (vec![], vec![]));
}

#[tokio::test]
async fn what_is_signed_is_returned_rather_than_converted() {
    let (address, heard) = server(&["SIZE"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    let signed = |message: &mut NewMessage| {
        message.envelope.body_type = BodyType::EightBitMime;
        message.header = Bytes::from_static(b"Content-Type: multipart/signed; boundary=b\r\n\r\n");
    };
    house.send_with(&["x@raw.example"], "--b\r\n\r\ngrün\r\n--b--\r\n".as_bytes(), signed).await;
    house.settled(0).await;
    assert!(!commands(&heard).iter().any(|line| line.starts_with("MAIL")));
    let report = house.received_messages()[0].1.clone();
    assert!(report.contains("Status: 5.6.3\r\n") && report.contains("8-bit content is signed"), "{report}");
}

#[tokio::test]
async fn only_those_whose_address_needs_it_are_held_up_without_smtputf8() {
    let (address, heard) = server(&["8BITMIME"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    house.send_with(&["grün@raw.example", "plain@raw.example"], b"x\r\n", |m| m.envelope.smtputf8 = true).await;
    house.settled(0).await;
    let said = commands(&heard);
    let rcpts: Vec<_> = said.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(rcpts, ["RCPT TO:<plain@raw.example>"]);
    assert!(said.contains(&"MAIL FROM:<sender@mx.example>".to_owned()), "what needs no SMTPUTF8 goes without: {said:?}");
    let report = house.received_messages()[0].1.clone();
    assert!(report.contains("Final-Recipient: utf-8; grün@raw.example\r\nAction: failed\r\nStatus: 5.6.7\r\n"), "{report}");
}

#[tokio::test]
async fn a_header_in_utf8_needs_a_server_that_takes_it() {
    let (without, heard) = server(&["8BITMIME"]).await;
    let header = |message: &mut NewMessage| {
        message.envelope.smtputf8 = true;
        message.header = Bytes::from_static("Subject: grün\r\n\r\n".as_bytes());
    };
    let house_1 = harness(|_| None, |_| to_port(without.port())).await;
    house_1.send_with(&["x@raw.example"], b"x\r\n", header).await;
    house_1.settled(0).await;
    assert!(!commands(&heard).iter().any(|line| line.starts_with("MAIL")));
    assert!(house_1.received_messages()[0].1.contains("Status: 5.6.9\r\n"));
    let (with, heard) = server(&["8BITMIME", "SMTPUTF8"]).await;
    let house_2 = harness(|_| None, |_| to_port(with.port())).await;
    house_2.send_with(&["x@raw.example"], b"x\r\n", header).await;
    house_2.settled(0).await;
    assert!(commands(&heard).contains(&"MAIL FROM:<sender@mx.example> BODY=8BITMIME SMTPUTF8".to_owned()));
}

#[tokio::test]
async fn requiretls_never_leaves_in_the_clear() {
    let (address, heard) = server(&["REQUIRETLS"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    house.send_with(&["x@raw.example"], b"x\r\n", |m| m.envelope.require_tls = true).await;
    // An MX that an unprotected answer of the DNS names is not even asked.
    house.send_with(&["x@mx.example"], b"x\r\n", |m| m.envelope.require_tls = true).await;
    until(|| house.failures().len() >= 4).await;
    house.settled(0).await;
    let failures = house.failures();
    assert!(failures.iter().all(|json| json.contains("\"5.7.30\"")), "{failures:?}");
    assert_eq!(failures.len(), 4, "both, and the reports on them, which are protected as well");
    assert!(!commands(&heard).iter().any(|line| line.starts_with("MAIL")));
    assert_eq!(house.received_messages(), []);
}

#[tokio::test]
async fn a_failed_handshake_is_followed_by_a_connection_in_the_clear_where_tls_is_no_must() {
    let (address, heard) = server(&["STARTTLS"]).await;
    let may = HarnessOptions { tls: TlsLevel::May, ..DEFAULT_OPTIONS };
    let house_1 = harness_with(may, |_| None, |_| to_port(address.port())).await;
    house_1.send_with(&["x@raw.example"], b"x\r\n", |_| {}).await;
    house_1.settled(0).await;
    let said_1 = commands(&heard);
    let verbs: Vec<_> = said_1.iter().map(|line| line.split([' ', ':']).next().unwrap()).take(5).collect();
    assert_eq!(verbs, ["EHLO", "STARTTLS", "EHLO", "MAIL", "RCPT"], "{said_1:?}");
    let must = HarnessOptions { tls: TlsLevel::Encrypt, ..DEFAULT_OPTIONS };
    let house_2 = harness_with(must, |_| None, |_| to_port(address.port())).await;
    heard.lock().unwrap().clear();
    house_2.send_with(&["x@raw.example"], b"x\r\n", |_| {}).await;
    house_2.settled(1).await;
    assert!(!commands(&heard).iter().any(|line| line.starts_with("MAIL")));
}

#[tokio::test]
async fn limits_cut_a_message_into_transactions() {
    let (address, heard) = server(&["LIMITS RCPTMAX=2"]).await;
    let house = harness(|_| None, |_| to_port(address.port())).await;
    let to = ["a@raw.example", "b@raw.example", "c@raw.example", "d@raw.example", "e@raw.example"];
    house.send_with(&to, b"x\r\n", |m| notify(m, SUCCESS)).await;
    house.settled(0).await;
    let said = commands(&heard);
    assert_eq!(said.iter().filter(|line| line.starts_with("MAIL")).count(), 3, "{said:?}");
    for address in to {
        assert_eq!(said.iter().filter(|line| **line == format!("RCPT TO:<{address}>")).count(), 1, "{said:?}");
    }
    assert_eq!(house.received_messages().len(), 1, "one report for all");
}

/// A server with a certificate for 127.0.0.1, and who believes it.
async fn tls_server() -> (SocketAddr, CommandLog, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let (address, heard) = server_with(&["STARTTLS", "REQUIRETLS"], Some(TlsAcceptor::from(Arc::new(config)))).await;
    (address, heard, TlsConnector::with_authorities([made.cert.der().clone()]).unwrap())
}

#[tokio::test]
async fn the_levels_of_tls_and_requiretls_over_a_real_handshake() {
    let (address, heard, trusting) = tls_server().await;
    let strange = TlsConnector::new().unwrap();
    for (level, connector, required, arrives, protected) in [
        (TlsLevel::None, &trusting, false, true, false),
        (TlsLevel::May, &trusting, false, true, true),
        (TlsLevel::Verify, &trusting, false, true, true),
        (TlsLevel::None, &trusting, true, true, true),
        (TlsLevel::May, &strange, false, true, true),
        (TlsLevel::Encrypt, &strange, false, true, true),
        (TlsLevel::Verify, &strange, false, false, true),
        (TlsLevel::May, &strange, true, false, true),
    ] {
        let case = format!("{level:?}, REQUIRETLS {required}");
        heard.lock().unwrap().clear();
        let wishes = HarnessOptions { tls: level, connector: Some(connector.clone()), ..DEFAULT_OPTIONS };
        let house = harness_with(wishes, |_| None, |_| to_port(address.port())).await;
        house.send_with(&["x@raw.example"], b"x\r\n", |m| m.envelope.require_tls = required).await;
        house.settled(usize::from(!arrives && !required)).await;
        let said = commands(&heard);
        let wanted = if required { "MAIL FROM:<sender@mx.example> REQUIRETLS" } else { "MAIL FROM:<sender@mx.example>" };
        assert_eq!(said.iter().any(|line| line == wanted), arrives, "{case}: {said:?}");
        assert_eq!(said.iter().filter(|line| line.starts_with("MAIL")).count(), usize::from(arrives), "{case}: {said:?}");
        assert_eq!(said.contains(&"TLS".to_owned()), protected, "{case}: {said:?}");
        house.stop.trigger();
    }
}

#[tokio::test]
async fn a_probe_hears_what_the_next_hop_says_and_sends_nothing() {
    let (address, heard) = server(&["PIPELINING"]).await;
    let (stop, shutdown) = Shutdown::new();
    let settings = smtp_settings(address.port(), TlsLevel::None, None);
    let transport = SmtpTransport::new(settings, Arc::new(FakeResolver::default()), Arc::new(ManualClock::default()), shutdown);
    let routes = waxwing_config::TransportsConfig {
        transport_maps: to_port(address.port()),
        relayhost: None,
        local_transport: Route::for_transport("local"),
        virtual_transport: Route::for_transport("virtual"),
        relay_transport: Route::for_transport("relay"),
        default_transport: Route::for_transport("discard"),
    };
    let transports = HashMap::from([("smtp".to_owned(), Arc::new(transport))]);
    let prober = Prober::new(Router::new(Arc::new(FixedClassifier::REMOTE), routes), transports, Duration::from_secs(10));
    let mut said_of = Vec::new();
    for name in ["good@raw.example", "later@raw.example", "here@other.example"] {
        said_of.push(prober.probe(&ReversePath::Null, &super::address(name)).await.status().enhanced.to_string());
    }
    assert_eq!(said_of, ["2.0.0", "4.2.0", "2.1.5"]);
    let said = commands(&heard);
    assert!(!said.iter().any(|line| line.starts_with("DATA")), "{said:?}");
    stop.trigger();
}
