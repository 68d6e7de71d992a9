//! Sink: an SMTP server that accepts everything and records the Message-ID of each message.
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::message;
use crate::options::Options;

const THREAD_STACK_BYTES: usize = 128 << 10;
const POLL: Duration = Duration::from_millis(5);

/// Messages received so far.
#[derive(Default)]
struct Received {
    /// Message-IDs in the order of arrival; `-` for a message without one.
    ids: Vec<String>,
    octets: u64,
    connections: usize,
    first: Option<Instant>,
    last: Option<Instant>,
}

type Shared = Arc<Mutex<Received>>;

/// Serves until the expected messages have arrived and no more follow, or until the timeout.
pub(crate) fn run(options: &Options) -> Result<String, String> {
    let port: u16 = options.required("port")?;
    let expect: usize = options.number("expect", usize::MAX)?;
    let timeout = Duration::from_secs(options.number("timeout", 120)?);
    let linger = Duration::from_millis(options.number("linger-ms", 1500)?);
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
    let shared = Shared::default();
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || accept(&listener, &accepting));
    println!("READY");
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    let started = now();
    let complete = wait_for(&shared, expect, started, timeout, linger);
    let received = lock(&shared);
    if let Some(path) = options.path("received") {
        write_ids(path, &received.ids).map_err(|error| format!("{path}: {error}"))?;
    }
    let span = received.first.zip(received.last).map_or(0.0, |(first, last)| (last - first).as_secs_f64());
    Ok(format!(
        "{{\"tool\":\"mailload sink\",\"messages\":{},\"octets\":{},\"connections\":{},\"seconds_first_to_last\":{span:.3},\"complete\":{complete}}}",
        received.ids.len(),
        received.octets,
        received.connections
    ))
}

/// Waits for `expect` messages, then until none arrives for `linger`; false after a timeout.
fn wait_for(shared: &Shared, expect: usize, started: Instant, timeout: Duration, linger: Duration) -> bool {
    while started.elapsed() < timeout {
        let received = lock(shared);
        if received.ids.len() >= expect && received.last.is_none_or(|last| last.elapsed() >= linger) {
            return true;
        }
        drop(received);
        std::thread::sleep(POLL);
    }
    lock(shared).ids.len() >= expect
}

fn write_ids(path: &str, ids: &[String]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for id in ids {
        writeln!(file, "{id}")?;
    }
    file.flush()
}

#[allow(clippy::disallowed_methods, reason = "a measuring tool measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Received> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shared: &Shared) {
    for stream in listener.incoming().flatten() {
        lock(shared).connections += 1;
        let shared = Arc::clone(shared);
        // A lost connection ends its thread; completed messages are counted already.
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK_BYTES);
        if let Err(error) = thread.spawn(move || serve(stream, &shared)) {
            eprintln!("sink: no thread for a connection: {error}");
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(64 << 10, stream);
    let mut replies: Vec<u8> = b"220 sink.example.test ESMTP\r\n".to_vec();
    let mut line = Vec::new();
    loop {
        if input.buffer().is_empty() && !replies.is_empty() {
            output.write_all(&replies)?;
            replies.clear();
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_slice() {
            b"EHLO" | b"LHLO" => {
                replies.extend_from_slice(b"250-sink.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n")
            }
            b"DATA" => {
                replies.extend_from_slice(b"354 go on\r\n");
                output.write_all(&replies)?;
                replies.clear();
                if !take_message(&mut input, &mut line, shared)? {
                    return Ok(());
                }
                replies.extend_from_slice(b"250 2.0.0 taken\r\n");
            }
            b"QUIT" => {
                replies.extend_from_slice(b"221 2.0.0 bye\r\n");
                return output.write_all(&replies);
            }
            _ => replies.extend_from_slice(b"250 2.0.0 ok\r\n"),
        }
    }
}

/// Reads a message to its final dot and counts it; `false` when the connection ended before.
fn take_message(input: &mut BufReader<TcpStream>, line: &mut Vec<u8>, shared: &Shared) -> std::io::Result<bool> {
    let (mut id, mut octets, mut in_header) = (None, 0_u64, true);
    loop {
        line.clear();
        if input.read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        if line == b".\r\n" {
            break;
        }
        octets += line.len() as u64;
        in_header = in_header && line != b"\r\n";
        if in_header && id.is_none() {
            id = message::id_in(line).map(|id| String::from_utf8_lossy(id).into_owned());
        }
    }
    let time = now();
    let mut received = lock(shared);
    received.ids.push(id.unwrap_or_else(|| "-".to_owned()));
    received.octets += octets;
    received.first.get_or_insert(time);
    received.last = Some(time);
    Ok(true)
}
