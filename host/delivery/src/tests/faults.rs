//! What goes wrong between the manager, the spool and servers that misbehave: nothing is lost, doubled or left alone.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::*;

/// Waits for something that the test knows will come.
pub(super) async fn until(mut what: impl FnMut() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap();
}

/// Accepts on a port of its own, or the one given, and hands each connection over with its number.
pub(super) async fn raw_server<F>(address: SocketAddr, serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(spawn("raw server", async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            drop(spawn("raw session", serve(number, stream)));
        }
    }));
    address
}

pub(super) fn to_port(port: u16) -> BTreeMap<String, Route> {
    BTreeMap::from([("raw.example".to_owned(), Route { transport: "smtp".into(), nexthop: format!("[127.0.0.1]:{port}") })])
}

/// Takes messages without PIPELINING; closes at the `last`-th MAIL, a while after it came.
async fn takes_messages(stream: TcpStream, last: usize, taken: Arc<AtomicUsize>) {
    let (input, mut output) = stream.into_split();
    let mut lines = BufReader::new(input).lines();
    output.write_all(b"220 raw\r\n").await.unwrap();
    let (mut mails, mut in_data) = (0, false);
    while let Ok(Some(line)) = lines.next_line().await {
        let reply: &[u8] = match line.as_str() {
            "." if in_data => {
                in_data = false;
                taken.fetch_add(1, Ordering::Relaxed);
                b"250 taken\r\n"
            }
            _ if in_data => continue,
            "DATA" => {
                in_data = true;
                b"354 go\r\n"
            }
            line if line.starts_with("MAIL") => {
                mails += 1;
                if mails == last {
                    // By then the line is empty, and whoever watched it has gone.
                    tokio::time::sleep(Duration::from_millis(150)).await;
                    return;
                }
                b"250 ok\r\n"
            }
            _ => b"250 ok\r\n",
        };
        output.write_all(reply).await.unwrap();
    }
}

#[tokio::test]
async fn a_job_that_comes_back_from_a_closed_connection_is_not_left_alone() {
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let server = raw_server("127.0.0.1:0".parse().unwrap(), move |number, stream| {
        takes_messages(stream, if number == 0 { 2 } else { usize::MAX }, Arc::clone(&count))
    })
    .await;
    let house = harness(|_| None, |_| to_port(server.port())).await;
    house.send("a@us.test", &["x@raw.example"], "1\r\n").await;
    house.settled(0).await;
    house.send("a@us.test", &["x@raw.example"], "2\r\n").await;
    house.settled(0).await;
    assert_eq!(taken.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_host_that_hangs_up_before_its_greeting_leads_to_the_next() {
    let house = harness(|_| None, by_mx).await;
    raw_server(SocketAddr::from(([127, 0, 0, 2], house.remote.port())), |_, stream| async move { drop(stream) }).await;
    house.send("a@us.test", &["x@two.example"], "x\r\n").await;
    house.settled(0).await;
    assert_eq!(house.received_messages().len(), 1);
}

#[tokio::test]
async fn a_next_hop_of_the_configuration_that_is_nowhere_defers() {
    let house = harness(
        |_| None,
        |_| BTreeMap::from([("*".to_owned(), Route { transport: "smtp".into(), nexthop: "[nowhere.test]".into() })]),
    )
    .await;
    house.send("", &["x@far.example"], "x\r\n").await;
    house.settled(1).await;
}

#[tokio::test]
async fn what_waits_at_the_shutdown_stays_as_it_was() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let server = raw_server("127.0.0.1:0".parse().unwrap(), move |_, stream| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            // Never greets.
            std::future::pending::<()>().await;
            drop(stream);
        }
    })
    .await;
    let house = harness(|_| None, |_| to_port(server.port())).await;
    for _ in 0..30 {
        house.send("a@us.test", &["x@raw.example"], "x\r\n").await;
    }
    until(|| house.active.count() == 30 && connections.load(Ordering::Relaxed) > 0).await;
    house.stop.trigger();
    house.manager.await.unwrap();
    let page = house.spool.list(None, 100).await.unwrap();
    assert_eq!(page.entries.len(), 30);
    assert!(page.entries.iter().all(|entry| entry.unit.as_ref().unwrap().attempts == 0), "a restart is no attempt");
}

#[tokio::test]
async fn a_unit_whose_hint_was_dropped_is_found_though_it_is_older_than_what_was_scanned() {
    let house = harness_with(HarnessOptions { new_units_max: 0, ..DEFAULT_OPTIONS }, |_| None, by_mx).await;
    let early = house.clock.now();
    house.clock.advance(Duration::from_secs(10));
    house.send("a@us.test", &["x@mx.example"], "1\r\n").await;
    // Scans for dropped hints keep a pause.
    house.clock.advance(Duration::from_secs(1));
    house.settled(0).await;
    // Its transaction began before that of the first, and ended later.
    enqueue(&house.spool, early, "a@us.test", &["x@mx.example"], "2\r\n").await;
    house.clock.advance(Duration::from_secs(1));
    house.settled(0).await;
    assert_eq!(house.received_messages().len(), 2);
}

#[tokio::test]
async fn a_hint_that_is_older_than_the_scan_delivers_nothing_twice() {
    let house = harness_with(HarnessOptions { active_limit: 1, waiting: 3, ..DEFAULT_OPTIONS }, |_| None, by_mx).await;
    house.settled(0).await;
    house.send("a@us.test", &["x@mx.example"], "last\r\n").await;
    until(|| house.received_messages().iter().any(|(_, message)| message.ends_with("last\r\n"))).await;
    let mut kept: Vec<String> = house.received_messages().into_iter().map(|(_, message)| message).collect();
    kept.sort();
    assert_eq!(kept.len(), 4, "{kept:?}");
}

#[tokio::test]
async fn nobody_is_given_up_before_the_sender_can_be_told() {
    let words: ReplyScript = |who| (who == "gone").then(|| Reply::fixed(550, (5, 1, 1), "no such user"));
    let house = harness_with(HarnessOptions { reports_unavailable: 1, ..DEFAULT_OPTIONS }, words, by_mx).await;
    house.send("sender@mx.example", &["gone@mx.example"], "x\r\n").await;
    house.settled(1).await;
    assert_eq!(house.received_messages().len(), 0);
    house.clock.advance(Duration::from_secs(301));
    house.send("", &["wake@mx.example"], "x\r\n").await;
    house.settled(0).await;
    assert!(
        house.received_messages().iter().any(|(to, message)| to == &["sender@mx.example"] && message.contains("Status: 5.1.1"))
    );
}
