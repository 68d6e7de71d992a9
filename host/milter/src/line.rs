//! A connection to a milter: buffers packets, sends the buffer when a reply is needed, and reads the reply.

use std::time::Duration;

use tokio::time::timeout;
use waxwing_types::Endpoint;

use crate::codec::{Actions, Command, Frames, RESPONSE_BYTES_MAX, Response, Steps, Terms, VERSION, VERSION_MIN};
use crate::settings::{PROGRESS_MAX, WRITE_BYTES_MAX};
use crate::socket::Socket;
use crate::trouble::Trouble;

/// Size of a read in bytes.
const READ_BYTES: usize = 4096;

/// A negotiated connection. Dropping the connection sends QUIT.
pub(crate) struct Line {
    socket: Socket,
    frames: Frames,
    out: Vec<u8>,
    terms: Terms,
}

impl Line {
    /// Connects and negotiates, within `time` each.
    pub(crate) async fn open(endpoint: &Endpoint, time: Duration) -> Result<Self, Trouble> {
        let socket = Socket::connect(endpoint, time).await?;
        let mut line = Self { socket, frames: Frames::new(RESPONSE_BYTES_MAX), out: Vec::new(), terms: Terms::default() };
        let offer = Terms { version: VERSION, actions: Actions::KNOWN, steps: Steps::OFFERED, macros: Vec::new() };
        line.push(&Command::Negotiate(offer));
        let response = line.response("the negotiation", time).await?;
        let Response::Negotiated(terms) = response else {
            return Err(Trouble::Violation(format!("{} is not a reply to the negotiation", response.name())));
        };
        line.terms = agreed(terms)?;
        Ok(line)
    }

    /// Returns the negotiated options.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Buffers a packet for sending.
    pub(crate) fn push(&mut self, command: &Command) {
        command.write_to(&mut self.out);
    }

    /// Sends the buffer if larger than [`WRITE_BYTES_MAX`].
    pub(crate) async fn relieve(&mut self, what: &'static str, time: Duration) -> Result<(), Trouble> {
        if self.out.len() >= WRITE_BYTES_MAX { self.flush(what, time).await } else { Ok(()) }
    }

    /// Sends the buffer, within `time`.
    pub(crate) async fn flush(&mut self, what: &'static str, time: Duration) -> Result<(), Trouble> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = timeout(time, self.socket.write_all(&self.out)).await;
        self.out.clear();
        self.out.shrink_to(WRITE_BYTES_MAX);
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Trouble::Closed(what)),
            Err(_) => Err(Trouble::TooLate { what, time }),
        }
    }

    /// Sends the buffer and waits for the reply. Each progress packet restarts the timeout.
    pub(crate) async fn reply(&mut self, what: &'static str, time: Duration) -> Result<Response, Trouble> {
        for _ in 0..PROGRESS_MAX {
            let response = self.response(what, time).await?;
            if response != Response::Progress {
                return Ok(response);
            }
        }
        Err(Trouble::Limit(format!("{PROGRESS_MAX} progress packets for one reply")))
    }

    async fn response(&mut self, what: &'static str, time: Duration) -> Result<Response, Trouble> {
        if !self.out.is_empty() && !self.frames.is_empty() {
            return Err(Trouble::Violation(format!("unexpected data {what}")));
        }
        self.flush(what, time).await?;
        match timeout(time, self.read()).await {
            Ok(response) => {
                response.map_err(|error| if matches!(error, Trouble::Closed(_)) { Trouble::Closed(what) } else { error })
            }
            Err(_) => Err(Trouble::TooLate { what, time }),
        }
    }

    async fn read(&mut self) -> Result<Response, Trouble> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(frame) = self.frames.take()? {
                return Ok(Response::parse(frame)?);
            }
            match self.socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return Err(Trouble::Closed("")),
                Ok(count) => self.frames.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Buffered packets must precede QUIT. If the socket accepts no data, the end of the connection has the same
        // effect.
        self.push(&Command::Quit);
        let _ = self.socket.try_write(&self.out);
    }
}

fn agreed(terms: Terms) -> Result<Terms, Trouble> {
    let wrong = |text: String| Err(Trouble::Violation(text));
    if !(VERSION_MIN..=VERSION).contains(&terms.version) {
        return wrong(format!("protocol version {} is not supported ({VERSION_MIN} to {VERSION})", terms.version));
    }
    if !Actions::KNOWN.has(terms.actions) {
        return wrong(format!("it requests actions that were not offered (0x{:x})", terms.actions.without(Actions::KNOWN).0));
    }
    if !Steps::OFFERED.has(terms.steps) {
        return wrong(format!(
            "it requests protocol flags that were not offered (0x{:x})",
            terms.steps.without(Steps::OFFERED).0
        ));
    }
    Ok(terms)
}
