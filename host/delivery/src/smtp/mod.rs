//! The transports that speak SMTP or LMTP: one pool of connections for each next hop, many messages over each connection.

mod connect;
mod destination;
mod host;
mod outcome;
mod policy;
mod probe;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use waxwing_net::{Shutdown, Tls, TlsConnector, Verify, drive, spawn};
use waxwing_pipeline::{Handed, Resolver, Transport};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{
    Address, Attempt, BodyType, Clock, Disposition, EnhancedCode, Envelope, MemoryBody, Message, NextHop, Origin, QueueId,
    Recipient, ReversePath, Status, TlsLevel, Via,
};

use connect::{Stream, Target};
use destination::{ConnectionGuard, Destination, Key, Pending};
use host::{ClientHost, NoSession, Refusal};
pub use policy::TlsPolicy;
pub use probe::Prober;

/// Numbers and words of the transport, named as Postfix names them.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// The transport's name in the configuration: `smtp`, `relay` or `lmtp`.
    pub name: String,
    /// `myhostname`: an MX host of this name is ourselves.
    pub myhostname: String,
    /// The host of `relayhost`: it is looked for until it is found.
    pub relayhost: Option<String>,
    /// Time-outs and the name after EHLO.
    pub client: Arc<ClientSettings>,
    /// Which next hops are spoken to over TLS.
    pub tls: TlsPolicy,
    /// Whose certificates are believed; none: there is no TLS.
    pub connector: Option<TlsConnector>,
    /// `smtp_tcp_port`.
    pub port: u16,
    /// `smtp_connect_timeout`, for each address.
    pub connect_timeout: Duration,
    /// `smtp_mx_address_limit`: addresses tried in one attempt.
    pub addresses_max: usize,
    /// `default_destination_concurrency_limit`: connections to one next hop.
    pub connections_max: usize,
    /// `smtp_connection_cache_time_limit`: how long an idle connection is kept.
    pub connection_idle: Duration,
    /// Octets of a message that may be held in memory to convert it for a server without 8BITMIME.
    pub conversion_bytes_max: u64,
}

/// Relays by SMTP, or hands over by LMTP.
pub struct SmtpTransport {
    core: Arc<Core>,
    destinations: Mutex<HashMap<Key, Arc<Destination>>>,
}

/// What every connection task needs.
pub(crate) struct Core {
    pub(crate) settings: SmtpSettings,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
    /// Connections to all next hops together.
    connections: Semaphore,
}

/// Connections of one transport at a time, to whatever next hops: sockets are finite, and the listeners need theirs.
const CONNECTIONS_MAX: usize = 1_000;

/// Next hops without connections whose entries are kept; more are swept.
const IDLE_DESTINATIONS_MAX: usize = 1_000;
/// How long a job may stand first in line before another connection is made for it.
const PATIENCE: Duration = Duration::from_millis(50);

impl SmtpTransport {
    /// Makes the transport; connections are made when there is mail.
    #[must_use]
    pub fn new(settings: SmtpSettings, resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Self {
        let core = Core { settings, resolver, clock, shutdown, connections: Semaphore::new(CONNECTIONS_MAX) };
        Self { core: Arc::new(core), destinations: Mutex::default() }
    }

    fn destination(&self, key: &Key) -> Arc<Destination> {
        let mut all = self.destinations.lock();
        if let Some(found) = all.get(key) {
            return Arc::clone(found);
        }
        if all.len() >= IDLE_DESTINATIONS_MAX {
            all.retain(|_, d| Arc::strong_count(d) > 1);
        }
        let settings = &self.core.settings;
        let tls = if key.require_tls { TlsLevel::Verify } else { settings.tls.level(&key.hop) };
        let client = ClientSettings { tls, require_tls: key.require_tls, ..settings.client.as_ref().clone() };
        let new = Arc::new(Destination::new(key.clone(), Arc::new(client), settings.connections_max));
        all.insert(key.clone(), Arc::clone(&new));
        new
    }
}

impl SmtpTransport {
    /// What the next hop says to a recipient, without a message: MAIL, RCPT, RSET. None if the server shuts down first.
    pub async fn probe(&self, hop: &NextHop, sender: &ReversePath, recipient: &Address) -> Option<Disposition> {
        let destination = self.destination(&Key { hop: hop.clone(), require_tls: false });
        let now = self.core.clock.now();
        let smtputf8 = !recipient.to_string().is_ascii() || !sender.to_string().is_ascii();
        let recipient = Recipient::new(recipient.clone());
        let envelope = Envelope {
            sender: sender.clone(),
            recipients: vec![recipient.clone()],
            body_type: BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8,
            require_tls: false,
            origin: Origin::internal(Via::Dsn, now),
        };
        let message = Message {
            id: QueueId::from_u64(0),
            envelope: Arc::new(envelope),
            head: Bytes::new(),
            body: Arc::new(MemoryBody::default()),
            tags: Arc::default(),
        };
        let (reply, outcome) = oneshot::channel();
        let mut pending = Pending::new(vec![(0, recipient)], message, self.core.clock.monotonic(), reply);
        pending.probe = true;
        destination.push(pending);
        attend(&self.core, &destination);
        outcome.await.ok()?.dispositions.pop().map(|(_, disposition)| disposition)
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    fn name(&self) -> &str {
        &self.core.settings.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed {
        // RFC 8689 is about relaying; LMTP is the delivery at its end.
        let require_tls = message.envelope.require_tls && !self.core.settings.client.lmtp;
        let destination = self.destination(&Key { hop: attempt.hop.clone(), require_tls });
        let (reply, outcome) = oneshot::channel();
        let recipient = |index: &u32| Some((*index, message.envelope.recipients.get(*index as usize)?.clone()));
        let recipients: Vec<(u32, Recipient)> = attempt.recipients.iter().filter_map(recipient).collect();
        destination.push(Pending::new(recipients, message.clone(), self.core.clock.monotonic(), reply));
        attend(&self.core, &destination);
        outcome.await.unwrap_or_else(|_| Handed::cut_off())
    }
}

/// Sees to it that a line that is not empty has a connection, or a watch that makes one.
fn attend(core: &Arc<Core>, destination: &Arc<Destination>) {
    if core.shutdown.is_triggered() {
        return destination.abandon();
    }
    if let Some(guard) = destination.wants_connection() {
        spawn_connection(core, destination, guard);
    }
    if destination.wants_watch() {
        drop(spawn("smtp-watch", watch(Arc::clone(core), Arc::clone(destination))));
    }
}

/// Makes more connections while a job stands first in line for long: the server may be slow rather than busy.
async fn watch(core: Arc<Core>, destination: Arc<Destination>) {
    let mut first = None;
    let mut shutdown = core.shutdown.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            () = shutdown.wait() => destination.abandon(),
        }
        let now = destination.first_in_line();
        if now.is_none() && destination.ends_watch() {
            return;
        }
        if now.is_some()
            && now == first
            && let Some(guard) = destination.one_more_connection()
        {
            spawn_connection(&core, &destination, guard);
        }
        first = now;
    }
}

fn spawn_connection(core: &Arc<Core>, destination: &Arc<Destination>, guard: ConnectionGuard) {
    let (core, destination) = (Arc::clone(core), Arc::clone(destination));
    drop(spawn("smtp-connection", async move {
        match connection(&core, &destination).await {
            Ok(()) => drop(guard),
            Err(disposition) => guard.give_up(disposition),
        }
        // Only now does the connection not count any more: what was pushed since, or came back, must not be left alone.
        attend(&core, &destination);
    }));
}

/// Tries the next hop's addresses in turn until one serves, or says what is to become of what waits.
async fn connection(core: &Arc<Core>, destination: &Arc<Destination>) -> Result<(), Disposition> {
    // The semaphore is never closed.
    let _permit = core.connections.acquire().await;
    let mut list: Vec<Target> = connect::targets(core, destination.hop()).await?.list;
    list.truncate(core.settings.addresses_max.max(1));
    let mut last = deferred(Status::local(EnhancedCode::new(4, 4, 1), "no address to connect to"));
    for (number, target) in list.iter().enumerate() {
        if !destination.has_work() {
            return Ok(());
        }
        let mut served = serve(core, destination, target, destination.client()).await;
        if matches!(served, Err(NoSession::InTheClear)) {
            let client = Arc::new(ClientSettings { tls: TlsLevel::None, ..destination.client().as_ref().clone() });
            served = serve(core, destination, target, &client).await;
        }
        let disposition = match served {
            Ok(()) => return Ok(()),
            Err(NoSession::Refused(disposition)) => disposition,
            Err(NoSession::InTheClear) => deferred(Status::local(EnhancedCode::new(4, 7, 5), "the handshake for TLS failed")),
        };
        // A server that will not talk to us for good does not speak for one that can't now.
        if number == 0 || matches!(last, Disposition::Failed(_)) || matches!(disposition, Disposition::Deferred { .. }) {
            last = disposition;
        }
    }
    Err(last)
}

fn deferred(status: Status) -> Disposition {
    Disposition::Deferred { status, not_before: None }
}

/// One connection to one address: until it ends, or no session comes about.
async fn serve(
    core: &Arc<Core>,
    destination: &Arc<Destination>,
    target: &Target,
    client: &Arc<ClientSettings>,
) -> Result<(), NoSession> {
    if destination.requires_tls() && !target.is_named {
        let why = format!("the name {} came by a DNS answer that nobody vouches for", target.host());
        return Err(NoSession::Refused(outcome::tls_unavailable(&why, None)));
    }
    let stream = connect::open(core, target).await.map_err(|status| NoSession::Refused(deferred(status)))?;
    // Any certificate will do for the handshake: the session knows whether it was verified, and what that means.
    let tls = core.settings.connector.as_ref().and_then(|c| c.to(target.host(), Verify::Opportunistic).ok());
    let tls = tls.map_or(Tls::None, Tls::Connect);
    let session = ClientSession::new(Arc::clone(client));
    let refusal = Refusal::default();
    let (core, destination) = (Arc::clone(core), Arc::clone(destination));
    let (clock, shutdown) = (Arc::clone(&core.clock), core.shutdown.clone());
    let host = ClientHost::new(core, destination, Arc::clone(client), target.to_string(), refusal.clone());
    match stream {
        Stream::Tcp(stream) => drive(stream, tls, session, host, clock, shutdown).await,
        Stream::Unix(stream) => drive(stream, tls, session, host, clock, shutdown).await,
    };
    refusal.take().map_or(Ok(()), Err)
}
