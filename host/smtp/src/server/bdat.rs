//! CHUNKING (RFC 3030): BDAT and the octets of chunks. The octets of a refused chunk are read too, and never taken for
//! commands.

use waxwing_types::{Action, Reply};

use super::session::{Actions, ReplyDecision, ServerSession, reply_decision};
use super::state::{
    AfterReset, BdatChunk, ChunkAction, PendingEnd, PendingServerQuestion, ServerState, ServerTransaction, SessionProgress,
};
use super::{BareNewline, ServerQuestion, StepAnswer, replies};
use crate::bdat_reader::BdatReader;
use crate::data_reader::BodySlices;

impl ServerSession {
    pub(super) fn handle_bdat(&mut self, size: u64, last: bool, actions: &mut Actions) {
        if !self.settings.chunking {
            // The octets could be read, but a client sending BDAT without an offer will not wait for the reply either.
            return self.close(&replies::CHUNKING_NOT_OFFERED, actions);
        }
        let transaction = match self.check_message_allowed() {
            Ok(transaction) => transaction,
            Err(reply) => return self.refuse_chunk(size, last, reply, actions),
        };
        let octets = transaction.bdat_reader.map_or(0, |chunks| chunks.octets());
        if octets.saturating_add(size) > self.settings.message_size_max {
            let mut chunk = self.new_chunk(size, last);
            chunk.action = ChunkAction::Discard(replies::SIZE_TOO_LARGE);
            return self.discard_message(transaction, chunk, actions);
        }
        let chunk = self.new_chunk(size, last);
        match transaction.bdat_reader {
            Some(_) => self.start_chunk(chunk, actions),
            None => self.ask(ServerQuestion::Data, PendingServerQuestion::Chunk(chunk), actions),
        }
    }

    fn new_chunk(&self, size: u64, last: bool) -> BdatChunk {
        BdatChunk { size, remaining: size, last, ends_at: self.now + self.settings.data_total, action: ChunkAction::Accept }
    }

    /// Refuses a chunk sent at the wrong time: `reply` follows the octets of the chunk.
    pub(super) fn refuse_chunk(&mut self, size: u64, last: bool, reply: Reply, actions: &mut Actions) {
        let mut chunk = self.new_chunk(size, last);
        chunk.action = ChunkAction::Discard(reply);
        self.start_chunk(chunk, actions);
    }

    /// Makes the host drop the transaction; the rest of the chunk is read, and of chunks already sent.
    fn discard_message(&mut self, transaction: ServerTransaction, chunk: BdatChunk, actions: &mut Actions) {
        let taken = transaction.bdat_reader.map_or(0, |chunks| chunks.octets());
        self.progress = SessionProgress::ChunksRefused { replies: self.final_reply_count(transaction), octets: taken };
        self.ask(ServerQuestion::Reset, PendingServerQuestion::Reset(AfterReset::SkipChunk(chunk)), actions);
    }

    pub(super) fn first_chunk_answered(&mut self, mut chunk: BdatChunk, answer: StepAnswer, actions: &mut Actions) {
        let SessionProgress::Transaction(mut transaction) = self.progress else {
            return self.close(&replies::INTERNAL_CLOSING, actions);
        };
        match reply_decision(answer) {
            ReplyDecision::Accept(_) => {
                let bare_newline = if transaction.binary { BareNewline::No } else { self.settings.bare_newline };
                transaction.bdat_reader = Some(BdatReader::new(self.settings.message_size_max, bare_newline));
                self.progress = SessionProgress::Transaction(transaction);
                self.start_chunk(chunk, actions);
            }
            ReplyDecision::Reject(reply) if reply.code() == 421 => self.close(&reply, actions),
            ReplyDecision::Reject(reply) => {
                chunk.action = ChunkAction::Discard(reply);
                self.discard_message(transaction, chunk, actions);
            }
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Starts reading a chunk, or closes the connection if a discarded chunk is too long to be read.
    pub(super) fn start_chunk(&mut self, chunk: BdatChunk, actions: &mut Actions) {
        if let ChunkAction::Discard(reply) = &chunk.action {
            let taken = match &mut self.progress {
                SessionProgress::ChunksRefused { octets: taken, .. } => {
                    *taken = taken.saturating_add(chunk.size);
                    *taken
                }
                SessionProgress::NoHelo | SessionProgress::Greeted | SessionProgress::Transaction(_) => chunk.size,
            };
            if taken > self.settings.message_size_max.saturating_add(self.settings.refused_bytes_max) {
                return self.close(reply, actions);
            }
        }
        self.deadline = chunk.ends_at.min(self.now + self.settings.data_idle);
        if chunk.remaining == 0 && self.pending_end != PendingEnd::Shutdown {
            self.finish_chunk(chunk, actions);
        } else {
            self.state = ServerState::Chunk(chunk);
        }
    }

    pub(super) fn read_chunk(&mut self, mut chunk: BdatChunk, input: &mut &[u8], actions: &mut Actions) {
        let length = usize::try_from(chunk.remaining).map_or(input.len(), |left| left.min(input.len()));
        let (piece, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        *input = rest;
        chunk.remaining -= piece.len() as u64;
        if let (ChunkAction::Accept, SessionProgress::Transaction(transaction)) = (&chunk.action, &mut self.progress)
            && let Some(reader) = &mut transaction.bdat_reader
        {
            let mut slices = BodySlices::default();
            let result = reader.read(piece, &mut slices);
            actions.extend(slices.into_bytes().map(Action::Body));
            if let Err(refusal) = result {
                let transaction = *transaction;
                chunk.action = ChunkAction::Discard(replies::for_data_refusal(refusal));
                return self.discard_message(transaction, chunk, actions);
            }
        }
        match chunk.remaining {
            0 => self.finish_chunk(chunk, actions),
            _ => self.state = ServerState::Chunk(chunk),
        }
    }

    fn finish_chunk(&mut self, mut chunk: BdatChunk, actions: &mut Actions) {
        self.deadline = self.now + self.settings.command_idle;
        if let ChunkAction::Discard(reply) = chunk.action {
            return self.finish_discarded_chunk(chunk.last, &reply, actions);
        }
        if !chunk.last {
            let reply = Reply::plain(250, format!("2.0.0 {} octets received", chunk.size));
            return match chunk.size {
                0 => self.send_junk_reply(replies::encode(&reply), actions),
                _ => self.send(&reply, actions),
            };
        }
        let SessionProgress::Transaction(transaction) = &mut self.progress else {
            return self.close(&replies::INTERNAL_CLOSING, actions);
        };
        let transaction_now = *transaction;
        let mut slices = BodySlices::default();
        let result = transaction.bdat_reader.as_mut().map_or(Ok(()), |reader| reader.finish(&mut slices));
        actions.extend(slices.into_bytes().map(Action::Body));
        match result {
            Ok(()) => self.ask(ServerQuestion::EndOfData, PendingServerQuestion::EndOfData, actions),
            Err(refusal) => {
                chunk.action = ChunkAction::Discard(replies::for_data_refusal(refusal));
                self.discard_message(transaction_now, chunk, actions);
            }
        }
    }

    /// Replies to a discarded chunk. The LAST chunk ends the refused transaction; each earlier chunk gets a reply too.
    fn finish_discarded_chunk(&mut self, last: bool, reply: &Reply, actions: &mut Actions) {
        match self.progress {
            SessionProgress::ChunksRefused { replies, .. } if last => {
                self.progress = SessionProgress::Greeted;
                self.refuse_per_recipient(replies, reply, actions);
            }
            SessionProgress::NoHelo
            | SessionProgress::Greeted
            | SessionProgress::Transaction(_)
            | SessionProgress::ChunksRefused { .. } => {
                self.refuse(reply, actions);
            }
        }
    }
}
