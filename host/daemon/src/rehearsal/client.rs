//! The client of a rehearsal: says what a real one says, and notes what it hears.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use waxwing_tool::{Exchange, Scene};
use waxwing_types::Parameter;

use super::stuffed;

/// What was said and heard.
pub(super) struct Talk {
    pub(super) dialogue: Vec<Exchange>,
    /// The reply that decided.
    pub(super) last: Heard,
    /// The command that it answers.
    pub(super) stage: &'static str,
    /// The server closed the connection with it.
    pub(super) closed: bool,
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Heard {
    fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }
}

struct Wire {
    stream: BufReader<DuplexStream>,
    dialogue: Vec<Exchange>,
}

impl Wire {
    /// Sends, and waits for the reply; none: the server has closed. `said` is how the dialogue shows it.
    async fn say(&mut self, octets: &[u8], said: &str) -> io::Result<Option<Heard>> {
        // A server that has closed is found out by reading.
        let _ = self.stream.get_mut().write_all(octets).await;
        let mut heard = Heard::default();
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let text = line.trim_end();
            let (code, rest) = text.split_at_checked(3).unwrap_or((text, ""));
            heard.code = code.parse().unwrap_or_default();
            if heard.text.is_empty() {
                heard.text.push_str(code);
            }
            heard.text.push(' ');
            heard.text.push_str(rest.get(1..).unwrap_or_default());
            if !rest.starts_with('-') {
                break;
            }
        }
        self.dialogue.push(Exchange { command: said.to_owned(), reply: heard.text.clone() });
        Ok(Some(heard))
    }

    async fn command(&mut self, line: &str) -> io::Result<Option<Heard>> {
        self.say(format!("{line}\r\n").as_bytes(), line).await
    }
}

/// One session with one transaction.
pub(super) async fn talk(stream: DuplexStream, scene: &Scene) -> io::Result<Talk> {
    let mut wire = Wire { stream: BufReader::new(stream), dialogue: Vec::new() };
    let (last, stage) = transaction(&mut wire, scene).await?;
    let said = wire.dialogue.len();
    // Whether the server goes on listening tells a refusal from a disconnection. It also ends what has not ended yet.
    let closed = wire.command("RSET").await?.is_none();
    if !closed {
        wire.command("QUIT").await?;
    }
    wire.dialogue.truncate(said);
    Ok(Talk { dialogue: wire.dialogue, last, stage, closed })
}

async fn transaction(wire: &mut Wire, scene: &Scene) -> io::Result<(Heard, &'static str)> {
    let hello = if scene.esmtp { "EHLO" } else { "HELO" };
    let mail = format!("MAIL FROM:<{}>{}", scene.sender, parameters(&scene.mail_parameters));
    let steps = [("connect", String::new()), (hello, format!("{hello} {}", scene.helo)), ("MAIL", mail)];
    for (stage, line) in steps {
        let heard = match line.is_empty() {
            true => wire.say(b"", "").await?,
            false => wire.command(&line).await?,
        };
        match heard {
            Some(heard) if heard.is_positive() => {}
            heard => return Ok((heard.unwrap_or_default(), stage)),
        }
    }
    let (mut accepted, mut last) = (false, Heard::default());
    for (address, list) in &scene.recipients {
        let Some(heard) = wire.command(&format!("RCPT TO:<{address}>{}", parameters(list))).await? else {
            return Ok((last, "RCPT"));
        };
        accepted |= heard.is_positive();
        last = heard;
    }
    let Some(content) = scene.content.as_ref().filter(|_| accepted) else { return Ok((last, "RCPT")) };
    match wire.command("DATA").await? {
        Some(heard) if heard.code == 354 => {}
        heard => return Ok((heard.unwrap_or_default(), "DATA")),
    }
    let heard = wire.say(&stuffed(content), ".").await?;
    Ok((heard.unwrap_or_default(), "."))
}

fn parameters(list: &[Parameter]) -> String {
    let one = |(keyword, value): &Parameter| match value {
        Some(value) => format!(" {keyword}={value}"),
        None => format!(" {keyword}"),
    };
    list.iter().map(one).collect()
}
