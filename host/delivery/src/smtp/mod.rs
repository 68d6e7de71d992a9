//! SMTP and LMTP client transports: a pool of connections for each next hop, many messages over each connection.

mod connect;
mod destination;
mod dispositions;
mod prober;
mod session_handler;
mod tls_policy;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use waxwing_net::{ServerVerification, Shutdown, TlsConnector, TlsMode, drive, spawn};
use waxwing_pipeline::{DeliveryResult, Resolver, Transport};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{
    Address, Attempt, BodyType, Clock, Disposition, EnhancedCode, Envelope, MemoryBody, Message, NextHop, Origin, QueueId,
    Recipient, ReversePath, Source, Status, TlsLevel,
};

use connect::{ClientStream, ConnectTarget};
use destination::{ConnectionPermit, Destination, DestinationKey, PendingDelivery};
pub use prober::Prober;
use session_handler::{ClientSessionHandler, ConnectFailure, FailureSlot};
pub use tls_policy::TlsPolicy;

/// Settings of an SMTP or LMTP transport, named like Postfix parameters.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// Name of the transport in the configuration: `smtp`, `relay` or `lmtp`.
    pub name: String,
    /// `myhostname`: MX hosts of equal name are the server itself.
    pub myhostname: String,
    /// Host of `relayhost`: lookup failures of the relay host are temporary.
    pub relayhost: Option<String>,
    /// Settings of client sessions before the TLS level of a destination is set.
    pub client: Arc<ClientSettings>,
    /// TLS levels by next hop.
    pub tls: TlsPolicy,
    /// TLS connector with the trusted certificates; none disables TLS.
    pub connector: Option<TlsConnector>,
    /// `smtp_mx_address_limit`: addresses tried in one attempt.
    pub smtp_mx_address_limit: usize,
    /// `default_destination_concurrency_limit`: connections to one next hop.
    pub default_destination_concurrency_limit: usize,
    /// Maximum octets of a message held in memory for conversion to 7-bit (servers without 8BITMIME).
    pub conversion_bytes_max: u64,
}

/// Transport for relaying by SMTP or delivery by LMTP.
pub struct SmtpTransport {
    context: Arc<SmtpContext>,
    destinations: Mutex<HashMap<DestinationKey, Arc<Destination>>>,
}

/// State shared by all connection tasks.
pub(crate) struct SmtpContext {
    pub(crate) settings: SmtpSettings,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
    /// Permits for connections to all next hops together.
    connection_permits: Semaphore,
}

/// Maximum number of connections of one transport to all next hops: sockets are finite, and listeners need some.
const CONNECTIONS_MAX: usize = 1_000;

/// Number of destinations kept without connections; beyond, unused entries are removed.
const DESTINATIONS_MAX: usize = 1_000;
/// Wait of a delivery at the front of the queue before another connection is opened.
const STALL_TIME: Duration = Duration::from_millis(50);

impl SmtpTransport {
    /// Creates the transport; connections are opened on demand.
    #[must_use]
    pub fn new(settings: SmtpSettings, resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Self {
        let core = SmtpContext { settings, resolver, clock, shutdown, connection_permits: Semaphore::new(CONNECTIONS_MAX) };
        Self { context: Arc::new(core), destinations: Mutex::default() }
    }

    fn destination(&self, key: &DestinationKey) -> Arc<Destination> {
        let mut all = self.destinations.lock();
        if let Some(existing) = all.get(key) {
            return Arc::clone(existing);
        }
        if all.len() >= DESTINATIONS_MAX {
            all.retain(|_, d| Arc::strong_count(d) > 1);
        }
        let settings = &self.context.settings;
        let tls = if key.require_tls { TlsLevel::Verify } else { settings.tls.level(&key.hop) };
        let client = ClientSettings { tls, require_tls: key.require_tls, ..settings.client.as_ref().clone() };
        let new = Arc::new(Destination::new(key.clone(), Arc::new(client), settings.default_destination_concurrency_limit));
        all.insert(key.clone(), Arc::clone(&new));
        new
    }
}

impl SmtpTransport {
    /// Probes a recipient at the next hop with MAIL, RCPT and RSET, without a message. Returns none if the server shuts down
    /// first.
    pub async fn probe(&self, hop: &NextHop, sender: &ReversePath, recipient: &Address) -> Option<Disposition> {
        let destination = self.destination(&DestinationKey { hop: hop.clone(), require_tls: false });
        let now = self.context.clock.now();
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
            origin: Origin::internal(Source::Dsn, now),
        };
        let message = Message {
            id: QueueId::from_u64(0),
            envelope: Arc::new(envelope),
            header: Bytes::new(),
            body: Arc::new(MemoryBody::default()),
            tags: Arc::default(),
        };
        let (reply, outcome) = oneshot::channel();
        let mut pending = PendingDelivery::new(vec![(0, recipient)], message, self.context.clock.monotonic(), reply);
        pending.is_probe = true;
        destination.push(pending);
        ensure_connections(&self.context, &destination);
        outcome.await.ok()?.dispositions.pop().map(|(_, disposition)| disposition)
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    fn name(&self) -> &str {
        &self.context.settings.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> DeliveryResult {
        // RFC 8689 concerns relaying; LMTP is final delivery.
        let require_tls = message.envelope.require_tls && !self.context.settings.client.lmtp;
        let destination = self.destination(&DestinationKey { hop: attempt.next_hop.clone(), require_tls });
        let (reply, outcome) = oneshot::channel();
        let recipient = |index: &u32| Some((*index, message.envelope.recipients.get(*index as usize)?.clone()));
        let recipients: Vec<(u32, Recipient)> = attempt.recipients.iter().filter_map(recipient).collect();
        destination.push(PendingDelivery::new(recipients, message.clone(), self.context.clock.monotonic(), reply));
        ensure_connections(&self.context, &destination);
        outcome.await.unwrap_or_else(|_| DeliveryResult::aborted())
    }
}

/// Ensures a connection, or a stall watch, for a non-empty queue.
fn ensure_connections(core: &Arc<SmtpContext>, destination: &Arc<Destination>) {
    if core.shutdown.is_triggered() {
        return destination.drop_pending();
    }
    if let Some(guard) = destination.permit_if_queue_long() {
        spawn_connection(core, destination, guard);
    }
    if destination.needs_stall_watch() {
        drop(spawn("smtp-watch", add_connections_when_stalled(Arc::clone(core), Arc::clone(destination))));
    }
}

/// Opens more connections while the front of the queue stalls: the server may be slow rather than busy.
async fn add_connections_when_stalled(core: Arc<SmtpContext>, destination: Arc<Destination>) {
    let mut first = None;
    let mut shutdown = core.shutdown.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(STALL_TIME) => {}
            () = shutdown.wait() => destination.drop_pending(),
        }
        let now = destination.front_key();
        if now.is_none() && destination.end_stall_watch() {
            return;
        }
        if now.is_some()
            && now == first
            && let Some(guard) = destination.permit_within_limit()
        {
            spawn_connection(&core, &destination, guard);
        }
        first = now;
    }
}

fn spawn_connection(core: &Arc<SmtpContext>, destination: &Arc<Destination>, guard: ConnectionPermit) {
    let (core, destination) = (Arc::clone(core), Arc::clone(destination));
    drop(spawn("smtp-connection", async move {
        match run_connection(&core, &destination).await {
            Ok(()) => drop(guard),
            Err(disposition) => guard.fail_pending(disposition),
        }
        // The connection stops counting only here: deliveries pushed since, or put back, still need a connection.
        ensure_connections(&core, &destination);
    }));
}

/// Tries the next hop's addresses in order until one serves; errors with the disposition of pending deliveries.
async fn run_connection(core: &Arc<SmtpContext>, destination: &Arc<Destination>) -> Result<(), Disposition> {
    // The semaphore is never closed.
    let _permit = core.connection_permits.acquire().await;
    let mut list: Vec<ConnectTarget> = connect::resolve_targets(core, destination.hop()).await?.list;
    list.truncate(core.settings.smtp_mx_address_limit.max(1));
    let mut last = deferred(Status::local(EnhancedCode::new(4, 4, 1), "no address to connect to"));
    for (number, target) in list.iter().enumerate() {
        if !destination.has_pending() {
            return Ok(());
        }
        let mut result = run_session(core, destination, target, destination.client()).await;
        if matches!(result, Err(ConnectFailure::RetryWithoutTls)) {
            let client = Arc::new(ClientSettings { tls: TlsLevel::None, ..destination.client().as_ref().clone() });
            result = run_session(core, destination, target, &client).await;
        }
        let disposition = match result {
            Ok(()) => return Ok(()),
            Err(ConnectFailure::Refused(disposition)) => disposition,
            Err(ConnectFailure::RetryWithoutTls) => {
                deferred(Status::local(EnhancedCode::new(4, 7, 5), "the TLS handshake failed"))
            }
        };
        // A permanent refusal by one server must not override a temporary failure of another.
        if number == 0 || matches!(last, Disposition::Failed(_)) || matches!(disposition, Disposition::Deferred { .. }) {
            last = disposition;
        }
    }
    Err(last)
}

fn deferred(status: Status) -> Disposition {
    Disposition::Deferred { status, not_before: None }
}

/// Runs one connection to one address until its end; errors if no session is established.
async fn run_session(
    core: &Arc<SmtpContext>,
    destination: &Arc<Destination>,
    target: &ConnectTarget,
    client: &Arc<ClientSettings>,
) -> Result<(), ConnectFailure> {
    if destination.requires_tls() && !target.has_trusted_name {
        let why = format!("the host name {} comes from unauthenticated DNS", target.host());
        return Err(ConnectFailure::Refused(dispositions::tls_unavailable(&why, None)));
    }
    let stream = connect::open_connection(core, target).await.map_err(|status| ConnectFailure::Refused(deferred(status)))?;
    // The handshake accepts any certificate: the session knows the result of verification and applies the policy.
    let tls = core.settings.connector.as_ref().and_then(|c| c.client_for(target.host(), ServerVerification::Opportunistic).ok());
    let tls = tls.map_or(TlsMode::None, TlsMode::Connect);
    let session = ClientSession::new(Arc::clone(client));
    let refusal = FailureSlot::default();
    let (core, destination) = (Arc::clone(core), Arc::clone(destination));
    let (clock, shutdown) = (Arc::clone(&core.clock), core.shutdown.clone());
    let host = ClientSessionHandler::new(core, destination, Arc::clone(client), target.to_string(), refusal.clone());
    match stream {
        ClientStream::Tcp(stream) => drive(stream, tls, session, host, clock, shutdown).await,
        ClientStream::Unix(stream) => drive(stream, tls, session, host, clock, shutdown).await,
    };
    refusal.take().map_or(Ok(()), Err)
}
