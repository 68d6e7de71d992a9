//! MAIL, RCPT, DATA, and the replies at the end of a message.

use bytes::Bytes;
use waxwing_types::{Action, Address, BodyType, Parameter, Reply, ReversePath};

use super::parameters::{self, ParameterContext};
use super::session::{Actions, ReplyDecision, ServerSession, closing_reply, is_negative, reply_decision};
use super::state::{
    AfterReset, IncomingMessage, PendingEnd, PendingServerQuestion, ServerState, ServerTransaction, SessionProgress,
};
use super::{DropAnswer, MessageAnswer, Protocol, ServerQuestion, StepAnswer, replies};
use crate::data_reader::{BodySlices, DataEvent, DataReader, DataRefusal};

impl ServerSession {
    pub(super) fn handle_mail(&mut self, sender: ReversePath, parameters: Vec<Parameter>, actions: &mut Actions) {
        match self.progress {
            SessionProgress::NoHelo if self.settings.helo_required => return self.refuse(&self.helo_required_reply(), actions),
            SessionProgress::Transaction(_) | SessionProgress::ChunksRefused { .. } => {
                return self.refuse(&replies::NESTED_MAIL, actions);
            }
            SessionProgress::NoHelo | SessionProgress::Greeted => {}
        }
        if self.settings.auth_required && !self.authenticated {
            return self.refuse(&replies::AUTH_REQUIRED, actions);
        }
        let context =
            ParameterContext { tls: self.tls, auth_offered: !self.mechanisms().is_empty(), authenticated: self.authenticated };
        let (size, options) = match parameters::parse_mail(&parameters, &self.settings, context) {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(&replies::for_parameter_error(error), actions),
        };
        if size.is_some_and(|size| size > self.settings.message_size_max) {
            return self.refuse(&replies::SIZE_TOO_LARGE, actions);
        }
        let transaction = ServerTransaction {
            smtputf8: options.smtputf8,
            binary: options.body == BodyType::BinaryMime,
            prdr: options.prdr,
            ..ServerTransaction::default()
        };
        self.ask(ServerQuestion::Mail { sender, parameters, size, options }, PendingServerQuestion::Mail(transaction), actions);
    }

    fn helo_required_reply(&self) -> Reply {
        match self.settings.protocol {
            Protocol::Smtp => replies::HELO_REQUIRED,
            Protocol::Lmtp => replies::LHLO_REQUIRED,
        }
    }

    pub(super) fn mail_answered(&mut self, transaction: ServerTransaction, answer: StepAnswer, actions: &mut Actions) {
        match reply_decision(answer) {
            ReplyDecision::Accept(reply) => {
                self.progress = SessionProgress::Transaction(transaction);
                self.accept(reply, replies::SENDER_OK, actions);
            }
            ReplyDecision::Reject(reply) => self.refuse(&reply, actions),
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }

    pub(super) fn handle_rcpt(&mut self, recipient: Address, parameters: Vec<Parameter>, actions: &mut Actions) {
        let SessionProgress::Transaction(transaction) = &mut self.progress else {
            return self.refuse(&replies::MAIL_REQUIRED, actions);
        };
        if transaction.bdat_reader.is_some() {
            return self.refuse(&replies::BDAT_STARTED, actions);
        }
        let options = match parameters::parse_rcpt(&parameters, &self.settings) {
            Ok(options) => options,
            Err(error) => return self.refuse(&replies::for_parameter_error(error), actions),
        };
        if transaction.accepted >= self.settings.recipients_max {
            transaction.overshoot += 1;
            let counts = transaction.overshoot > self.settings.recipients_overshoot_max;
            return match counts {
                true => self.refuse(&replies::TOO_MANY_RECIPIENTS, actions),
                false => self.send(&replies::TOO_MANY_RECIPIENTS, actions),
            };
        }
        self.ask(ServerQuestion::Rcpt { recipient, parameters, options }, PendingServerQuestion::Rcpt, actions);
    }

    pub(super) fn rcpt_answered(&mut self, answer: StepAnswer, actions: &mut Actions) {
        match reply_decision(answer) {
            ReplyDecision::Accept(reply) => {
                if let SessionProgress::Transaction(transaction) = &mut self.progress {
                    transaction.accepted += 1;
                }
                self.accept(reply, replies::RECIPIENT_OK, actions);
            }
            ReplyDecision::Reject(reply) => self.refuse(&reply, actions),
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Returns the transaction if a message may begin. RFC 2033 §4.2: DATA without a recipient gets 503 in LMTP.
    pub(super) fn check_message_allowed(&self) -> Result<ServerTransaction, Reply> {
        match self.progress {
            SessionProgress::NoHelo | SessionProgress::Greeted => Err(replies::MAIL_REQUIRED),
            SessionProgress::ChunksRefused { .. } => Err(replies::CHUNK_REFUSED),
            SessionProgress::Transaction(transaction) => match (transaction.accepted, self.settings.protocol) {
                (0, Protocol::Smtp) => Err(replies::NO_RECIPIENTS),
                (0, Protocol::Lmtp) => Err(replies::NO_RECIPIENTS_LMTP),
                (_, _) => Ok(transaction),
            },
        }
    }

    pub(super) fn handle_data(&mut self, actions: &mut Actions) {
        match self.check_message_allowed() {
            Err(reply) => self.refuse(&reply, actions),
            Ok(transaction) if transaction.bdat_reader.is_some() => self.refuse(&replies::BDAT_STARTED, actions),
            // RFC 3030 §3: binary content has lines of any length and needs BDAT.
            Ok(transaction) if transaction.binary => self.refuse(&replies::BINARYMIME_NEEDS_BDAT, actions),
            Ok(_) => self.ask(ServerQuestion::Data, PendingServerQuestion::Data, actions),
        }
    }

    pub(super) fn data_answered(&mut self, answer: StepAnswer, actions: &mut Actions) {
        match reply_decision(answer) {
            ReplyDecision::Accept(_) => self.start_data(actions),
            ReplyDecision::Reject(reply) => self.refuse(&reply, actions),
            ReplyDecision::Close(reply) => self.close(&reply, actions),
        }
    }

    fn start_data(&mut self, actions: &mut Actions) {
        if self.pending_end == PendingEnd::Shutdown {
            return; // 421 replaces 354
        }
        actions.push(Action::Send(Bytes::from_static(replies::START_DATA)));
        let reader = DataReader::new(self.settings.message_size_max, self.settings.refused_bytes_max)
            .with_bare_newline(self.settings.bare_newline);
        let ends_at = self.now + self.settings.data_total;
        self.deadline = ends_at.min(self.now + self.settings.data_idle);
        self.state = ServerState::Data(IncomingMessage { reader, ends_at });
    }

    pub(super) fn read_message(&mut self, mut incoming: IncomingMessage, input: &mut &[u8], actions: &mut Actions) {
        let mut slices = BodySlices::default();
        let event = incoming.reader.read(input, &mut slices);
        actions.extend(slices.into_bytes().map(Action::Body));
        match event {
            DataEvent::More => self.state = ServerState::Data(incoming),
            DataEvent::Refused(_) => {
                self.ask(ServerQuestion::Reset, PendingServerQuestion::Reset(AfterReset::SkipMessage(incoming)), actions)
            }
            DataEvent::End(None) => self.ask(ServerQuestion::EndOfData, PendingServerQuestion::EndOfData, actions),
            DataEvent::End(Some(refusal)) => self.message_refused(refusal, actions),
            DataEvent::SkipLimitExceeded => self.close(&replies::SKIP_LIMIT_EXCEEDED, actions),
        }
    }

    fn message_refused(&mut self, refusal: DataRefusal, actions: &mut Actions) {
        let replies = self.end_transaction().1;
        self.deadline = self.now + self.settings.command_idle;
        self.refuse_per_recipient(replies, &replies::for_data_refusal(refusal), actions);
    }

    /// Ends the transaction; returns its data and the number of replies at the end of the message.
    fn end_transaction(&mut self) -> (ServerTransaction, usize) {
        let transaction = match self.progress {
            SessionProgress::Transaction(transaction) => transaction,
            SessionProgress::NoHelo | SessionProgress::Greeted | SessionProgress::ChunksRefused { .. } => {
                ServerTransaction::default()
            }
        };
        self.progress = SessionProgress::Greeted;
        (transaction, self.final_reply_count(transaction))
    }

    /// Number of final replies. RFC 2033 §4.2: one for each accepted RCPT.
    pub(super) fn final_reply_count(&self, transaction: ServerTransaction) -> usize {
        match self.settings.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => transaction.accepted.max(1),
        }
    }

    /// Refuses with the given number of replies, counted as one error.
    pub(super) fn refuse_per_recipient(&mut self, replies: usize, reply: &Reply, actions: &mut Actions) {
        if reply.code() != 421 {
            (1..replies).for_each(|_| self.send(reply, actions));
        }
        self.refuse(reply, actions);
    }

    pub(super) fn end_of_data_answered(&mut self, answer: MessageAnswer, actions: &mut Actions) {
        let (transaction, replies) = self.end_transaction();
        match answer {
            MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply) if !is_negative(&reply) => {
                self.reset_error_count();
                let reply = if reply.code() == 250 { reply } else { replies::MESSAGE_ACCEPTED };
                (0..replies).for_each(|_| self.send(&reply, actions));
            }
            MessageAnswer::CommittedPerRecipient(each) => self.send_recipient_replies(transaction, each, actions),
            MessageAnswer::Close(reply) => self.close(&closing_reply(reply), actions),
            MessageAnswer::Committed(reply) | MessageAnswer::Discarded(reply) | MessageAnswer::Reject(reply) => {
                // A positive reply needs a commit.
                let reply = if is_negative(&reply) { reply } else { replies::INTERNAL };
                self.refuse_per_recipient(replies, &reply, actions);
            }
        }
    }

    /// Sends the final replies. LMTP: the replies as given. PRDR: 353, a reply for each recipient, and a reply for the
    /// message. Otherwise: positive if any recipient accepted the message.
    fn send_recipient_replies(&mut self, transaction: ServerTransaction, mut each: Vec<Reply>, actions: &mut Actions) {
        for reply in &mut each {
            if reply.code() == 421 || (!is_negative(reply) && reply.code() != 250) {
                *reply = if is_negative(reply) { replies::INTERNAL } else { replies::MESSAGE_ACCEPTED };
            }
        }
        each.resize(transaction.accepted, replies::INTERNAL);
        let taken = each.iter().find(|reply| !is_negative(reply)).cloned();
        let Some(overall) = taken.clone().or_else(|| each.last().cloned()) else {
            return self.refuse(&replies::INTERNAL, actions);
        };
        if taken.is_some() {
            self.reset_error_count();
        }
        match self.settings.protocol {
            Protocol::Lmtp => {
                each.iter().for_each(|reply| self.send(reply, actions));
                if taken.is_none() {
                    self.count_error(actions);
                }
            }
            Protocol::Smtp => {
                if transaction.prdr {
                    self.send(&replies::prdr_intro(), actions);
                    each.iter().for_each(|reply| self.send(reply, actions));
                }
                match taken {
                    Some(_) => self.send(&overall, actions),
                    None => self.refuse(&overall, actions),
                }
            }
        }
    }

    pub(super) fn reset_answered(&mut self, then: AfterReset, answer: DropAnswer, actions: &mut Actions) {
        if let DropAnswer::Close(reply) = answer {
            return self.close(&closing_reply(reply), actions);
        }
        match then {
            AfterReset::SkipMessage(incoming) if incoming.reader.exceeds_skip_limit() => {
                self.close(&replies::SKIP_LIMIT_EXCEEDED, actions)
            }
            AfterReset::SkipMessage(incoming) => {
                self.deadline = incoming.ends_at.min(self.now + self.settings.data_idle);
                self.state = ServerState::Data(incoming);
            }
            AfterReset::SkipChunk(chunk) => self.start_chunk(chunk, actions),
            AfterReset::Rset => {
                self.progress = SessionProgress::Greeted;
                self.send_junk_reply(Bytes::from_static(replies::OK), actions);
            }
            AfterReset::Helo { name, esmtp } => {
                self.progress = SessionProgress::Greeted;
                self.handle_helo(name, esmtp, actions);
            }
        }
    }
}
