//! The SMTP transport: one pool of connections for each next hop, many messages over each connection.

mod connect;
mod destination;
mod host;
mod outcome;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use waxwing_net::{Shutdown, drive, spawn};
use waxwing_pipeline::{Handed, Resolver, Transport};
use waxwing_smtp::{ClientSession, ClientSettings};
use waxwing_types::{Address, Attempt, Clock, Disposition, EnhancedCode, Message, NextHop, Status};

use connect::Target;
use destination::{ConnectionGuard, Destination, Pending};
use host::{ClientHost, Refusal};

/// Numbers and words of the transport, named as Postfix names them.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// The transport's name in the configuration: `smtp` or `relay`.
    pub name: String,
    /// `myhostname`: an MX host of this name is ourselves.
    pub myhostname: String,
    /// Time-outs and the name after EHLO.
    pub client: Arc<ClientSettings>,
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

/// Relays by SMTP.
pub struct SmtpTransport {
    core: Arc<Core>,
    destinations: Mutex<HashMap<NextHop, Arc<Destination>>>,
}

/// What every connection task needs.
pub(crate) struct Core {
    pub(crate) settings: SmtpSettings,
    pub(crate) resolver: Arc<dyn Resolver>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
}

/// Next hops without connections whose entries are kept; more are swept.
const IDLE_DESTINATIONS_MAX: usize = 1_000;
/// How long a job may stand first in line before another connection is made for it.
const PATIENCE: Duration = Duration::from_millis(50);

impl SmtpTransport {
    /// Makes the transport; connections are made when there is mail.
    #[must_use]
    pub fn new(settings: SmtpSettings, resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Self {
        Self { core: Arc::new(Core { settings, resolver, clock, shutdown }), destinations: Mutex::default() }
    }

    fn destination(&self, hop: &NextHop) -> Arc<Destination> {
        let mut all = self.destinations.lock();
        if let Some(found) = all.get(hop) {
            return Arc::clone(found);
        }
        if all.len() >= IDLE_DESTINATIONS_MAX {
            all.retain(|_, d| Arc::strong_count(d) > 1);
        }
        let new = Arc::new(Destination::new(hop.clone(), self.core.settings.connections_max));
        all.insert(hop.clone(), Arc::clone(&new));
        new
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    fn name(&self) -> &str {
        &self.core.settings.name
    }

    async fn deliver(&self, attempt: &Attempt, message: &Message) -> Handed {
        let destination = self.destination(&attempt.hop);
        let (reply, outcome) = oneshot::channel();
        let address = |index: &u32| Some((*index, message.envelope.recipients.get(*index as usize)?.address.clone()));
        let recipients: Vec<(u32, Address)> = attempt.recipients.iter().filter_map(address).collect();
        destination.push(Pending::new(recipients, message.clone(), self.core.clock.monotonic(), reply));
        if let Some(guard) = destination.wants_connection() {
            spawn_connection(&self.core, &destination, guard);
        }
        if destination.wants_watch() {
            drop(spawn("smtp-watch", watch(Arc::clone(&self.core), Arc::clone(&destination))));
        }
        outcome.await.unwrap_or_else(|_| {
            let status = Status::local(EnhancedCode::new(4, 3, 2), "the server is shutting down");
            Handed::all(attempt, &Disposition::Deferred { status, not_before: None })
        })
    }
}

/// Makes more connections while a job stands first in line for long: the server may be slow rather than busy.
async fn watch(core: Arc<Core>, destination: Arc<Destination>) {
    let mut first = None;
    loop {
        tokio::time::sleep(PATIENCE).await;
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
    drop(spawn("smtp-connection", connection(Arc::clone(core), Arc::clone(destination), guard)));
}

/// Tries the next hop's addresses in turn until one serves; what waits is deferred or failed if none does.
async fn connection(core: Arc<Core>, destination: Arc<Destination>, guard: ConnectionGuard) {
    let targets = match connect::targets(&core, destination.hop()).await {
        Ok(targets) => targets,
        Err(disposition) => return guard.give_up(disposition),
    };
    let mut list: Vec<Target> = targets.list;
    list.truncate(core.settings.addresses_max.max(1));
    let mut last = Status::local(EnhancedCode::new(4, 4, 1), "no address to connect to");
    let count = list.len();
    for (number, target) in list.into_iter().enumerate() {
        if !destination.has_work() {
            return;
        }
        match serve(&core, &destination, &target, number + 1 < count).await {
            Ok(()) => return,
            Err(status) => last = status,
        }
    }
    guard.give_up(Disposition::Deferred { status: last, not_before: None });
}

/// One connection to one address: until it ends, or the server refuses the session.
async fn serve(core: &Arc<Core>, destination: &Arc<Destination>, target: &Target, others: bool) -> Result<(), Status> {
    let stream = connect::open(core, target).await?;
    let session = ClientSession::new(Arc::clone(&core.settings.client));
    let refusal = Refusal::default();
    let host = ClientHost::new(Arc::clone(core), Arc::clone(destination), target.to_string(), others, refusal.clone());
    drive(stream, session, host, Arc::clone(&core.clock), core.shutdown.clone()).await;
    match refusal.take() {
        Some(status) => Err(status),
        None => Ok(()),
    }
}
