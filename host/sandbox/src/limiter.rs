//! Instance limiter: bounds the number of instances of a plugin and queues waiting calls fairly.
//!
//! One limiter per plugin, shared by all versions. The next permit goes to the waiting call whose client holds the fewest
//! permits; equal counts are served in order of arrival. A transaction delayed by a slow plugin holds permits of all other
//! plugins meanwhile; in plain arrival order, a few clients with such mail would delay everybody else as long.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;
use waxwing_pipeline::Context;
use waxwing_types::rate_limit_key;

/// Maximum number of calls that wait at one limiter; more are refused at once.
const WAITING_CALLS_MAX: usize = 10_000;

/// Client that an instance counts for: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientKey(IpAddr);

impl ClientKey {
    /// Returns the client of a context; none for mail without a connected client.
    pub(crate) fn from_context(context: &Context) -> Option<Self> {
        Some(Self(rate_limit_key(context.client.as_ref()?.peer.ip())))
    }
}

/// Limit that refused a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitReached {
    /// All permits of the plugin are in use.
    Plugin,
    /// The client holds the maximum number of permits per client.
    Client,
}

/// Counter of permits with a queue of waiting calls.
#[derive(Debug)]
pub(crate) struct InstanceLimiter {
    inner: Mutex<LimiterState>,
}

#[derive(Debug)]
struct LimiterState {
    permits_max: u32,
    per_client_max: u32,
    in_use: u32,
    clients: HashMap<ClientKey, u32>,
    waiting: VecDeque<WaitingCall>,
}

#[derive(Debug)]
struct WaitingCall {
    client: Option<ClientKey>,
    permit_sender: oneshot::Sender<InstancePermit>,
}

/// Permit for one instance; returned to the limiter on drop.
#[derive(Debug)]
pub(crate) struct InstancePermit {
    limiter: Arc<InstanceLimiter>,
    client: Option<ClientKey>,
}

impl Drop for InstancePermit {
    fn drop(&mut self) {
        self.limiter.release(self.client);
    }
}

impl InstanceLimiter {
    pub(crate) fn new(places_max: u32, per_client_max: u32) -> Arc<Self> {
        let (clients, waiters) = (HashMap::new(), VecDeque::new());
        Arc::new(Self {
            inner: Mutex::new(LimiterState { permits_max: places_max, per_client_max, in_use: 0, clients, waiting: waiters }),
        })
    }

    /// Sets the limits of a new version of the plugin.
    pub(crate) fn set_limits(self: &Arc<Self>, places_max: u32, per_client_max: u32) {
        let mut inner = self.inner.lock();
        inner.permits_max = places_max;
        inner.per_client_max = per_client_max;
        drop(inner);
        self.grant_waiting();
    }

    /// Waits for a permit, at most for the given time.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        client: Option<ClientKey>,
        wait: Duration,
    ) -> Result<InstancePermit, LimitReached> {
        let (give, taken) = oneshot::channel();
        {
            let mut inner = self.inner.lock();
            // A free permit may bypass the queue: every waiting call is blocked by the per-client limit, or no permit is free
            // at all.
            let refusal = match inner.limit_reached(client) {
                None => {
                    inner.count_permit(client);
                    return Ok(InstancePermit { limiter: Arc::clone(self), client });
                }
                Some(refusal) => refusal,
            };
            if wait.is_zero() || inner.waiting.len() >= WAITING_CALLS_MAX {
                return Err(refusal);
            }
            inner.waiting.push_back(WaitingCall { client, permit_sender: give });
        }
        match timeout(wait, taken).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                let mut inner = self.inner.lock();
                // The receiver is dropped: removes this call and other abandoned calls from the queue.
                inner.waiting.retain(|waiter| !waiter.permit_sender.is_closed());
                Err(inner.limit_reached(client).unwrap_or(LimitReached::Plugin))
            }
        }
    }

    /// Takes a permit for the server's own use, over the limit if necessary.
    pub(crate) fn acquire_unbounded(self: &Arc<Self>) -> InstancePermit {
        self.inner.lock().count_permit(None);
        InstancePermit { limiter: Arc::clone(self), client: None }
    }

    /// Checks whether calls are waiting for a permit.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.inner.lock().waiting.is_empty()
    }

    fn release(self: &Arc<Self>, client: Option<ClientKey>) {
        let mut inner = self.inner.lock();
        inner.in_use = inner.in_use.saturating_sub(1);
        if let Some(client) = client {
            let left = inner.clients.get(&client).copied().unwrap_or_default().saturating_sub(1);
            match left {
                0 => drop(inner.clients.remove(&client)),
                left => drop(inner.clients.insert(client, left)),
            }
        }
        drop(inner);
        self.grant_waiting();
    }

    /// Grants free permits to waiting calls.
    fn grant_waiting(self: &Arc<Self>) {
        loop {
            let mut inner = self.inner.lock();
            if inner.in_use >= inner.permits_max {
                return;
            }
            let Some(at) = inner.next_waiting() else { return };
            let Some(WaitingCall { client, permit_sender: give }) = inner.waiting.remove(at) else { return };
            if give.is_closed() {
                continue;
            }
            inner.count_permit(client);
            drop(inner);
            // A receiver abandoned at this moment drops the permit, which then goes to the next waiting call.
            let _ = give.send(InstancePermit { limiter: Arc::clone(self), client });
        }
    }
}

impl LimiterState {
    /// Number of permits held by a client; 0 for mail without a client.
    fn held_by(&self, client: Option<ClientKey>) -> u32 {
        client.and_then(|client| self.clients.get(&client)).copied().unwrap_or_default()
    }

    /// Returns the index of the waiting call to serve next, if a permit is free.
    fn next_waiting(&self) -> Option<usize> {
        let mut best = None;
        for (at, waiter) in self.waiting.iter().enumerate() {
            let held = self.held_by(waiter.client);
            if held == 0 {
                return Some(at);
            }
            if held < self.per_client_max && best.is_none_or(|(least, _)| held < least) {
                best = Some((held, at));
            }
        }
        best.map(|(_, at)| at)
    }

    fn limit_reached(&self, client: Option<ClientKey>) -> Option<LimitReached> {
        let of_client = self.held_by(client);
        if self.in_use >= self.permits_max {
            Some(LimitReached::Plugin)
        } else {
            (client.is_some() && of_client >= self.per_client_max).then_some(LimitReached::Client)
        }
    }

    fn count_permit(&mut self, client: Option<ClientKey>) {
        self.in_use = self.in_use.saturating_add(1);
        if let Some(client) = client {
            let count = self.clients.entry(client).or_default();
            *count = count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use waxwing_pipeline::SessionClient;
    use waxwing_types::Source;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn client(peer: &str) -> Option<ClientKey> {
        let client = SessionClient { peer: peer.parse().unwrap(), name: None, listener: "mx".into() };
        ClientKey::from_context(&Context::new(Source::Smtp, Some(Arc::new(client))))
    }

    /// Waits in a task of its own; the queue has it when this returns.
    async fn waits(
        gate: &Arc<InstanceLimiter>,
        client: Option<ClientKey>,
    ) -> tokio::task::JoinHandle<Result<InstancePermit, LimitReached>> {
        let (gate, before) = (Arc::clone(gate), gate.inner.lock().waiting.len());
        let theirs = Arc::clone(&gate);
        #[allow(clippy::disallowed_methods, reason = "a task of the test")]
        let task = tokio::spawn(async move { theirs.acquire(client, LONG).await });
        while gate.inner.lock().waiting.len() == before {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn who_waits_is_served_in_turn() {
        let gate = InstanceLimiter::new(1, 1);
        let held = gate.acquire(None, Duration::ZERO).await.unwrap();
        assert_eq!(gate.acquire(None, Duration::ZERO).await.unwrap_err(), LimitReached::Plugin);
        let first = waits(&gate, None).await;
        let second = waits(&gate, None).await;
        assert!(gate.has_waiters());
        drop(held);
        let place = first.await.unwrap().unwrap();
        assert!(!second.is_finished());
        drop(place);
        drop(second.await.unwrap().unwrap());
        assert_eq!(gate.inner.lock().in_use, 0);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_client_that_has_its_share() {
        let gate = InstanceLimiter::new(10, 2);
        let (greedy, modest) = (client("192.0.2.1:1"), client("192.0.2.2:1"));
        let mut held = vec![gate.acquire(greedy, LONG).await.unwrap(), gate.acquire(greedy, LONG).await.unwrap()];
        assert_eq!(gate.acquire(greedy, Duration::ZERO).await.unwrap_err(), LimitReached::Client);
        let third = waits(&gate, greedy).await;
        let other = gate.acquire(modest, Duration::ZERO).await.unwrap();
        assert!(gate.acquire(None, Duration::ZERO).await.is_ok(), "what no client sent has no such limit");
        drop(other);
        assert!(!third.is_finished(), "a place of another does not help it");
        held.pop();
        assert!(third.await.unwrap().is_ok());
        drop(held);
        assert!(gate.inner.lock().clients.is_empty());
    }

    #[tokio::test]
    async fn whose_client_has_fewer_places_is_served_first() {
        let gate = InstanceLimiter::new(3, 3);
        let (greedy, modest) = (client("192.0.2.1:1"), client("192.0.2.2:1"));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.acquire(greedy, LONG).await.unwrap());
        }
        let fourth = waits(&gate, greedy).await;
        let first = waits(&gate, modest).await;
        let second = waits(&gate, modest).await;
        drop(held.pop());
        let one = first.await.unwrap().unwrap();
        assert!(!fourth.is_finished() && !second.is_finished());
        drop(held.pop());
        // One place each now: the first that came.
        let other = fourth.await.unwrap().unwrap();
        assert!(!second.is_finished());
        drop((one, other, held));
        assert!(second.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_gave_up_takes_no_place() {
        let gate = InstanceLimiter::new(1, 1);
        let held = gate.acquire(None, Duration::ZERO).await.unwrap();
        assert_eq!(gate.acquire(None, Duration::from_millis(5)).await.unwrap_err(), LimitReached::Plugin);
        assert!(!gate.has_waiters());
        let cut = waits(&gate, None).await;
        let patient = waits(&gate, None).await;
        cut.abort();
        assert!(cut.await.is_err());
        drop(held);
        drop(patient.await.unwrap().unwrap());
        assert_eq!(gate.inner.lock().in_use, 0);
    }

    #[tokio::test]
    async fn a_higher_limit_lets_in_who_waits() {
        let gate = InstanceLimiter::new(1, 1);
        let _held = gate.acquire(None, Duration::ZERO).await.unwrap();
        let waiting = waits(&gate, None).await;
        let _extra = gate.acquire_unbounded();
        gate.set_limits(3, 1);
        assert!(waiting.await.unwrap().is_ok());
    }

    #[test]
    fn a_network_is_one_client() {
        assert_eq!(client("[2001:db8:0:1::1]:1"), client("[2001:db8:0:1:2:3:4:5]:2"));
        assert_ne!(client("[2001:db8:0:1::1]:1"), client("[2001:db8:0:2::1]:1"));
        assert_eq!(client("[::ffff:192.0.2.1]:1"), client("192.0.2.1:9"));
    }
}
