//! A connection that becomes encrypted: what both sides know then, and what ends it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::clock;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use waxwing_net::{
    CertificateStore, ClientCertPolicy, DriveResult, ServerVerification, SessionHandler, Shutdown, TlsConnector, TlsError,
    TlsMode, TlsServer, drive, load_authorities, readable_by_others, self_signed, spawn,
};
use waxwing_types::{Action, Input, Monotonic, Session, TlsSession};

/// Says `first` at its start, then speaks by its lines, tells what happens, and says `Hello` once it is secure. Ends when it has heard
/// `Hello`.
struct Side {
    first: &'static str,
    lines: Lines,
    told: mpsc::Sender<Told>,
}

/// What is heard, what is said to it, and whether the handshake follows.
type Lines = &'static [(&'static str, &'static str, bool)];

const SERVER: Lines = &[("STARTTLS\n", "go\n", true)];
const CLIENT: Lines = &[("220\n", "STARTTLS\n", false), ("go\n", "", true)];

#[derive(Debug, PartialEq)]
enum Told {
    Started,
    Secured(TlsSession),
    Heard(String),
    Eof,
    Failed(String),
}

impl Session for Side {
    type Question = ();
    type Answer = ();

    fn step(&mut self, _: Monotonic, input: Input<'_, ()>, actions: &mut Vec<Action<()>>) {
        let send = |text: &'static str| Action::Send(Bytes::from_static(text.as_bytes()));
        let told = match input {
            Input::Start => {
                actions.push(send(self.first));
                Told::Started
            }
            Input::Bytes(octets) => {
                let heard = String::from_utf8_lossy(octets).into_owned();
                for (_, answer, shakes) in self.lines.iter().filter(|(cue, ..)| heard == *cue) {
                    actions.push(send(answer));
                    actions.extend(shakes.then_some(Action::StartTls));
                }
                if heard == "Hello" {
                    actions.push(Action::Close);
                }
                Told::Heard(heard)
            }
            Input::Secured(session) => {
                actions.push(send("Hello"));
                Told::Secured(session.clone())
            }
            Input::Eof => {
                actions.push(Action::Close);
                Told::Eof
            }
            Input::Answer(()) | Input::Tick | Input::Shutdown => return,
        };
        self.told.try_send(told).unwrap();
    }
}

struct Quiet(mpsc::Sender<Told>);

impl SessionHandler<Side> for Quiet {
    async fn answer(&mut self, (): ()) {}
    async fn body(&mut self, _: Bytes) {}
    fn handshake_failed(&mut self, why: &TlsError) {
        self.0.try_send(Told::Failed(why.to_string())).unwrap();
    }
}

/// Runs one side to its end; what it was told.
async fn run(io: DuplexStream, tls: TlsMode, first: &'static str, lines: Lines) -> (Vec<Told>, DriveResult) {
    let (told, mut heard) = mpsc::channel(100);
    let (_trigger, shutdown) = Shutdown::new();
    let session = Side { first, lines, told: told.clone() };
    let ended = drive(io, tls, session, Quiet(told), clock(), shutdown).await;
    let mut all = Vec::new();
    while let Some(told) = heard.recv().await {
        all.push(told);
    }
    (all, ended)
}

fn write(dir: &Path, file: &str, names: &[&str]) -> PathBuf {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let path = dir.join(file);
    fs::write(&path, self_signed(&names).unwrap()).unwrap();
    path
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4711))
}

fn accept(server: &Arc<TlsServer>, first: bool) -> TlsMode {
    TlsMode::Accept { server: Arc::clone(server), implicit: first, client: client() }
}

fn server(files: &[PathBuf]) -> (Arc<CertificateStore>, Arc<TlsServer>) {
    let store = CertificateStore::open(files).unwrap();
    let server = TlsServer::new(Arc::clone(&store), ClientCertPolicy::None, false).unwrap();
    (store, Arc::new(server))
}

/// Both sides over a pipe, the client with `connect`.
async fn both(server: &Arc<TlsServer>, connect: TlsMode) -> (Vec<Told>, Vec<Told>) {
    let (ours, theirs) = duplex(1024);
    let serving = spawn("server", run(ours, accept(server, false), "220\n", SERVER));
    let (client, _) = run(theirs, connect, "", CLIENT).await;
    (serving.await.unwrap().0, client)
}

fn secured(told: &[Told]) -> &TlsSession {
    told.iter().find_map(|told| if let Told::Secured(session) = told { Some(session) } else { None }).unwrap()
}

#[tokio::test]
async fn both_sides_know_the_same_session() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "c.pem", &["mx.example"]);
    let (_, server) = server(std::slice::from_ref(&file));
    for (trusted, verified) in [(false, false), (true, true)] {
        let connector = match trusted {
            true => TlsConnector::with_authorities(load_authorities(&file).unwrap()).unwrap(),
            false => TlsConnector::new().unwrap(),
        };
        let (ours, theirs) =
            both(&server, TlsMode::Connect(connector.client_for("MX.example.", ServerVerification::Opportunistic).unwrap()))
                .await;
        let (ours, theirs) = (secured(&ours), secured(&theirs));
        assert_eq!((theirs.version.as_str(), ours.version.as_str()), ("TLSv1.3", "TLSv1.3"));
        assert!(ours.cipher.starts_with("TLS_AES_") && ours.cipher == theirs.cipher, "{}", ours.cipher);
        assert_eq!(ours.server_name.as_deref().map(str::to_ascii_lowercase).as_deref(), Some("mx.example"));
        assert_eq!((ours.exporter.len(), &ours.exporter), (32, &theirs.exporter));
        assert_eq!((ours.verified, ours.client_fingerprint.as_deref(), theirs.verified), (false, None, verified));
    }
}

#[tokio::test]
async fn a_required_certificate_must_be_vouched_for_and_be_for_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "c.pem", &["mx.example"]);
    let (_, server) = server(std::slice::from_ref(&file));
    let trusting = TlsConnector::with_authorities(load_authorities(&file).unwrap()).unwrap();
    let (_, theirs) =
        both(&server, TlsMode::Connect(trusting.client_for("mx.example", ServerVerification::Required).unwrap())).await;
    assert!(secured(&theirs).verified);
    for (connector, name) in [(&TlsConnector::new().unwrap(), "mx.example"), (&trusting, "other.example")] {
        let (ours, theirs) =
            both(&server, TlsMode::Connect(connector.client_for(name, ServerVerification::Required).unwrap())).await;
        assert!(matches!(theirs.as_slice(), [.., Told::Failed(why), Told::Eof] if why.contains("certificate")), "{theirs:?}");
        assert!(matches!(ours.as_slice(), [.., Told::Failed(_), Told::Eof]), "{ours:?}");
    }
}

#[tokio::test]
async fn an_implicit_handshake_comes_before_the_greeting() {
    let dir = tempfile::tempdir().unwrap();
    let (_, server) = server(&[write(dir.path(), "c.pem", &["mx.example"])]);
    let (ours, mut theirs) = duplex(1024);
    let serving = spawn("server", run(ours, accept(&server, true), "220\n", SERVER));
    theirs.write_all(b"EHLO plain\r\n").await.unwrap();
    let mut answer = Vec::new();
    theirs.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"2"), "a client without TLS was greeted");
    let (told, _) = serving.await.unwrap();
    assert!(matches!(told.as_slice(), [Told::Failed(_)]), "{told:?}");
}

#[tokio::test]
async fn plain_text_behind_starttls_and_a_silent_peer_end_the_session() {
    let dir = tempfile::tempdir().unwrap();
    let store = CertificateStore::open(&[write(dir.path(), "c.pem", &["mx.example"])]).unwrap();
    let server = TlsServer::new(store, ClientCertPolicy::None, false).unwrap().with_handshake_timeout(Duration::from_millis(100));
    let server = Arc::new(server);
    for (text, why) in [(b"NOOP\r\n".as_slice(), ""), (b"".as_slice(), "timeout")] {
        let (ours, mut theirs) = duplex(1024);
        let serving = spawn("server", run(ours, accept(&server, false), "220\n", SERVER));
        theirs.write_all(b"STARTTLS\n").await.unwrap();
        let mut answer = [0; 7];
        theirs.read_exact(&mut answer).await.unwrap();
        theirs.write_all(text).await.unwrap();
        let (told, _) = serving.await.unwrap();
        assert!(matches!(told.as_slice(), [.., Told::Failed(said), Told::Eof] if said.contains(why)), "{told:?}");
    }
}

#[tokio::test]
async fn names_pick_certificates_and_changed_files_are_swapped_in() {
    let dir = tempfile::tempdir().unwrap();
    let files = [write(dir.path(), "a.pem", &["a.example"]), write(dir.path(), "b.pem", &["b.example", "*.w.example"])];
    let (store, server) = server(&files);
    let shows = async |name: &str, file: &Path| {
        let connector = TlsConnector::with_authorities(load_authorities(file).unwrap()).unwrap();
        let (_, theirs) =
            both(&server, TlsMode::Connect(connector.client_for(name, ServerVerification::Required).unwrap())).await;
        theirs.iter().any(|told| matches!(told, Told::Secured(_)))
    };
    assert!(shows("a.example", &files[0]).await);
    assert!(shows("b.example", &files[1]).await);
    assert!(shows("x.w.example", &files[1]).await);
    assert!(!shows("x.y.w.example", &files[1]).await);
    assert!(!store.reload_if_changed().unwrap(), "nothing has changed");
    // Both a new file and a broken one are seen; the broken one changes nothing.
    write(dir.path(), "a.pem", &["new.example"]);
    assert!(store.reload_if_changed().unwrap());
    assert!(shows("new.example", &files[0]).await);
    let good = fs::read(&files[0]).unwrap();
    for broken in [
        "",
        "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
        &self_signed(&["z".to_owned()]).unwrap()[..300],
    ] {
        fs::write(&files[1], broken).unwrap();
        let why = store.reload_if_changed().unwrap_err().to_string();
        assert!(why.contains("b.pem"), "{why}");
        assert_eq!(fs::read(&files[0]).unwrap(), good);
        assert!(shows("new.example", &files[0]).await, "the old certificates are lost");
    }
}

#[test]
fn keys_and_chains_may_stand_in_any_order_and_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (self_signed(&["a.example".to_owned()]).unwrap(), self_signed(&["b.example".to_owned()]).unwrap());
    let cut = |pem: &str| {
        let end = pem.find("-----BEGIN CERTIFICATE").unwrap();
        (pem[..end].to_owned(), pem[end..].to_owned())
    };
    let ((key_a, cert_a), (key_b, cert_b)) = (cut(&a), cut(&b));
    let files: Vec<PathBuf> = ["1", "2", "3"].iter().map(|name| dir.path().join(name)).collect();
    fs::write(&files[0], key_b + &key_a).unwrap();
    fs::write(&files[1], cert_a).unwrap();
    fs::write(&files[2], cert_b).unwrap();
    let store = CertificateStore::open(&files).unwrap();
    let names: Vec<_> = store.current().descriptions().flat_map(|info| info.names.clone()).collect();
    assert_eq!(names, ["a.example", "b.example"]);
    let why = CertificateStore::open(&files[..2]).unwrap_err().to_string();
    assert!(why.contains("the private key has no certificate"), "{why}");
    let why = CertificateStore::open(&files[1..]).unwrap_err().to_string();
    assert!(why.contains("no private key"), "{why}");
}

#[test]
fn a_key_that_others_can_read_is_noticed() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let files = [write(dir.path(), "key.pem", &["a.example"])];
    for (mode, noticed) in [(0o600, 0), (0o640, 1), (0o604, 1), (0o700, 0)] {
        fs::set_permissions(&files[0], fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(readable_by_others(&files).len(), noticed, "{mode:o}");
    }
}
