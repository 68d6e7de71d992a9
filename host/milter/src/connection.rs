//! A connection to a milter: buffers packets, sends the buffer when a reply is needed, and reads the reply.

use std::time::Duration;

use tokio::time::timeout;
use waxwing_types::Endpoint;

use crate::codec::{
    ActionFlags, MilterCommand, MilterOptions, MilterResponse, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN, PacketSplitter,
    ProtocolFlags, RESPONSE_BYTES_MAX,
};
use crate::error::MilterError;
use crate::settings::{PROGRESS_PACKETS_MAX, WRITE_BYTES_MAX};
use crate::socket::MilterSocket;

/// Size of a read in bytes.
const READ_BYTES: usize = 4096;

/// A negotiated connection. Dropping the connection sends QUIT.
pub(crate) struct MilterConnection {
    socket: MilterSocket,
    packets: PacketSplitter,
    out: Vec<u8>,
    options: MilterOptions,
}

impl MilterConnection {
    /// Connects and negotiates, within `time` each.
    pub(crate) async fn open(endpoint: &Endpoint, time: Duration) -> Result<Self, MilterError> {
        let socket = MilterSocket::connect(endpoint, time).await?;
        let mut line =
            Self { socket, packets: PacketSplitter::new(RESPONSE_BYTES_MAX), out: Vec::new(), options: MilterOptions::default() };
        let offer = MilterOptions {
            version: PROTOCOL_VERSION,
            actions: ActionFlags::ALL,
            protocol: ProtocolFlags::OFFERED,
            macros: Vec::new(),
        };
        line.push(&MilterCommand::Negotiate(offer));
        let response = line.response("the negotiation", time).await?;
        let MilterResponse::Negotiate(terms) = response else {
            return Err(MilterError::Violation(format!("{} is not a reply to the negotiation", response.name())));
        };
        line.options = check_options(terms)?;
        Ok(line)
    }

    /// Returns the negotiated options.
    pub(crate) fn options(&self) -> &MilterOptions {
        &self.options
    }

    /// Buffers a packet for sending.
    pub(crate) fn push(&mut self, command: &MilterCommand) {
        command.write_to(&mut self.out);
    }

    /// Sends the buffer if larger than [`WRITE_BYTES_MAX`].
    pub(crate) async fn flush_if_full(&mut self, what: &'static str, time: Duration) -> Result<(), MilterError> {
        if self.out.len() >= WRITE_BYTES_MAX { self.flush(what, time).await } else { Ok(()) }
    }

    /// Sends the buffer, within `time`.
    pub(crate) async fn flush(&mut self, what: &'static str, time: Duration) -> Result<(), MilterError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = timeout(time, self.socket.write_all(&self.out)).await;
        self.out.clear();
        self.out.shrink_to(WRITE_BYTES_MAX);
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(MilterError::Closed(what)),
            Err(_) => Err(MilterError::Timeout { what, time }),
        }
    }

    /// Sends the buffer and waits for the reply. Each progress packet restarts the timeout.
    pub(crate) async fn reply(&mut self, what: &'static str, time: Duration) -> Result<MilterResponse, MilterError> {
        for _ in 0..PROGRESS_PACKETS_MAX {
            let response = self.response(what, time).await?;
            if response != MilterResponse::Progress {
                return Ok(response);
            }
        }
        Err(MilterError::LimitExceeded(format!("{PROGRESS_PACKETS_MAX} progress packets for one reply")))
    }

    async fn response(&mut self, what: &'static str, time: Duration) -> Result<MilterResponse, MilterError> {
        if !self.out.is_empty() && !self.packets.is_empty() {
            return Err(MilterError::Violation(format!("unexpected data {what}")));
        }
        self.flush(what, time).await?;
        match timeout(time, self.read()).await {
            Ok(response) => {
                response.map_err(|error| if matches!(error, MilterError::Closed(_)) { MilterError::Closed(what) } else { error })
            }
            Err(_) => Err(MilterError::Timeout { what, time }),
        }
    }

    async fn read(&mut self) -> Result<MilterResponse, MilterError> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(frame) = self.packets.next_packet()? {
                return Ok(MilterResponse::parse(frame)?);
            }
            match self.socket.read(&mut buffer).await {
                Ok(0) | Err(_) => return Err(MilterError::Closed("")),
                Ok(count) => self.packets.push(buffer.get(..count).unwrap_or_default()),
            }
        }
    }
}

impl Drop for MilterConnection {
    fn drop(&mut self) {
        // Buffered packets must precede QUIT. If the socket accepts no data, the end of the connection has the same
        // effect.
        self.push(&MilterCommand::Quit);
        let _ = self.socket.try_write(&self.out);
    }
}

fn check_options(terms: MilterOptions) -> Result<MilterOptions, MilterError> {
    let wrong = |text: String| Err(MilterError::Violation(text));
    if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION).contains(&terms.version) {
        return wrong(format!(
            "protocol version {} is not supported ({PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION})",
            terms.version
        ));
    }
    if !ActionFlags::ALL.has(terms.actions) {
        return wrong(format!("it requests actions that were not offered (0x{:x})", terms.actions.without(ActionFlags::ALL).0));
    }
    if !ProtocolFlags::OFFERED.has(terms.protocol) {
        return wrong(format!(
            "it requests protocol flags that were not offered (0x{:x})",
            terms.protocol.without(ProtocolFlags::OFFERED).0
        ));
    }
    Ok(terms)
}
