//! CHUNKING (RFC 3030): BDAT and the octets of chunks. The octets of a refused chunk are read too, and never taken for
//! commands.

use waxwing_types::{Action, Reply};

use super::session::{Actions, Said, ServerSession, said};
use super::state::{Asked, Chunk, Ending, Fate, Progress, State, Then, Transaction};
use super::{Answer, BareNewline, Question, replies};
use crate::chunk::ChunkReader;
use crate::data::Runs;

impl ServerSession {
    pub(super) fn bdat(&mut self, size: u64, last: bool, actions: &mut Actions) {
        if !self.settings.chunking {
            // The octets could be read, but a client sending BDAT without an offer will not wait for the reply either.
            return self.close(&replies::CHUNKING_NOT_OFFERED, actions);
        }
        let transaction = match self.may_begin() {
            Ok(transaction) => transaction,
            Err(reply) => return self.refuse_chunk(size, last, reply, actions),
        };
        let octets = transaction.chunks.map_or(0, |chunks| chunks.octets());
        if octets.saturating_add(size) > self.settings.message_size_max {
            let mut chunk = self.chunk_of(size, last);
            chunk.fate = Fate::Dropped(replies::SIZE_TOO_LARGE);
            return self.drop_message(transaction, chunk, actions);
        }
        let chunk = self.chunk_of(size, last);
        match transaction.chunks {
            Some(_) => self.begin_chunk(chunk, actions),
            None => self.ask(Question::Data, Asked::Chunk(chunk), actions),
        }
    }

    fn chunk_of(&self, size: u64, last: bool) -> Chunk {
        Chunk { size, left: size, last, ends_at: self.now + self.settings.data_total, fate: Fate::Taken }
    }

    /// Refuses a chunk sent at the wrong time: `reply` follows the octets of the chunk.
    pub(super) fn refuse_chunk(&mut self, size: u64, last: bool, reply: Reply, actions: &mut Actions) {
        let mut chunk = self.chunk_of(size, last);
        chunk.fate = Fate::Dropped(reply);
        self.begin_chunk(chunk, actions);
    }

    /// Makes the host drop the transaction; the rest of the chunk is read, and of chunks already sent.
    fn drop_message(&mut self, transaction: Transaction, chunk: Chunk, actions: &mut Actions) {
        let taken = transaction.chunks.map_or(0, |chunks| chunks.octets());
        self.progress = Progress::ChunksRefused { replies: self.end_replies(transaction), taken };
        self.ask(Question::Reset, Asked::Reset(Then::SkipChunk(chunk)), actions);
    }

    pub(super) fn first_chunk_answered(&mut self, mut chunk: Chunk, answer: Answer, actions: &mut Actions) {
        let Progress::Transaction(mut transaction) = self.progress else {
            return self.close(&replies::INTERNAL_CLOSING, actions);
        };
        match said(answer) {
            Said::Yes(_) => {
                let bare_newline = if transaction.binary { BareNewline::No } else { self.settings.bare_newline };
                transaction.chunks = Some(ChunkReader::new(self.settings.message_size_max, bare_newline));
                self.progress = Progress::Transaction(transaction);
                self.begin_chunk(chunk, actions);
            }
            Said::No(reply) if reply.code() == 421 => self.close(&reply, actions),
            Said::No(reply) => {
                chunk.fate = Fate::Dropped(reply);
                self.drop_message(transaction, chunk, actions);
            }
            Said::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Starts reading a chunk, or closes the connection if a discarded chunk is too long to be read.
    pub(super) fn begin_chunk(&mut self, chunk: Chunk, actions: &mut Actions) {
        if let Fate::Dropped(reply) = &chunk.fate {
            let taken = match &mut self.progress {
                Progress::ChunksRefused { taken, .. } => {
                    *taken = taken.saturating_add(chunk.size);
                    *taken
                }
                Progress::NoHelo | Progress::Greeted | Progress::Transaction(_) => chunk.size,
            };
            if taken > self.settings.message_size_max.saturating_add(self.settings.refused_bytes_max) {
                return self.close(reply, actions);
            }
        }
        self.deadline = chunk.ends_at.min(self.now + self.settings.data_idle);
        if chunk.left == 0 && self.ending != Ending::Shutdown {
            self.chunk_ended(chunk, actions);
        } else {
            self.state = State::Chunk(chunk);
        }
    }

    pub(super) fn chunk(&mut self, mut chunk: Chunk, input: &mut &[u8], actions: &mut Actions) {
        let length = usize::try_from(chunk.left).map_or(input.len(), |left| left.min(input.len()));
        let (piece, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        *input = rest;
        chunk.left -= piece.len() as u64;
        if let (Fate::Taken, Progress::Transaction(transaction)) = (&chunk.fate, &mut self.progress)
            && let Some(reader) = &mut transaction.chunks
        {
            let mut slices = Runs::default();
            let result = reader.read(piece, &mut slices);
            actions.extend(slices.into_bytes().map(Action::Body));
            if let Err(refusal) = result {
                let transaction = *transaction;
                chunk.fate = Fate::Dropped(replies::for_refusal(refusal));
                return self.drop_message(transaction, chunk, actions);
            }
        }
        match chunk.left {
            0 => self.chunk_ended(chunk, actions),
            _ => self.state = State::Chunk(chunk),
        }
    }

    fn chunk_ended(&mut self, mut chunk: Chunk, actions: &mut Actions) {
        self.deadline = self.now + self.settings.command_idle;
        if let Fate::Dropped(reply) = chunk.fate {
            return self.dropped_chunk_ended(chunk.last, &reply, actions);
        }
        if !chunk.last {
            let reply = Reply::plain(250, format!("2.0.0 {} octets received", chunk.size));
            return match chunk.size {
                0 => self.junk(replies::wire(&reply), actions),
                _ => self.send(&reply, actions),
            };
        }
        let Progress::Transaction(transaction) = &mut self.progress else {
            return self.close(&replies::INTERNAL_CLOSING, actions);
        };
        let transaction_now = *transaction;
        let mut slices = Runs::default();
        let result = transaction.chunks.as_mut().map_or(Ok(()), |reader| reader.end(&mut slices));
        actions.extend(slices.into_bytes().map(Action::Body));
        match result {
            Ok(()) => self.ask(Question::EndOfData, Asked::EndOfData, actions),
            Err(refusal) => {
                chunk.fate = Fate::Dropped(replies::for_refusal(refusal));
                self.drop_message(transaction_now, chunk, actions);
            }
        }
    }

    /// Replies to a discarded chunk. The LAST chunk ends the refused transaction; each earlier chunk gets a reply too.
    fn dropped_chunk_ended(&mut self, last: bool, reply: &Reply, actions: &mut Actions) {
        match self.progress {
            Progress::ChunksRefused { replies, .. } if last => {
                self.progress = Progress::Greeted;
                self.refuse_each(replies, reply, actions);
            }
            Progress::NoHelo | Progress::Greeted | Progress::Transaction(_) | Progress::ChunksRefused { .. } => {
                self.refuse(reply, actions);
            }
        }
    }
}
