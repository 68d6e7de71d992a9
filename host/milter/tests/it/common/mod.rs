//! A milter that does as it is told, and the mail that it is asked about.
#![allow(clippy::wildcard_enum_match_arm, reason = "these are tests")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waxwing_message::{Field, HeaderBlock};
use waxwing_milter::codec::{ActionFlags, MilterCommand, MilterOptions, MilterResponse, PacketSplitter, ProtocolFlags};
use waxwing_milter::{Milter, MilterSettings};
use waxwing_net::spawn;
use waxwing_pipeline::{
    Binding, BindingMode, BindingSettings, Context, ContextRecipient, Event, FaultPolicy, HookSession, Pipeline, Plugin,
    SessionClient,
};
use waxwing_testkit::FixedClassifier;
use waxwing_types::{Address, AddressClass, Endpoint, ManualClock, MemoryBody, QueueId, Recipient, ReversePath, Source, Verdict};

/// What it does at a command.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Say(Vec<MilterResponse>),
    /// One after the other, the last for ever.
    InTurn(Arc<Mutex<Vec<MilterResponse>>>),
    /// Octets as they are.
    Raw(&'static [u8]),
    /// Nothing, for ever.
    Silence,
    /// Signs of work so often, each after a pause, then an answer.
    Work(usize, Duration, MilterResponse),
    /// Closes the connection.
    Close,
}

#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) terms: MilterOptions,
    pub(crate) acts: HashMap<u8, Act>,
    /// Writes each octet alone.
    pub(crate) chop: bool,
}

impl Script {
    pub(crate) fn new(steps: ProtocolFlags) -> Self {
        Self {
            terms: MilterOptions { version: 6, actions: ActionFlags::ALL, protocol: steps, macros: Vec::new() },
            acts: HashMap::new(),
            chop: false,
        }
    }

    pub(crate) fn at(mut self, code: u8, act: Act) -> Self {
        self.acts.insert(code, act);
        self
    }

    pub(crate) fn says(self, code: u8, responses: Vec<MilterResponse>) -> Self {
        self.at(code, Act::Say(responses))
    }
}

/// The milter and what it heard, over all connections.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<MilterCommand>>>,
    connections: Arc<Mutex<usize>>,
    reads: Arc<Mutex<usize>>,
}

impl Fake {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            heard: Arc::default(),
            connections: Arc::default(),
            reads: Arc::default(),
        };
        let (heard, connections, reads) = (Arc::clone(&fake.heard), Arc::clone(&fake.connections), Arc::clone(&fake.reads));
        drop(spawn("fake milter", async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                let one = serve(stream, script.clone(), Arc::clone(&heard), Arc::clone(&reads));
                drop(spawn("fake milter connection", one));
            }
        }));
        fake
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        format!("inet:{}@127.0.0.1", self.address.port()).parse().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// How often it read something.
    pub(crate) fn reads(&self) -> usize {
        *self.reads.lock().unwrap()
    }

    pub(crate) fn heard(&self) -> Vec<MilterCommand> {
        self.heard.lock().unwrap().clone()
    }

    /// The codes of what it heard, macros and the negotiation left out.
    pub(crate) fn codes(&self) -> String {
        self.heard().iter().map(|c| c.code() as char).filter(|c| !matches!(c, 'D' | 'O')).collect()
    }

    /// The macros before the first command of this code.
    pub(crate) fn macros(&self, code: u8) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let list = self.heard().into_iter().find_map(|c| match c {
            MilterCommand::Macros(of, list) if of == code => Some(list),
            _ => None,
        });
        list.unwrap_or_default().iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    /// Waits until it heard that.
    pub(crate) async fn hears(&self, wanted: &str) {
        for _ in 0..200 {
            if self.codes() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("heard {} and not {wanted}", self.codes());
    }
}

async fn serve(mut stream: TcpStream, script: Script, heard: Arc<Mutex<Vec<MilterCommand>>>, reads: Arc<Mutex<usize>>) {
    stream.set_nodelay(true).unwrap();
    let (mut frames, mut buffer) = (PacketSplitter::new(1 << 20), vec![0; 1 << 16]);
    loop {
        while let Ok(Some(frame)) = frames.next_packet() {
            let command = MilterCommand::parse(frame).unwrap();
            heard.lock().unwrap().push(command.clone());
            let act = match (&command, script.acts.get(&command.code())) {
                (_, Some(act)) => act.clone(),
                (MilterCommand::Negotiate(_), None) => Act::Say(vec![MilterResponse::Negotiate(script.terms.clone())]),
                (_, None) if is_unanswered(&command, script.terms.protocol) => continue,
                (_, None) => Act::Say(vec![MilterResponse::Continue]),
            };
            if !act_out(&mut stream, act, script.chop).await {
                return;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                *reads.lock().unwrap() += 1;
                frames.push(&buffer[..count]);
            }
        }
    }
}

async fn act_out(stream: &mut TcpStream, act: Act, chop: bool) -> bool {
    let mut wire = Vec::new();
    match act {
        Act::Say(responses) => responses.iter().for_each(|r| r.write_to(&mut wire)),
        Act::InTurn(turns) => {
            let mut turns = turns.lock().unwrap();
            let response = if turns.len() > 1 { turns.remove(0) } else { turns[0].clone() };
            response.write_to(&mut wire);
        }
        Act::Raw(octets) => wire.extend_from_slice(octets),
        Act::Silence => std::future::pending().await,
        Act::Close => return false,
        Act::Work(times, pause, last) => {
            for _ in 0..times {
                tokio::time::sleep(pause).await;
                let mut sign = Vec::new();
                MilterResponse::Progress.write_to(&mut sign);
                stream.write_all(&sign).await.unwrap();
            }
            tokio::time::sleep(pause).await;
            last.write_to(&mut wire);
        }
    }
    let size = if chop { 1 } else { wire.len().max(1) };
    for piece in wire.chunks(size) {
        if stream.write_all(piece).await.is_err() {
            return false;
        }
        if chop {
            tokio::task::yield_now().await;
        }
    }
    true
}

fn is_unanswered(command: &MilterCommand, steps: ProtocolFlags) -> bool {
    let unless = |flag| steps.has(flag);
    match command {
        MilterCommand::Macros(..) | MilterCommand::Abort | MilterCommand::Quit | MilterCommand::QuitNewConnection => true,
        MilterCommand::Connect(..) => unless(ProtocolFlags::NO_REPLY_CONNECT),
        MilterCommand::Helo(_) => unless(ProtocolFlags::NO_REPLY_HELO),
        MilterCommand::Mail(_) => unless(ProtocolFlags::NO_REPLY_MAIL),
        MilterCommand::Rcpt(_) => unless(ProtocolFlags::NO_REPLY_RCPT),
        MilterCommand::Data => unless(ProtocolFlags::NO_REPLY_DATA),
        MilterCommand::Header(..) => unless(ProtocolFlags::NO_REPLY_HEADER),
        MilterCommand::EndOfHeader => unless(ProtocolFlags::NO_REPLY_END_OF_HEADER),
        MilterCommand::Body(_) => unless(ProtocolFlags::NO_REPLY_BODY),
        MilterCommand::Unknown(_) => unless(ProtocolFlags::NO_REPLY_UNKNOWN),
        MilterCommand::Negotiate(_) | MilterCommand::EndOfBody(_) => false,
    }
}

/// No reply to anything but the end of the message.
pub(crate) fn quiet() -> ProtocolFlags {
    [
        ProtocolFlags::NO_REPLY_CONNECT,
        ProtocolFlags::NO_REPLY_HELO,
        ProtocolFlags::NO_REPLY_MAIL,
        ProtocolFlags::NO_REPLY_RCPT,
        ProtocolFlags::NO_REPLY_DATA,
        ProtocolFlags::NO_REPLY_HEADER,
        ProtocolFlags::NO_REPLY_END_OF_HEADER,
        ProtocolFlags::NO_REPLY_BODY,
    ]
    .into_iter()
    .fold(ProtocolFlags(0), ProtocolFlags::with)
}

pub(crate) fn settings(endpoint: Endpoint) -> MilterSettings {
    let mut settings = MilterSettings::new(endpoint, "mx.example");
    settings.connect_timeout = Duration::from_millis(500);
    settings.command_timeout = Duration::from_millis(500);
    settings.content_timeout = Duration::from_millis(500);
    settings
}

/// A server with this milter alone.
pub(crate) fn pipeline(settings: MilterSettings, mode: BindingMode, on_fault: FaultPolicy) -> Pipeline {
    let milter = Milter::new(settings) as Arc<dyn Plugin>;
    let binding = Binding::new("m", milter, BindingSettings { mode, on_fault, ..BindingSettings::default() });
    Pipeline::new(vec![binding], Arc::new(FixedClassifier::REMOTE), Arc::new(ManualClock::default()))
}

pub(crate) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(crate) const ID: u64 = 4711;

/// A session as intake has it: its own chain, and one for each transaction.
pub(crate) struct Session {
    pub(crate) pipeline: Pipeline,
    pub(crate) chain: HookSession,
    pub(crate) context: Context,
}

/// A transaction as intake has it.
pub(crate) struct Transaction {
    pub(crate) chain: HookSession,
    pub(crate) context: Context,
}

impl Session {
    pub(crate) fn new(pipeline: Pipeline) -> Self {
        let client = SessionClient { peer: "192.0.2.7:1234".parse().unwrap(), name: None, listener: "smtp".into() };
        let chain = pipeline.open_session();
        Self { pipeline, chain, context: Context::new(Source::Smtp, Some(Arc::new(client))) }
    }

    pub(crate) async fn connect(&mut self) -> Verdict {
        self.pipeline.verdict(&mut self.chain, &mut self.context, Event::Connect).await
    }

    pub(crate) async fn helo(&mut self, name: &str) -> Verdict {
        self.context.helo = Some(name.into());
        self.pipeline.verdict(&mut self.chain, &mut self.context, Event::Helo(name.to_owned())).await
    }

    pub(crate) fn transaction(&self, id: u64) -> Transaction {
        let mut context = self.context.clone();
        context.id = Some(QueueId::from_u64(id));
        context.sender = Some(Arc::new(ReversePath::Address(address("ann@from.example"))));
        Transaction { chain: self.pipeline.open_session(), context }
    }

    pub(crate) async fn mail(&self, t: &mut Transaction) -> Verdict {
        let sender = t.context.sender.as_deref().cloned().unwrap();
        self.pipeline.verdict(&mut t.chain, &mut t.context, Event::Mail(sender)).await
    }

    pub(crate) async fn rcpt(&self, t: &mut Transaction, to: &str) -> Verdict {
        let added = push(&mut t.context, to);
        self.pipeline.verdict(&mut t.chain, &mut t.context, Event::Rcpt(added)).await
    }

    pub(crate) async fn data(&self, t: &mut Transaction) -> Verdict {
        self.pipeline.verdict(&mut t.chain, &mut t.context, Event::Data).await
    }

    pub(crate) async fn message(&self, t: &mut Transaction) -> Verdict {
        fill(&mut t.context);
        self.pipeline.verdict(&mut t.chain, &mut t.context, Event::Message).await
    }

    pub(crate) async fn abort(&self, t: &mut Transaction) {
        self.pipeline.notify(&mut t.chain, &mut t.context, Event::Abort).await;
    }

    /// All of a transaction up to the message's verdict; the verdicts before must let it pass.
    pub(crate) async fn whole(&self, id: u64) -> (Transaction, Verdict) {
        let mut t = self.transaction(id);
        assert_eq!(self.mail(&mut t).await, Verdict::Next);
        assert_eq!(self.rcpt(&mut t, "bob@to.example").await, Verdict::Next);
        assert_eq!(self.data(&mut t).await, Verdict::Next);
        let verdict = self.message(&mut t).await;
        (t, verdict)
    }
}

pub(crate) fn push(context: &mut Context, to: &str) -> ContextRecipient {
    context.push_recipient(Recipient::new(address(to)), AddressClass::Remote, Vec::new());
    context.recipients.last().cloned().unwrap()
}

/// A message with this server's Received field on top.
pub(crate) fn fill(context: &mut Context) {
    let own = format!("from a (b [192.0.2.7])\r\n\tby mx.example (Waxwing) with ESMTP id {};\r\n\tnow", context.id.unwrap());
    let fields = "Subject: hello\r\n there\r\nX-A: 1\r\nX-A: 2\r\n";
    let mut head = HeaderBlock::parse(Bytes::from_static(fields.as_bytes()), true);
    head.prepend(Field::new("Received", own.as_bytes()).unwrap());
    context.header = Some(Arc::new(head));
    context.body = Some(Arc::new(MemoryBody::new(Bytes::from_static(b"body\r\n"))));
}

/// Names and values of the header, our own Received field as `OWN`.
pub(crate) fn header(context: &Context) -> Vec<String> {
    let own = format!("id {}", context.id.unwrap());
    let word = |field: &Field| match field.unfolded() {
        value if value.contains(&own) => "OWN".to_owned(),
        value => format!("{}: {value}", field.name()),
    };
    context.header.as_ref().unwrap().fields().iter().map(word).collect()
}

/// The fault in the newest step of a chain.
pub(crate) fn fault(chain: &HookSession) -> String {
    chain.trace.last().and_then(|entry| entry.fault.clone()).unwrap_or_default()
}
