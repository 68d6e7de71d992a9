//! SMTP client of the simulation: sends the commands of a test case and records the replies.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use waxwing_tool::{CommandReply, TestCase};
use waxwing_types::Parameter;

use super::dot_stuffed;

/// Dialogue of a transaction and its outcome.
pub(super) struct SmtpDialogue {
    pub(super) exchanges: Vec<CommandReply>,
    /// Decisive reply of the transaction.
    pub(super) decisive_reply: ClientReply,
    /// Command answered by the decisive reply.
    pub(super) stage: &'static str,
    /// The server closed the connection after the decisive reply.
    pub(super) closed: bool,
}

/// An SMTP reply, continuation lines joined.
#[derive(Clone, Debug, Default)]
pub(super) struct ClientReply {
    pub(super) code: u16,
    pub(super) text: String,
}

impl ClientReply {
    fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }
}

struct ClientConnection {
    stream: BufReader<DuplexStream>,
    dialogue: Vec<CommandReply>,
}

impl ClientConnection {
    /// Sends bytes and waits for the reply; `None` if the server has closed the connection. `label` is the command text in the dialogue.
    async fn send(&mut self, octets: &[u8], label: &str) -> io::Result<Option<ClientReply>> {
        // A closed connection shows in the read that follows.
        let _ = self.stream.get_mut().write_all(octets).await;
        let mut reply = ClientReply::default();
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Ok(None);
            }
            let text = line.trim_end();
            let (code, rest) = text.split_at_checked(3).unwrap_or((text, ""));
            reply.code = code.parse().unwrap_or_default();
            if reply.text.is_empty() {
                reply.text.push_str(code);
            }
            reply.text.push(' ');
            reply.text.push_str(rest.get(1..).unwrap_or_default());
            if !rest.starts_with('-') {
                break;
            }
        }
        self.dialogue.push(CommandReply { command: label.to_owned(), reply: reply.text.clone() });
        Ok(Some(reply))
    }

    async fn command(&mut self, line: &str) -> io::Result<Option<ClientReply>> {
        self.send(format!("{line}\r\n").as_bytes(), line).await
    }
}

/// Runs a session with a single transaction.
pub(super) async fn run_dialogue(stream: DuplexStream, scene: &TestCase) -> io::Result<SmtpDialogue> {
    let mut connection = ClientConnection { stream: BufReader::new(stream), dialogue: Vec::new() };
    let (last, stage) = run_transaction(&mut connection, scene).await?;
    let length = connection.dialogue.len();
    // RSET tells a rejection from a disconnect, and ends any transaction still open.
    let closed = connection.command("RSET").await?.is_none();
    if !closed {
        connection.command("QUIT").await?;
    }
    connection.dialogue.truncate(length);
    Ok(SmtpDialogue { exchanges: connection.dialogue, decisive_reply: last, stage, closed })
}

async fn run_transaction(connection: &mut ClientConnection, scene: &TestCase) -> io::Result<(ClientReply, &'static str)> {
    let hello = if scene.esmtp { "EHLO" } else { "HELO" };
    let mail = format!("MAIL FROM:<{}>{}", scene.sender, parameters(&scene.mail_parameters));
    let steps = [("connect", String::new()), (hello, format!("{hello} {}", scene.helo)), ("MAIL", mail)];
    for (stage, line) in steps {
        let reply = match line.is_empty() {
            true => connection.send(b"", "").await?,
            false => connection.command(&line).await?,
        };
        match reply {
            Some(reply) if reply.is_positive() => {}
            reply => return Ok((reply.unwrap_or_default(), stage)),
        }
    }
    let (mut accepted, mut last) = (false, ClientReply::default());
    for (address, list) in &scene.recipients {
        let Some(reply) = connection.command(&format!("RCPT TO:<{address}>{}", parameters(list))).await? else {
            return Ok((last, "RCPT"));
        };
        accepted |= reply.is_positive();
        last = reply;
    }
    let Some(content) = scene.content.as_ref().filter(|_| accepted) else { return Ok((last, "RCPT")) };
    match connection.command("DATA").await? {
        Some(reply) if reply.code == 354 => {}
        reply => return Ok((reply.unwrap_or_default(), "DATA")),
    }
    let reply = connection.send(&dot_stuffed(content), ".").await?;
    Ok((reply.unwrap_or_default(), "."))
}

fn parameters(list: &[Parameter]) -> String {
    let one = |(keyword, value): &Parameter| match value {
        Some(value) => format!(" {keyword}={value}"),
        None => format!(" {keyword}"),
    };
    list.iter().map(one).collect()
}
