//! MAIL, RCPT, DATA, and the replies at the end of a message.

use bytes::Bytes;
use waxwing_types::{Action, Address, BodyType, Parameter, Reply, ReversePath};

use super::parameters::{self, Standing};
use super::session::{Actions, Said, ServerSession, closing, is_negative, said};
use super::state::{Asked, Ending, Incoming, Progress, State, Then, Transaction};
use super::{Answer, Protocol, Question, replies};
use crate::data::{DataEvent, DataReader, Refusal, Runs};

impl ServerSession {
    pub(super) fn mail(&mut self, sender: ReversePath, parameters: Vec<Parameter>, actions: &mut Actions) {
        match self.progress {
            Progress::NoHelo if self.settings.helo_required => return self.refuse(&self.hello_first(), actions),
            Progress::Transaction(_) | Progress::ChunksRefused { .. } => return self.refuse(&replies::NESTED_MAIL, actions),
            Progress::NoHelo | Progress::Greeted => {}
        }
        if self.settings.auth_required && !self.authenticated {
            return self.refuse(&replies::AUTH_FIRST, actions);
        }
        let context = Standing { tls: self.tls, auth_offered: !self.mechanisms().is_empty(), authenticated: self.authenticated };
        let (size, options) = match parameters::mail(&parameters, &self.settings, context) {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(&replies::for_parameter(error), actions),
        };
        if size.is_some_and(|size| size > self.settings.message_size_max) {
            return self.refuse(&replies::SIZE_TOO_LARGE, actions);
        }
        let transaction = Transaction {
            utf8: options.smtputf8,
            binary: options.body == BodyType::BinaryMime,
            each_recipient: options.each_recipient,
            ..Transaction::default()
        };
        self.ask(Question::Mail { sender, parameters, size, options }, Asked::Mail(transaction), actions);
    }

    fn hello_first(&self) -> Reply {
        match self.settings.protocol {
            Protocol::Smtp => replies::HELO_FIRST,
            Protocol::Lmtp => replies::LHLO_FIRST,
        }
    }

    pub(super) fn mail_answered(&mut self, transaction: Transaction, answer: Answer, actions: &mut Actions) {
        match said(answer) {
            Said::Yes(reply) => {
                self.progress = Progress::Transaction(transaction);
                self.accept(reply, replies::SENDER_OK, actions);
            }
            Said::No(reply) => self.refuse(&reply, actions),
            Said::Close(reply) => self.close(&reply, actions),
        }
    }

    pub(super) fn rcpt(&mut self, recipient: Address, parameters: Vec<Parameter>, actions: &mut Actions) {
        let Progress::Transaction(transaction) = &mut self.progress else {
            return self.refuse(&replies::MAIL_FIRST, actions);
        };
        if transaction.chunks.is_some() {
            return self.refuse(&replies::CHUNKS_BEGUN, actions);
        }
        let options = match parameters::rcpt(&parameters, &self.settings) {
            Ok(options) => options,
            Err(error) => return self.refuse(&replies::for_parameter(error), actions),
        };
        if transaction.accepted >= self.settings.recipients_max {
            transaction.overshoot += 1;
            let counts = transaction.overshoot > self.settings.recipients_overshoot_max;
            return match counts {
                true => self.refuse(&replies::TOO_MANY_RECIPIENTS, actions),
                false => self.send(&replies::TOO_MANY_RECIPIENTS, actions),
            };
        }
        self.ask(Question::Rcpt { recipient, parameters, options }, Asked::Rcpt, actions);
    }

    pub(super) fn rcpt_answered(&mut self, answer: Answer, actions: &mut Actions) {
        match said(answer) {
            Said::Yes(reply) => {
                if let Progress::Transaction(transaction) = &mut self.progress {
                    transaction.accepted += 1;
                }
                self.accept(reply, replies::RECIPIENT_OK, actions);
            }
            Said::No(reply) => self.refuse(&reply, actions),
            Said::Close(reply) => self.close(&reply, actions),
        }
    }

    /// Returns the transaction if a message may begin. RFC 2033 §4.2: DATA without a recipient gets 503 in LMTP.
    pub(super) fn may_begin(&self) -> Result<Transaction, Reply> {
        match self.progress {
            Progress::NoHelo | Progress::Greeted => Err(replies::MAIL_FIRST),
            Progress::ChunksRefused { .. } => Err(replies::CHUNKS_REFUSED),
            Progress::Transaction(transaction) => match (transaction.accepted, self.settings.protocol) {
                (0, Protocol::Smtp) => Err(replies::NO_RECIPIENTS),
                (0, Protocol::Lmtp) => Err(replies::NO_RECIPIENTS_LMTP),
                (_, _) => Ok(transaction),
            },
        }
    }

    pub(super) fn data(&mut self, actions: &mut Actions) {
        match self.may_begin() {
            Err(reply) => self.refuse(&reply, actions),
            Ok(transaction) if transaction.chunks.is_some() => self.refuse(&replies::CHUNKS_BEGUN, actions),
            // RFC 3030 §3: binary content has lines of any length and needs BDAT.
            Ok(transaction) if transaction.binary => self.refuse(&replies::BINARY_NEEDS_CHUNKS, actions),
            Ok(_) => self.ask(Question::Data, Asked::Data, actions),
        }
    }

    pub(super) fn data_answered(&mut self, answer: Answer, actions: &mut Actions) {
        match said(answer) {
            Said::Yes(_) => self.begin_data(actions),
            Said::No(reply) => self.refuse(&reply, actions),
            Said::Close(reply) => self.close(&reply, actions),
        }
    }

    fn begin_data(&mut self, actions: &mut Actions) {
        if self.ending == Ending::Shutdown {
            return; // 421 replaces 354
        }
        actions.push(Action::Send(Bytes::from_static(replies::START_DATA)));
        let reader = DataReader::new(self.settings.message_size_max, self.settings.refused_bytes_max)
            .with_bare_newline(self.settings.bare_newline);
        let ends_at = self.now + self.settings.data_total;
        self.deadline = ends_at.min(self.now + self.settings.data_idle);
        self.state = State::Data(Incoming { reader, ends_at });
    }

    pub(super) fn message(&mut self, mut incoming: Incoming, input: &mut &[u8], actions: &mut Actions) {
        let mut slices = Runs::default();
        let event = incoming.reader.read(input, &mut slices);
        actions.extend(slices.into_bytes().map(Action::Body));
        match event {
            DataEvent::More => self.state = State::Data(incoming),
            DataEvent::Refused(_) => self.ask(Question::Reset, Asked::Reset(Then::Skip(incoming)), actions),
            DataEvent::End(None) => self.ask(Question::EndOfData, Asked::EndOfData, actions),
            DataEvent::End(Some(refusal)) => self.message_refused(refusal, actions),
            DataEvent::Runaway => self.close(&replies::RUNAWAY, actions),
        }
    }

    fn message_refused(&mut self, refusal: Refusal, actions: &mut Actions) {
        let replies = self.end_transaction().1;
        self.deadline = self.now + self.settings.command_idle;
        self.refuse_each(replies, &replies::for_refusal(refusal), actions);
    }

    /// Ends the transaction; returns its data and the number of replies at the end of the message.
    fn end_transaction(&mut self) -> (Transaction, usize) {
        let transaction = match self.progress {
            Progress::Transaction(transaction) => transaction,
            Progress::NoHelo | Progress::Greeted | Progress::ChunksRefused { .. } => Transaction::default(),
        };
        self.progress = Progress::Greeted;
        (transaction, self.end_replies(transaction))
    }

    /// Number of final replies. RFC 2033 §4.2: one for each accepted RCPT.
    pub(super) fn end_replies(&self, transaction: Transaction) -> usize {
        match self.settings.protocol {
            Protocol::Smtp => 1,
            Protocol::Lmtp => transaction.accepted.max(1),
        }
    }

    /// Refuses with the given number of replies, counted as one error.
    pub(super) fn refuse_each(&mut self, replies: usize, reply: &Reply, actions: &mut Actions) {
        if reply.code() != 421 {
            (1..replies).for_each(|_| self.send(reply, actions));
        }
        self.refuse(reply, actions);
    }

    pub(super) fn message_answered(&mut self, answer: Answer, actions: &mut Actions) {
        let (transaction, replies) = self.end_transaction();
        match answer {
            Answer::Committed(reply) | Answer::Discarded(reply) if !is_negative(&reply) => {
                self.forgive();
                let reply = if reply.code() == 250 { reply } else { replies::DONE };
                (0..replies).for_each(|_| self.send(&reply, actions));
            }
            Answer::Reply(reply) | Answer::Committed(reply) | Answer::Discarded(reply) if is_negative(&reply) => {
                self.refuse_each(replies, &reply, actions);
            }
            Answer::CommittedEach(each) => self.committed_each(transaction, each, actions),
            Answer::Close(reply) => self.close(&closing(reply), actions),
            // All other answers would give a positive reply without a commit.
            Answer::Ok
            | Answer::OkWithout(_)
            | Answer::Done
            | Answer::Reply(_)
            | Answer::Committed(_)
            | Answer::Challenge(_)
            | Answer::Authenticated
            | Answer::Discarded(_) => self.refuse_each(replies, &replies::INTERNAL, actions),
        }
    }

    /// Sends the final replies. LMTP: the replies as given. PRDR: 353, a reply for each recipient, and a reply for the
    /// message. Otherwise: positive if any recipient accepted the message.
    fn committed_each(&mut self, transaction: Transaction, mut each: Vec<Reply>, actions: &mut Actions) {
        for reply in &mut each {
            if reply.code() == 421 || (!is_negative(reply) && reply.code() != 250) {
                *reply = if is_negative(reply) { replies::INTERNAL } else { replies::DONE };
            }
        }
        each.resize(transaction.accepted, replies::INTERNAL);
        let taken = each.iter().find(|reply| !is_negative(reply)).cloned();
        let Some(overall) = taken.clone().or_else(|| each.last().cloned()) else {
            return self.refuse(&replies::INTERNAL, actions);
        };
        if taken.is_some() {
            self.forgive();
        }
        match self.settings.protocol {
            Protocol::Lmtp => {
                each.iter().for_each(|reply| self.send(reply, actions));
                if taken.is_none() {
                    self.count_error(actions);
                }
            }
            Protocol::Smtp => {
                if transaction.each_recipient {
                    self.send(&replies::each_recipient(), actions);
                    each.iter().for_each(|reply| self.send(reply, actions));
                }
                match taken {
                    Some(_) => self.send(&overall, actions),
                    None => self.refuse(&overall, actions),
                }
            }
        }
    }

    pub(super) fn reset_answered(&mut self, then: Then, answer: Answer, actions: &mut Actions) {
        if let Answer::Close(reply) = answer {
            return self.close(&closing(reply), actions);
        }
        match then {
            Then::Skip(incoming) if incoming.reader.is_runaway() => self.close(&replies::RUNAWAY, actions),
            Then::Skip(incoming) => {
                self.deadline = incoming.ends_at.min(self.now + self.settings.data_idle);
                self.state = State::Data(incoming);
            }
            Then::SkipChunk(chunk) => self.begin_chunk(chunk, actions),
            Then::Rset => {
                self.progress = Progress::Greeted;
                self.junk(Bytes::from_static(replies::OK), actions);
            }
            Then::Helo { name, esmtp } => {
                self.progress = Progress::Greeted;
                self.helo(name, esmtp, actions);
            }
        }
    }
}
