//! What a milter has been told over one connection, and how it is told the rest.
//!
//! A hook is asked about with whatever the milter needs to know before and has not heard. So it makes no difference at which hook a
//! milter is first asked, and mail that is made here needs no way of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use waxwing_pipeline::{Answer, Changes, Context, ContextRecipient, Event, Outcome};
use waxwing_types::{Parameter, QueueId, ReversePath, Verdict};

use crate::codec::{CHUNK_BYTES_MAX, Command, Family, Stage, Steps};
use crate::edits::Edits;
use crate::heads::Heads;
use crate::line::Line;
use crate::macros::{client_address, client_name, macros};
use crate::said::{Said, said};
use crate::settings::{END_OF_BODY_TOTAL, MilterSettings};
use crate::step::Step;
use crate::trouble::Trouble;

/// A connection and what the milter knows by it.
pub(crate) struct Talk {
    line: Line,
    connected: bool,
    helo: Option<Arc<str>>,
    /// What it said of the whole session.
    session: Option<Said>,
    transaction: Option<Transaction>,
    /// The transaction of which it wants to hear no more.
    done_with: Option<QueueId>,
}

/// What it knows of a transaction under way.
struct Transaction {
    id: Option<QueueId>,
    recipients: Vec<u32>,
    data: bool,
}

impl Talk {
    pub(crate) async fn open(settings: &MilterSettings) -> Result<Self, Trouble> {
        let line = Line::open(&settings.endpoint, settings.connect_time).await?;
        Ok(Self { line, connected: false, helo: None, session: None, transaction: None, done_with: None })
    }

    /// Asks. An error leaves the connection unfit for more.
    pub(crate) async fn ask(&mut self, settings: &MilterSettings, event: &Event, context: &Context) -> Result<Outcome, Trouble> {
        let mut teller = Teller { settings, context, talk: self };
        let of_session = teller.session().await?;
        match (of_session, event) {
            // What was said at CONNECT or HELO is said again at each later step.
            (Some(Said::Decides(verdict)), _) => return Ok(Outcome::of(Answer::Verdict(verdict))),
            // The session's conversation stays: with it would go the connection.
            (_, Event::Connect | Event::Helo(_)) => return Ok(go_on()),
            (Some(_accepted), _) => return Ok(ended(Said::Accept)),
            (None, _) => {}
        }
        if context.id.is_some() && teller.talk.done_with == context.id {
            return Ok(ended(Said::Accept));
        }
        match teller.transaction(event).await? {
            Ok(outcome) => Ok(outcome),
            Err(said) => {
                self.done_with = context.id;
                self.abort(settings.command_time).await?;
                Ok(ended(said))
            }
        }
    }

    /// The transaction under way comes to nothing.
    pub(crate) async fn abort(&mut self, time: Duration) -> Result<(), Trouble> {
        self.forget();
        self.line.flush("at the end of the transaction", time).await
    }

    fn forget(&mut self) {
        if self.transaction.take().is_some() {
            self.line.push(&Command::Abort);
        }
    }
}

/// One question, with all that is needed to ask it.
struct Teller<'t> {
    settings: &'t MilterSettings,
    context: &'t Context,
    talk: &'t mut Talk,
}

/// What was asked for; or what the milter said that ends the transaction for it.
type Told<T> = Result<Result<T, Said>, Trouble>;

impl Teller<'_> {
    /// One step, if the milter wants it; its macros in any case.
    async fn tell(&mut self, step: Step, recipient: Option<&ContextRecipient>, command: Command) -> Result<Said, Trouble> {
        let Self { settings, context, talk } = self;
        let line = &mut talk.line;
        if let Some(stage) = step.stage() {
            let list = macros(stage, line.terms(), &settings.hostname, context, recipient);
            if !list.is_empty() {
                line.push(&Command::Macros(stage.command(), list));
            }
        }
        let (version, steps) = (line.terms().version, line.terms().steps);
        if step.is_unwanted(version, steps) {
            return Ok(Said::GoOn);
        }
        line.push(&command);
        if step.is_unanswered(steps) {
            line.relieve(step.name(), settings.command_time).await?;
            return Ok(Said::GoOn);
        }
        let response = line.reply(step.name(), settings.command_time).await?;
        said(&response, step, steps)
    }

    /// CONNECT and HELO, as far as they are new; what was said of the session.
    async fn session(&mut self) -> Result<Option<Said>, Trouble> {
        if !self.talk.connected {
            self.talk.connected = true;
            let address = client_address(self.context);
            let port = self.context.client.as_ref().map_or(0, |client| client.peer.port());
            let ip = Bytes::from(address.to_string());
            let family = if address.is_ipv4() { Family::Inet(port, ip) } else { Family::Inet6(port, ip) };
            let name = Bytes::copy_from_slice(client_name(self.context).as_bytes());
            let said = self.tell(Step::Connect, None, Command::Connect(name, family)).await?;
            self.talk.session = of_interest(said);
        }
        let helo = match (&self.context.helo, &self.context.client) {
            (Some(helo), _) => Some(Arc::clone(helo)),
            (None, Some(_)) => None,
            (None, None) => Some(Arc::from("localhost")),
        };
        if let Some(helo) = helo
            && self.talk.session.is_none()
            && self.talk.helo.as_ref() != Some(&helo)
        {
            self.talk.forget();
            let name = Bytes::copy_from_slice(helo.as_bytes());
            self.talk.helo = Some(helo);
            let said = self.tell(Step::Helo, None, Command::Helo(name)).await?;
            self.talk.session = of_interest(said);
        }
        Ok(self.talk.session.clone())
    }

    async fn transaction(&mut self, event: &Event) -> Told<Outcome> {
        if let Err(said) = self.mail().await? {
            return Ok(Err(said));
        }
        if let Event::Rcpt(recipient) = event {
            return match self.recipients(Some(recipient.index)).await? {
                Ok(dropped) => self.rcpt_outcome(recipient, dropped).await,
                Err(said) => Ok(Err(said)),
            };
        }
        if !matches!(event, Event::Data | Event::Message) {
            // MAIL is told, and every other hook is none of a milter's.
            return Ok(Ok(go_on()));
        }
        let dropped = match self.recipients(None).await? {
            Ok(dropped) => dropped,
            Err(said) => return Ok(Err(said)),
        };
        if let Err(said) = self.data().await? {
            return Ok(Err(said));
        }
        let outcome = if matches!(event, Event::Message) { self.message().await? } else { Ok(go_on()) };
        Ok(outcome.map(|outcome| with_dropped(outcome, dropped)))
    }

    /// MAIL, unless it knows this transaction.
    async fn mail(&mut self) -> Told<()> {
        let id = self.context.id;
        if self.talk.transaction.as_ref().is_some_and(|known| known.id == id) {
            return Ok(Ok(()));
        }
        self.talk.forget();
        self.talk.transaction = Some(Transaction { id, recipients: Vec::new(), data: false });
        let sender = self.context.sender.as_deref().unwrap_or(&ReversePath::Null).to_string();
        let command = Command::Mail(path(&sender, &self.context.mail_parameters));
        Ok(going_on(self.tell(Step::Mail, None, command).await?))
    }

    /// The recipients that it does not know, but for one. Those that it refuses come back with the reason: their RCPT was answered
    /// already. An error: it refuses all that there are, or has enough of the message.
    async fn recipients(&mut self, but: Option<u32>) -> Told<Vec<(u32, String)>> {
        let (mut dropped, mut last) = (Vec::new(), None);
        let all = Arc::clone(&self.context.recipients);
        for recipient in all.iter().filter(|recipient| Some(recipient.index) != but) {
            match self.rcpt(recipient).await? {
                Said::GoOn | Said::Skip => {}
                Said::Decides(Verdict::Reject(reply) | Verdict::Defer(reply)) => {
                    dropped.push((recipient.index, reply.to_string()));
                    last = Some(Verdict::Reject(reply));
                }
                said @ (Said::Accept | Said::Decides(_)) => return Ok(Err(said)),
            }
        }
        match last {
            Some(verdict) if but.is_none() && dropped.len() == all.len() => Ok(Err(Said::Decides(verdict))),
            Some(_) | None => Ok(Ok(dropped)),
        }
    }

    /// RCPT, if it is new and there is still time for one.
    async fn rcpt(&mut self, recipient: &ContextRecipient) -> Result<Said, Trouble> {
        match &mut self.talk.transaction {
            Some(known) if !known.data && !known.recipients.contains(&recipient.index) => known.recipients.push(recipient.index),
            Some(_) | None => return Ok(Said::GoOn),
        }
        let address = recipient.recipient.address.to_string();
        self.tell(Step::Rcpt, Some(recipient), Command::Rcpt(path(&address, &recipient.parameters))).await
    }

    async fn rcpt_outcome(&mut self, recipient: &ContextRecipient, dropped: Vec<(u32, String)>) -> Told<Outcome> {
        Ok(match self.rcpt(recipient).await? {
            Said::GoOn | Said::Skip => Ok(with_dropped(go_on(), dropped)),
            // The one recipient: the transaction goes on.
            Said::Decides(verdict @ (Verdict::Reject(_) | Verdict::Defer(_))) => {
                Ok(with_dropped(Outcome::of(Answer::Verdict(verdict)), dropped))
            }
            said @ (Said::Accept | Said::Decides(_)) => Err(said),
        })
    }

    async fn data(&mut self) -> Told<()> {
        match &mut self.talk.transaction {
            Some(known) if !known.data => known.data = true,
            Some(_) | None => return Ok(Ok(())),
        }
        Ok(going_on(self.tell(Step::Data, None, Command::Data).await?))
    }

    /// The complete message, and what is to become of it.
    async fn message(&mut self) -> Told<Outcome> {
        let context = self.context;
        let Some(head) = &context.head else { return Ok(Ok(go_on())) };
        let heads = Heads::new(head, context.id);
        if let Err(said) = self.header(&heads).await? {
            return Ok(Err(said));
        }
        if let Err(said) = going_on(self.tell(Step::EndOfHeader, None, Command::EndOfHeader).await?) {
            return Ok(Err(said));
        }
        if let Err(said) = self.body().await? {
            return Ok(Err(said));
        }
        match timeout(END_OF_BODY_TOTAL.max(self.settings.content_time), self.end_of_body(heads)).await {
            Ok(outcome) => outcome.map(Ok),
            Err(_) => Err(Trouble::TooLate { what: Step::EndOfBody.name(), time: END_OF_BODY_TOTAL }),
        }
    }

    async fn header(&mut self, heads: &Heads<'_>) -> Told<()> {
        let terms = self.talk.line.terms();
        if Step::Header.is_unwanted(terms.version, terms.steps) {
            return Ok(Ok(()));
        }
        let leading_space = terms.steps.has(Steps::HEADER_LEADING_SPACE);
        for field in heads.shown() {
            let (name, value) = shown(field, leading_space);
            match self.tell(Step::Header, None, Command::Header(name, value)).await? {
                Said::GoOn => {}
                Said::Skip => break,
                said @ (Said::Accept | Said::Decides(_)) => return Ok(Err(said)),
            }
        }
        Ok(Ok(()))
    }

    async fn body(&mut self) -> Told<()> {
        let terms = self.talk.line.terms();
        let Some(body) = &self.context.body else { return Ok(Ok(())) };
        if Step::Body.is_unwanted(terms.version, terms.steps) {
            return Ok(Ok(()));
        }
        let (mut offset, size) = (0, body.size());
        while offset < size {
            let piece = body.read(offset, CHUNK_BYTES_MAX).await.map_err(Trouble::Body)?;
            if piece.is_empty() {
                return Err(Trouble::Body(std::io::ErrorKind::UnexpectedEof.into()));
            }
            offset += piece.len() as u64;
            match self.tell(Step::Body, None, Command::Body(piece)).await? {
                Said::GoOn => {}
                Said::Skip => break,
                said @ (Said::Accept | Said::Decides(_)) => return Ok(Err(said)),
            }
        }
        Ok(Ok(()))
    }

    async fn end_of_body(&mut self, heads: Heads<'_>) -> Result<Outcome, Trouble> {
        let time = self.settings.content_time;
        let step = Step::EndOfBody;
        let terms = self.talk.line.terms().clone();
        let list = macros(Stage::EndOfMessage, &terms, &self.settings.hostname, self.context, None);
        if !list.is_empty() {
            self.talk.line.push(&Command::Macros(Stage::EndOfMessage.command(), list));
        }
        self.talk.line.push(&Command::EndOfBody(Bytes::new()));
        let mut edits = Edits::new(self.settings, &terms, heads, self.context);
        loop {
            let response = self.talk.line.reply(step.name(), time).await?;
            let Some(last) = edits.take(response)? else { continue };
            let said = said(&last, step, terms.steps)?;
            // The milter's transaction ends with this, whatever it is: there is nothing to abort.
            self.talk.transaction = None;
            self.talk.done_with = self.context.id;
            return Ok(match said {
                Said::GoOn | Said::Accept | Said::Skip => {
                    Outcome { answer: Answer::Verdict(Verdict::Continue), changes: edits.into_changes(), log: Vec::new() }
                }
                Said::Decides(verdict) => Outcome::of(Answer::Verdict(verdict)),
            });
        }
    }
}

fn of_interest(said: Said) -> Option<Said> {
    (!matches!(said, Said::GoOn | Said::Skip)).then_some(said)
}

fn going_on(said: Said) -> Result<(), Said> {
    match said {
        Said::GoOn | Said::Skip => Ok(()),
        Said::Accept | Said::Decides(_) => Err(said),
    }
}

fn go_on() -> Outcome {
    Outcome::of(Answer::Verdict(Verdict::Continue))
}

fn with_dropped(mut outcome: Outcome, dropped: Vec<(u32, String)>) -> Outcome {
    // What it deletes itself is not dropped once more: an edit of a recipient that is not there is a fault.
    let deleted = |index: u32| {
        outcome.changes.edits.iter().any(|e| matches!(e, waxwing_types::Edit::RemoveRecipient { index: i } if *i == index))
    };
    let dropped: Vec<_> = dropped.into_iter().filter(|(index, _)| !deleted(*index)).collect();
    outcome.changes.discard_recipients = dropped;
    outcome
}

/// The milter needs no more of this transaction, or has refused it.
fn ended(said: Said) -> Outcome {
    let verdict = match said {
        Said::GoOn | Said::Skip | Said::Accept => Verdict::Continue,
        Said::Decides(verdict) => verdict,
    };
    let changes = Changes { skip_rest: true, ..Changes::default() };
    Outcome { answer: Answer::Verdict(verdict), changes, log: Vec::new() }
}

fn path(address: &str, parameters: &[Parameter]) -> Vec<Bytes> {
    let mut texts = vec![Bytes::from(format!("<{address}>"))];
    texts.extend(parameters.iter().map(|(name, value)| match value {
        Some(value) => Bytes::from(format!("{name}={value}")),
        None => Bytes::from(name.clone()),
    }));
    texts
}

/// Name and value of a field, with folds as LF and white space.
fn shown(field: &waxwing_message::Field, leading_space: bool) -> (Bytes, Bytes) {
    let name = Bytes::copy_from_slice(field.name().as_bytes());
    let raw = field.raw();
    let colon = memchr::memchr(b':', raw).map_or(raw.len(), |colon| colon + 1);
    let value = raw.get(colon..).unwrap_or_default();
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let value = match value.first() {
        Some(b' ' | b'\t') if !leading_space => value.get(1..).unwrap_or_default(),
        Some(_) | None => value,
    };
    let mut folded = Vec::with_capacity(value.len());
    for line in value.split_inclusive(|octet| *octet == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(text) => {
                folded.extend_from_slice(text);
                folded.push(b'\n');
            }
            None => folded.extend_from_slice(line),
        }
    }
    (name, Bytes::from(folded))
}
