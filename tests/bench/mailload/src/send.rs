//! The load client: threads that each hold one connection and send messages from a common counter.
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::{message, percentile};

/// Timeout of one reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);
const THREAD_STACK_BYTES: usize = 256 << 10;

struct Load {
    port: u16,
    messages: usize,
    bytes: usize,
    per_connection: usize,
    pipeline: bool,
    pause: Duration,
    sender: String,
    recipient: String,
    run: String,
    next: AtomicUsize,
}

/// Result of one thread.
#[derive(Default)]
struct Account {
    acknowledged: Vec<String>,
    milliseconds: Vec<f64>,
    error: Option<String>,
}

/// Sends the messages and prints the result.
pub(crate) fn run(options: &Options) -> Result<String, String> {
    let sessions: usize = options.number("sessions", 1)?;
    let load = Arc::new(Load {
        port: options.required("port")?,
        messages: options.number("messages", 100)?,
        bytes: options.number("bytes", 4096)?,
        per_connection: options.number("per-connection", 0)?,
        pipeline: options.number("pipeline", 0_u8)? == 1,
        pause: Duration::from_millis(options.number("pause-ms", 0)?),
        sender: options.text("sender", "load@example.test"),
        recipient: options.text("recipient", "u0@sink.test"),
        run: options.text("run", &format!("run{}", std::process::id())),
        next: AtomicUsize::new(0),
    });
    let started = now();
    let threads: Vec<_> = (0..sessions)
        .map(|_| {
            let load = Arc::clone(&load);
            std::thread::Builder::new()
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || load.session())
                .map_err(|error| error.to_string())
        })
        .collect::<Result<_, _>>()?;
    let accounts: Vec<Account> =
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a session panicked".to_owned())).collect::<Result<_, _>>()?;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(path) = options.path("acknowledged") {
        write_ids(path, accounts.iter().flat_map(|account| &account.acknowledged)).map_err(|error| format!("{path}: {error}"))?;
    }
    let acknowledged: usize = accounts.iter().map(|account| account.acknowledged.len()).sum();
    let mut milliseconds: Vec<f64> = accounts.iter().flat_map(|account| account.milliseconds.iter().copied()).collect();
    let errors: Vec<&String> = accounts.iter().filter_map(|account| account.error.as_ref()).collect();
    Ok(format!(
        "{{\"tool\":\"mailload send\",\"sessions\":{sessions},\"acknowledged\":{acknowledged},\"seconds\":{seconds:.3},\"msgs_s\":{:.1},{},\"errors\":{},\"first_error\":{:?}}}",
        acknowledged as f64 / seconds,
        percentile::json(&mut milliseconds),
        errors.len(),
        errors.first().map_or("", |error| error.as_str())
    ))
}

fn write_ids<'a>(path: &str, ids: impl Iterator<Item = &'a String>) -> std::io::Result<()> {
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

impl Load {
    /// Runs one session; acknowledged messages count even if the session ends in an error.
    fn session(&self) -> Account {
        let mut account = Account::default();
        account.error = self.send_all(&mut account).err();
        account
    }

    fn send_all(&self, account: &mut Account) -> Result<(), String> {
        let mut open: Option<(Connection, usize)> = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.messages {
                break;
            }
            let (mut connection, sent) = match open.take() {
                Some(open) => open,
                None => (Connection::open(self.port)?, 0),
            };
            let id = message::id(&self.run, number);
            let text = message::text(&id, &self.recipient, self.bytes);
            let started = now();
            self.send_one(&mut connection, text).map_err(|error| format!("{id}: {error}"))?;
            account.milliseconds.push(started.elapsed().as_secs_f64() * 1e3);
            account.acknowledged.push(id);
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
            if self.per_connection > 0 && sent + 1 >= self.per_connection {
                connection.quit();
            } else {
                open = Some((connection, sent + 1));
            }
        }
        if let Some((mut connection, _)) = open {
            connection.quit();
        }
        Ok(())
    }

    fn send_one(&self, connection: &mut Connection, mut text: Vec<u8>) -> Result<(), String> {
        let mail = format!("MAIL FROM:<{}>\r\n", self.sender);
        let rcpt = format!("RCPT TO:<{}>\r\n", self.recipient);
        if self.pipeline {
            connection.write(format!("{mail}{rcpt}DATA\r\n").as_bytes())?;
            for expected in [b'2', b'2', b'3'] {
                connection.reply(expected)?;
            }
        } else {
            connection.command(mail.as_bytes(), b'2')?;
            connection.command(rcpt.as_bytes(), b'2')?;
            connection.command(b"DATA\r\n", b'3')?;
        }
        text.extend_from_slice(b".\r\n");
        connection.command(&text, b'2')
    }
}

struct Connection {
    input: BufReader<TcpStream>,
    output: TcpStream,
    line: Vec<u8>,
}

impl Connection {
    /// Connects, reads the greeting and says EHLO.
    fn open(port: u16) -> Result<Self, String> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| format!("connect to port {port}: {error}"))?;
        let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(REPLY_TIMEOUT)));
        prepared.map_err(|error| error.to_string())?;
        let output = stream.try_clone().map_err(|error| error.to_string())?;
        let mut connection = Self { input: BufReader::with_capacity(64 << 10, stream), output, line: Vec::new() };
        connection.reply(b'2')?;
        connection.command(b"EHLO load.example.test\r\n", b'2')?;
        Ok(connection)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.output.write_all(bytes).map_err(|error| error.to_string())
    }

    fn command(&mut self, bytes: &[u8], expected: u8) -> Result<(), String> {
        self.write(bytes)?;
        self.reply(expected)
    }

    /// Reads one reply, which must begin with the digit `expected`.
    fn reply(&mut self, expected: u8) -> Result<(), String> {
        loop {
            self.line.clear();
            let read = self.input.read_until(b'\n', &mut self.line).map_err(|error| error.to_string())?;
            if read == 0 {
                return Err("the server closed the connection".to_owned());
            }
            if self.line.get(3) != Some(&b'-') {
                let shown = || String::from_utf8_lossy(&self.line).trim_end().to_owned();
                return if self.line.first() == Some(&expected) { Ok(()) } else { Err(shown()) };
            }
        }
    }

    /// Sends QUIT; the reply is ignored.
    fn quit(&mut self) {
        let _ = self.command(b"QUIT\r\n", b'2');
    }
}
