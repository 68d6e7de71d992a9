//! Queue of one next hop and the connections serving the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use waxwing_pipeline::{DeliveryResult, FinalDsnAction};
use waxwing_smtp::ClientSettings;
use waxwing_types::{Disposition, Message, Monotonic, NextHop, Recipient};

/// Pending deliveries for each connection before another is opened. Few connections carry many messages in few packets.
const PENDING_PER_CONNECTION: usize = 4;

/// Delivery of one message to some recipients, waiting for a connection.
pub(crate) struct PendingDelivery {
    /// Recipients without a disposition, by index, in the order of the attempt.
    pub(crate) recipients: Vec<(u32, Recipient)>,
    pub(crate) message: Message,
    /// Maximum number of recipients of a transaction, for servers with a lower limit.
    pub(crate) batch_max: usize,
    /// True for probes: only the replies to MAIL and RCPT matter.
    pub(crate) is_probe: bool,
    /// True after conversion of the body to 7-bit.
    pub(crate) converted: bool,
    decided: Vec<(u32, Disposition)>,
    dsn_action: Option<FinalDsnAction>,
    /// True after a first loss on an idle connection closed by the server.
    pub(crate) was_retried: bool,
    queued_at: Monotonic,
    setup: Duration,
    reply: oneshot::Sender<DeliveryResult>,
}

impl PendingDelivery {
    pub(crate) fn new(
        recipients: Vec<(u32, Recipient)>,
        message: Message,
        queued_at: Monotonic,
        reply: oneshot::Sender<DeliveryResult>,
    ) -> Self {
        Self {
            recipients,
            message,
            batch_max: usize::MAX,
            is_probe: false,
            converted: false,
            decided: Vec::new(),
            dsn_action: None,
            was_retried: false,
            queued_at,
            setup: Duration::ZERO,
            reply,
        }
    }

    /// Records the assignment to a connection.
    pub(crate) fn record_assignment(&mut self, now: Monotonic) {
        self.setup = now.since(self.queued_at);
    }

    /// Returns true while the attempt waits. An attempt past its deadline was deferred: a delivery now would be a duplicate.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Recipients of the next transaction.
    pub(crate) fn next_batch(&self) -> &[(u32, Recipient)] {
        self.recipients.get(..self.batch_max).unwrap_or(&self.recipients)
    }

    /// Decides recipients by `disposition_for`, called with their position in order. Returns true if none is left.
    pub(crate) fn decide(&mut self, disposition_for: impl Fn(usize, &Recipient) -> Option<Disposition>) -> bool {
        let mut left = Vec::new();
        for (position, (index, recipient)) in std::mem::take(&mut self.recipients).into_iter().enumerate() {
            match disposition_for(position, &recipient) {
                Some(disposition) => self.decided.push((index, disposition)),
                None => left.push((index, recipient)),
            }
        }
        self.recipients = left;
        self.recipients.is_empty()
    }

    /// Records the DSN action of a transaction; the least advanced of all transactions counts.
    pub(crate) fn record_dsn_action(&mut self, reached: FinalDsnAction) {
        let least = match (self.dsn_action, reached) {
            (None, reached) | (Some(FinalDsnAction::Delegated), reached) => reached,
            (Some(before), _) => before,
        };
        self.dsn_action = Some(least);
    }

    /// Finishes the delivery: each remaining recipient gets the disposition returned by `disposition_for` for its position in
    /// order.
    pub(crate) fn finish(mut self, disposition_for: impl Fn(usize) -> Disposition) {
        self.decide(|position, _| Some(disposition_for(position)));
        let mut dispositions = self.decided;
        dispositions.sort_by_key(|(index, _)| *index);
        let reached = self.dsn_action.unwrap_or_default();
        // Beyond the deadline disposition_for the attempt the receiver is gone.
        let _ = self.reply.send(DeliveryResult {
            dispositions,
            setup_time: self.setup,
            final_dsn: reached,
            ..DeliveryResult::default()
        });
    }
}

/// Identity of a destination: next hop and TLS requirement. Messages with different requirements share no connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DestinationKey {
    pub(crate) hop: NextHop,
    /// True for messages restricted to verified TLS and to servers with REQUIRETLS (RFC 8689).
    pub(crate) require_tls: bool,
}

/// Next hop with its queue and its connections.
pub(crate) struct Destination {
    key: DestinationKey,
    client: Arc<ClientSettings>,
    connections_max: usize,
    queue: Mutex<DestinationQueue>,
    /// Wakes an idle connection for a new delivery.
    wake: Notify,
}

#[derive(Default)]
struct DestinationQueue {
    pending: VecDeque<PendingDelivery>,
    connections: usize,
    idle_connections: usize,
    /// Number of connections with an accepted transaction.
    proved_connections: usize,
    /// Set after a failed connection attempt while others are open: no more are opened until an open connection proves good or
    /// ends.
    backing_off: bool,
    has_stall_watch: bool,
}

impl DestinationQueue {
    /// Returns the first delivery still awaited; drops abandoned ones before.
    fn first_awaited(&mut self) -> Option<&PendingDelivery> {
        while self.pending.front().is_some_and(|pending| !pending.is_awaited()) {
            self.pending.pop_front();
        }
        self.pending.front()
    }
}

/// Permit for a connection, counted until dropped.
pub(crate) struct ConnectionPermit(Arc<Destination>);

impl Destination {
    /// Creates a destination with the settings of its client sessions.
    pub(crate) fn new(key: DestinationKey, client: Arc<ClientSettings>, connections_max: usize) -> Self {
        Self { key, client, connections_max, queue: Mutex::default(), wake: Notify::new() }
    }

    pub(crate) fn hop(&self) -> &NextHop {
        &self.key.hop
    }

    pub(crate) fn requires_tls(&self) -> bool {
        self.key.require_tls
    }

    pub(crate) fn client(&self) -> &Arc<ClientSettings> {
        &self.client
    }

    /// Appends a delivery to the queue. The active queue, source of every delivery, bounds its length.
    pub(crate) fn push(&self, pending: PendingDelivery) {
        let mut line = self.queue.lock();
        line.pending.push_back(pending);
        self.wake_idle(&line);
    }

    /// Puts a delivery back at the front of the queue.
    pub(crate) fn push_front(&self, pending: PendingDelivery) {
        let mut line = self.queue.lock();
        line.pending.push_front(pending);
        self.wake_idle(&line);
    }

    fn wake_idle(&self, line: &DestinationQueue) {
        if line.idle_connections > 0 {
            self.wake.notify_one();
        }
    }

    pub(crate) fn pop(&self) -> Option<PendingDelivery> {
        let mut line = self.queue.lock();
        line.first_awaited()?;
        line.pending.pop_front()
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.queue.lock().first_awaited().is_some()
    }

    /// Drops all pending deliveries at shutdown: their attempts do not count.
    pub(crate) fn drop_pending(&self) {
        drop(std::mem::take(&mut self.queue.lock().pending));
    }

    /// Counts a connection with an accepted transaction.
    pub(crate) fn connection_proved(&self) {
        let mut line = self.queue.lock();
        line.proved_connections += 1;
        line.backing_off = false;
    }

    /// Ends the count of a proved connection.
    pub(crate) fn proved_connection_ended(&self) {
        let mut line = self.queue.lock();
        line.proved_connections -= 1;
        line.backing_off = false;
    }

    /// Waits up to `limit` for a delivery.
    pub(crate) async fn wait_for_delivery(&self, limit: Duration) -> Option<PendingDelivery> {
        let _idle = IdleGuard::begin(self);
        let job = async {
            loop {
                if let Some(job) = self.pop() {
                    return job;
                }
                self.wake.notified().await;
            }
        };
        tokio::time::timeout(limit, job).await.ok()
    }

    /// Returns message id and first recipient index of the delivery at the front.
    pub(crate) fn front_key(&self) -> Option<(u64, u32)> {
        let mut line = self.queue.lock();
        let first = line.first_awaited()?;
        Some((first.message.id.as_u64(), first.recipients.first().map_or(0, |(index, _)| *index)))
    }

    /// Permits another connection if the queue is long for the open connections and none is idle.
    pub(crate) fn permit_if_queue_long(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let mut line = self.queue.lock();
        let long = line.pending.len() > line.connections * PENDING_PER_CONNECTION;
        let wanted = long && line.idle_connections == 0 && self.allows_connection(&line);
        wanted.then(|| self.count_connection(&mut line))
    }

    /// Permits another connection within the limit.
    pub(crate) fn permit_within_limit(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let mut line = self.queue.lock();
        self.allows_connection(&line).then(|| self.count_connection(&mut line))
    }

    fn allows_connection(&self, line: &DestinationQueue) -> bool {
        line.connections < self.connections_max && !(line.backing_off && line.connections > 0)
    }

    fn count_connection(self: &Arc<Self>, line: &mut DestinationQueue) -> ConnectionPermit {
        line.connections += 1;
        ConnectionPermit(Arc::clone(self))
    }

    /// Returns true once if a non-empty queue lacks a stall watch, and marks the queue as watched.
    pub(crate) fn needs_stall_watch(&self) -> bool {
        let mut line = self.queue.lock();
        let wants = !line.has_stall_watch && !line.pending.is_empty();
        line.has_stall_watch |= wants;
        wants
    }

    /// Ends the stall watch of an empty queue; returns true if ended.
    pub(crate) fn end_stall_watch(&self) -> bool {
        let mut line = self.queue.lock();
        line.has_stall_watch = line.first_awaited().is_some();
        !line.has_stall_watch
    }
}

struct IdleGuard<'a>(&'a Destination);

impl<'a> IdleGuard<'a> {
    fn begin(destination: &'a Destination) -> Self {
        destination.queue.lock().idle_connections += 1;
        Self(destination)
    }
}

impl Drop for IdleGuard<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().idle_connections -= 1;
    }
}

impl ConnectionPermit {
    /// Finishes all pending deliveries with the disposition, unless another connection may still serve the queue. A failing
    /// destination opens no further connections, so the last connection to fail decides.
    pub(crate) fn fail_pending(self, disposition: Disposition) {
        let waiting = {
            let mut line = self.0.queue.lock();
            line.backing_off = line.connections > 1;
            if line.backing_off { VecDeque::new() } else { std::mem::take(&mut line.pending) }
        };
        for pending in waiting {
            pending.finish(|_| disposition.clone());
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut line = self.0.queue.lock();
        line.connections -= 1;
        line.backing_off &= line.connections > 0;
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::{Address, EnhancedCode, Envelope, MemoryBody, Origin, QueueId, ReversePath, Source, Status, Timestamp};

    use super::*;

    fn destination(max: usize) -> Arc<Destination> {
        let hop = NextHop { transport: "smtp".into(), host: "x.example".into(), port: None };
        let key = DestinationKey { hop, require_tls: false };
        Arc::new(Destination::new(key, Arc::new(ClientSettings::with_helo_name("us.test")), max))
    }

    fn pending(id: u64) -> (PendingDelivery, oneshot::Receiver<DeliveryResult>) {
        let envelope = Envelope {
            sender: ReversePath::Null,
            recipients: Vec::new(),
            body_type: waxwing_types::BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Source::Dsn, Timestamp::default()),
        };
        let message = Message {
            id: QueueId::from_u64(id),
            envelope: Arc::new(envelope),
            header: bytes::Bytes::new(),
            body: Arc::new(MemoryBody::default()),
            tags: Arc::default(),
        };
        let (reply, outcome) = oneshot::channel();
        let to = Recipient::new(Address::parse("a@x.example").unwrap());
        (PendingDelivery::new(vec![(7, to)], message, Monotonic::default(), reply), outcome)
    }

    #[test]
    fn one_connection_for_every_few_jobs() {
        let d = destination(3);
        let mut guards = Vec::new();
        for id in 0..100 {
            d.push(pending(id).0);
            guards.extend(d.permit_if_queue_long());
            let expected = [0, 4, 8].iter().filter(|n| **n <= id).count();
            assert_eq!(guards.len(), expected, "after job {id}");
        }
        guards.pop();
        assert!(d.permit_if_queue_long().is_some(), "a permit that was dropped is free again");
    }

    #[test]
    fn who_gives_up_last_answers_for_all() {
        let d = destination(2);
        let (job, mut outcome) = pending(1);
        d.push(job);
        let (first, second) = (d.permit_within_limit().unwrap(), d.permit_within_limit().unwrap());
        let status = Status::local(EnhancedCode::new(4, 4, 1), "refused");
        let deferred = Disposition::Deferred { status, not_before: None };
        first.fail_pending(deferred.clone());
        assert!(outcome.try_recv().is_err(), "the other connection may still serve it");
        assert!(d.permit_within_limit().is_none(), "there must be a last one, which answers");
        second.fail_pending(deferred.clone());
        assert_eq!(outcome.try_recv().unwrap().dispositions, [(7, deferred)]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_taken() {
        let d = destination(2);
        let (late, outcome) = pending(1);
        d.push(late);
        drop(outcome);
        let (job, _outcome) = pending(2);
        d.push(job);
        assert_eq!(d.front_key(), Some((2, 7)));
        assert_eq!(d.pop().map(|job| job.message.id), Some(QueueId::from_u64(2)));
        assert!(d.pop().is_none() && !d.has_pending());
    }

    #[test]
    fn a_good_connection_allows_more_again() {
        let d = destination(3);
        let (first, _second) = (d.permit_within_limit().unwrap(), d.permit_within_limit().unwrap());
        first.fail_pending(Disposition::Delivered(Status::local(EnhancedCode::new(2, 0, 0), "not said to anybody")));
        assert!(d.permit_within_limit().is_none());
        d.connection_proved();
        assert!(d.permit_within_limit().is_some());
    }
}
