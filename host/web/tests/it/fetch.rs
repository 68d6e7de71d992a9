//! Requests against a server of this machine, and attempts to reach what is not granted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use waxwing_pipeline::{HttpClient, HttpError, HttpRequest, HttpResponse, Resolver};
use waxwing_testkit::FakeResolver;
use waxwing_web::WebClient;

/// Answers every connection with these octets, and keeps what it was asked.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(response: impl Into<Vec<u8>>) -> Self {
        let response: Arc<Vec<u8>> = Arc::new(response.into());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (response, seen) = (Arc::clone(&response), Arc::clone(&seen));
                tokio::runtime::Handle::current().spawn(async move {
                    let mut octets = vec![0; 64 << 10];
                    let read = stream.read(&mut octets).await.unwrap_or_default();
                    seen.lock().unwrap().push(String::from_utf8_lossy(&octets[..read]).into_owned());
                    if response.is_empty() {
                        // Silence, until the client goes.
                        let _ = stream.read(&mut octets).await;
                    }
                    let _ = stream.write_all(&response).await;
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Odd: \u{fc}\r\nConnection: close\r\n\r\nhello";

/// Client whose resolver gives one list of addresses after the other, the last for ever.
fn client(answers: &[&[&str]]) -> (WebClient, Arc<FakeResolver>) {
    let lists = answers.iter().map(|list| list.iter().map(|a| a.parse().unwrap()).collect());
    let names = Arc::new(lists.fold(FakeResolver::default(), |resolver, list| resolver.with_default_addresses(Ok(list))));
    (WebClient::new(&(Arc::clone(&names) as Arc<dyn Resolver>)).unwrap(), names)
}

fn request(method: &str, url: impl Into<String>) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(5),
        response_bytes_max: 1000,
    }
}

async fn get(web: &WebClient, grant: &str, url: impl Into<String>) -> Result<HttpResponse, HttpError> {
    web.fetch(&[grant.to_owned()], request("GET", url)).await
}

#[tokio::test]
async fn a_granted_address_answers() {
    let server = Server::start(OK).await;
    let (web, names) = client(&[]);
    let base = format!("http://{}/v1/", server.address);
    let mut post = request("POST", format!("{base}x?q=1"));
    post.headers = vec![("X-Mine".into(), "yes".into()), ("Content-Type".into(), "text/plain".into())];
    post.body = Bytes::from_static(b"the body");
    let response = web.fetch(&["https://other.example/".into(), format!("POST {base}")], post).await.unwrap();
    assert_eq!((response.status, &response.body[..]), (200, &b"hello"[..]));
    assert!(response.headers.contains(&("content-length".into(), "5".into())));
    let asked = &server.asked()[0];
    assert!(asked.starts_with("POST /v1/x?q=1 HTTP/1.1\r\n") && asked.ends_with("\r\n\r\nthe body"), "{asked}");
    assert!(asked.contains("x-mine: yes\r\n") && asked.contains("content-length: 8\r\n"), "{asked}");
    assert!(!asked.to_lowercase().contains("cookie") && !asked.to_lowercase().contains("referer"), "{asked}");
    assert_eq!(names.queries(), 0, "an address is not looked up");
}

#[tokio::test]
async fn what_is_not_granted_is_not_asked() {
    let server = Server::start(OK).await;
    let (web, names) = client(&[&["127.0.0.1"]]);
    let port = server.address.port();
    let grant = format!("GET http://api.example:{port}/v1");
    for url in [
        format!("http://127.0.0.1:{port}/v1"),
        format!("http://2130706433:{port}/v1"),
        format!("http://0x7f.0.0.1:{port}/v1"),
        format!("http://[::ffff:127.0.0.1]:{port}/v1"),
        format!("http://localhost:{port}/v1"),
        format!("http://api.example:{port}@127.0.0.1:{port}/v1"),
        format!("http://127.0.0.1:{port}@api.example:{port}/v1"),
        format!("http://api.example:{port}/v1evil"),
        format!("http://api.example:{port}/v1/../admin"),
        format!("http://api.example:{port}/v1/%2e%2e/admin"),
        format!("http://api.example:{port}/v1/..%2fadmin"),
        format!("http://api.example:{}/v1", port.wrapping_add(1)),
        format!("https://api.example:{port}/v1"),
        "file:///etc/passwd".to_owned(),
    ] {
        let error = get(&web, &grant, &url).await.unwrap_err();
        assert!(matches!(error, HttpError::NotGranted(_)), "{url}: {error}");
    }
    let error = web.fetch(&[grant], request("POST", format!("http://api.example:{port}/v1"))).await.unwrap_err();
    assert!(matches!(error, HttpError::NotGranted(_)), "{error}");
    assert!(server.asked().is_empty() && names.queries() == 0);
}

#[tokio::test]
async fn a_name_leads_to_no_private_address_unless_the_grant_says_so() {
    let server = Server::start(OK).await;
    let url = format!("http://api.example:{}/", server.address.port());
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.1", "fd00::1", "169.254.169.254", "0.0.0.0", "::"] {
        let (web, _) = client(&[&[address]]);
        let error = get(&web, &url, &url).await.unwrap_err();
        assert!(matches!(&error, HttpError::NotGranted(why) if why.contains("api.example")), "{address}: {error}");
    }
    assert!(server.asked().is_empty());
    let (web, names) = client(&[&["127.0.0.1"]]);
    assert_eq!(get(&web, &format!("private {url}"), &url).await.unwrap().status, 200);
    assert_eq!(names.queries(), 1, "what was checked is what is connected to");
    // What clouds keep their secrets behind is reached by no name.
    let (web, _) = client(&[&["169.254.169.254"], &["fe80::1"]]);
    for _ in 0..2 {
        assert!(matches!(get(&web, &format!("private {url}"), &url).await, Err(HttpError::NotGranted(_))));
    }
}

/// The name says one thing when it is checked and another later: each connection is made to the addresses of its own check.
#[tokio::test]
async fn a_name_that_changes_gains_nothing() {
    let server = Server::start(OK).await;
    let url = format!("http://api.example:{}/", server.address.port());
    let (web, names) = client(&[&["127.0.0.1", "169.254.169.254"], &["169.254.169.254"]]);
    let grant = format!("private {url}");
    assert!(get(&web, &grant, &url).await.is_ok());
    assert!(matches!(get(&web, &grant, &url).await, Err(HttpError::NotGranted(_))));
    assert_eq!((names.queries(), server.asked().len()), (2, 1));
}

/// A connection that a private grant has left open is none for a grant that is not.
#[tokio::test]
async fn an_idle_connection_is_not_shared_with_those_who_may_not_have_it() {
    let server = Server::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://api.example:{}/", server.address.port());
    let (web, _) = client(&[&["127.0.0.1"]]);
    assert!(get(&web, &format!("private {url}"), &url).await.is_ok());
    assert!(matches!(get(&web, &url, &url).await, Err(HttpError::NotGranted(_))));
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let target = Server::start(OK).await;
    let location =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", target.address);
    let server = Server::start(location).await;
    let (web, _) = client(&[]);
    let url = format!("http://{}/", server.address);
    let response = get(&web, &url, &url).await.unwrap();
    assert_eq!(response.status, 302);
    assert!(response.headers.iter().any(|(name, value)| name == "location" && value.contains("127.0.0.1")));
    assert!(target.asked().is_empty());
}

#[tokio::test]
async fn a_response_has_its_limits() {
    let announced = format!("HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n{}", "x".repeat(1001));
    let pieces = format!("64\r\n{}\r\n", "y".repeat(100)).repeat(20);
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n");
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "z".repeat(5000));
    let header = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n", "h".repeat(70 << 10));
    for response in [announced, chunked, endless, header] {
        let server = Server::start(response).await;
        let (web, _) = client(&[]);
        let url = format!("http://{}/", server.address);
        assert_eq!(get(&web, &url, &url).await, Err(HttpError::TooLarge));
    }
}

#[tokio::test]
async fn silence_ends_at_the_time_that_was_given() {
    let server = Server::start("").await;
    let (web, _) = client(&[]);
    let url = format!("http://{}/", server.address);
    let mut asked = request("GET", &url);
    asked.timeout = Duration::from_millis(50);
    assert_eq!(web.fetch(std::slice::from_ref(&url), asked).await, Err(HttpError::Timeout));
    assert_eq!(server.asked().len(), 1);
    // Not a server at all.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert!(matches!(get(&web, &closed, &closed).await, Err(HttpError::Failed(why)) if why.contains("no connection")));
    let (web, _) = client(&[]);
    let named = "http://api.example/";
    assert!(matches!(get(&web, named, named).await, Err(HttpError::Failed(_))), "a name that is none");
}

#[tokio::test]
async fn a_header_field_cannot_make_a_second_request() {
    let server = Server::start(OK).await;
    let (web, _) = client(&[]);
    let url = format!("http://{}/", server.address);
    for (name, value) in [
        ("X", "a\r\nHost: evil"),
        ("X\r\nY", "a"),
        ("X: a", "b"),
        ("", "a"),
        ("Host", "evil.example"),
        ("transfer-encoding", "chunked"),
        ("Content-Length", "0"),
        ("Connection", "upgrade"),
    ] {
        let mut asked = request("GET", &url);
        asked.headers = vec![(name.into(), value.into())];
        let error = web.fetch(std::slice::from_ref(&url), asked).await.unwrap_err();
        assert!(matches!(error, HttpError::Failed(_)), "{name}: {error}");
    }
    assert!(server.asked().is_empty());
}
