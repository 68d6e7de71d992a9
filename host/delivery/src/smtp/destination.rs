//! Queue of one next hop and the connections serving the queue.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use waxwing_pipeline::{Handed, Reached};
use waxwing_smtp::ClientSettings;
use waxwing_types::{Disposition, Message, Monotonic, NextHop, Recipient};

/// Pending deliveries for each connection before another is opened. Few connections carry many messages in few packets.
const JOBS_PER_CONNECTION: usize = 4;

/// Delivery of one message to some recipients, waiting for a connection.
pub(crate) struct Pending {
    /// Recipients without a disposition, by index, in the order of the attempt.
    pub(crate) recipients: Vec<(u32, Recipient)>,
    pub(crate) message: Message,
    /// Maximum number of recipients of a transaction, for servers with a lower limit.
    pub(crate) batch: usize,
    /// True for probes: only the replies to MAIL and RCPT matter.
    pub(crate) probe: bool,
    /// True after conversion of the body to 7-bit.
    pub(crate) converted: bool,
    decided: Vec<(u32, Disposition)>,
    reached: Option<Reached>,
    /// True after a first loss on an idle connection closed by the server.
    pub(crate) second_try: bool,
    queued_at: Monotonic,
    setup: Duration,
    reply: oneshot::Sender<Handed>,
}

impl Pending {
    pub(crate) fn new(
        recipients: Vec<(u32, Recipient)>,
        message: Message,
        queued_at: Monotonic,
        reply: oneshot::Sender<Handed>,
    ) -> Self {
        Self {
            recipients,
            message,
            batch: usize::MAX,
            probe: false,
            converted: false,
            decided: Vec::new(),
            reached: None,
            second_try: false,
            queued_at,
            setup: Duration::ZERO,
            reply,
        }
    }

    /// Records the assignment to a connection.
    pub(crate) fn taken(&mut self, now: Monotonic) {
        self.setup = now.since(self.queued_at);
    }

    /// Returns true while the attempt waits. An attempt past its deadline was deferred: a delivery now would be a duplicate.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Recipients of the next transaction.
    pub(crate) fn batch(&self) -> &[(u32, Recipient)] {
        self.recipients.get(..self.batch).unwrap_or(&self.recipients)
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
    pub(crate) fn reached(&mut self, reached: Reached) {
        let least = match (self.reached, reached) {
            (None, reached) | (Some(Reached::ServerWithDsn), reached) => reached,
            (Some(before), _) => before,
        };
        self.reached = Some(least);
    }

    /// Finishes the delivery: each remaining recipient gets the disposition returned by `disposition_for` for its position in
    /// order.
    pub(crate) fn finish(mut self, disposition_for: impl Fn(usize) -> Disposition) {
        self.decide(|position, _| Some(disposition_for(position)));
        let mut dispositions = self.decided;
        dispositions.sort_by_key(|(index, _)| *index);
        let reached = self.reached.unwrap_or_default();
        // Beyond the deadline disposition_for the attempt the receiver is gone.
        let _ = self.reply.send(Handed { dispositions, setup: self.setup, reached, ..Handed::default() });
    }
}

/// Identity of a destination: next hop and TLS requirement. Messages with different requirements share no connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) hop: NextHop,
    /// True for messages restricted to verified TLS and to servers with REQUIRETLS (RFC 8689).
    pub(crate) require_tls: bool,
}

/// Next hop with its queue and its connections.
pub(crate) struct Destination {
    key: Key,
    client: Arc<ClientSettings>,
    connections_max: usize,
    line: Mutex<Line>,
    /// Wakes an idle connection for a new delivery.
    wake: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Pending>,
    connections: usize,
    idle: usize,
    /// Number of connections with an accepted transaction.
    good: usize,
    /// Set after a failed connection attempt while others are open: no more are opened until an open connection proves good or
    /// ends.
    failing: bool,
    watched: bool,
}

impl Line {
    /// Returns the first delivery still awaited; drops abandoned ones before.
    fn first(&mut self) -> Option<&Pending> {
        while self.waiting.front().is_some_and(|pending| !pending.is_wanted()) {
            self.waiting.pop_front();
        }
        self.waiting.front()
    }
}

/// Permit for a connection, counted until dropped.
pub(crate) struct ConnectionGuard(Arc<Destination>);

impl Destination {
    /// Creates a destination with the settings of its client sessions.
    pub(crate) fn new(key: Key, client: Arc<ClientSettings>, connections_max: usize) -> Self {
        Self { key, client, connections_max, line: Mutex::default(), wake: Notify::new() }
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
    pub(crate) fn push(&self, pending: Pending) {
        let mut line = self.line.lock();
        line.waiting.push_back(pending);
        self.wake_idle(&line);
    }

    /// Puts a delivery back at the front of the queue.
    pub(crate) fn push_front(&self, pending: Pending) {
        let mut line = self.line.lock();
        line.waiting.push_front(pending);
        self.wake_idle(&line);
    }

    fn wake_idle(&self, line: &Line) {
        if line.idle > 0 {
            self.wake.notify_one();
        }
    }

    pub(crate) fn take(&self) -> Option<Pending> {
        let mut line = self.line.lock();
        line.first()?;
        line.waiting.pop_front()
    }

    pub(crate) fn has_work(&self) -> bool {
        self.line.lock().first().is_some()
    }

    /// Drops all pending deliveries at shutdown: their attempts do not count.
    pub(crate) fn abandon(&self) {
        drop(std::mem::take(&mut self.line.lock().waiting));
    }

    /// Counts a connection with an accepted transaction.
    pub(crate) fn good_begins(&self) {
        let mut line = self.line.lock();
        line.good += 1;
        line.failing = false;
    }

    /// Ends the count of a proved connection.
    pub(crate) fn good_ends(&self) {
        let mut line = self.line.lock();
        line.good -= 1;
        line.failing = false;
    }

    /// Waits up to `limit` for a delivery.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<Pending> {
        let _idle = Idle::begin(self);
        let job = async {
            loop {
                if let Some(job) = self.take() {
                    return job;
                }
                self.wake.notified().await;
            }
        };
        tokio::time::timeout(limit, job).await.ok()
    }

    /// Returns message id and first recipient index of the delivery at the front.
    pub(crate) fn first_in_line(&self) -> Option<(u64, u32)> {
        let mut line = self.line.lock();
        let first = line.first()?;
        Some((first.message.id.as_u64(), first.recipients.first().map_or(0, |(index, _)| *index)))
    }

    /// Permits another connection if the queue is long for the open connections and none is idle.
    pub(crate) fn wants_connection(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let mut line = self.line.lock();
        let long = line.waiting.len() > line.connections * JOBS_PER_CONNECTION;
        let wanted = long && line.idle == 0 && self.allows_connection(&line);
        wanted.then(|| self.count_connection(&mut line))
    }

    /// Permits another connection within the limit.
    pub(crate) fn one_more_connection(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let mut line = self.line.lock();
        self.allows_connection(&line).then(|| self.count_connection(&mut line))
    }

    fn allows_connection(&self, line: &Line) -> bool {
        line.connections < self.connections_max && !(line.failing && line.connections > 0)
    }

    fn count_connection(self: &Arc<Self>, line: &mut Line) -> ConnectionGuard {
        line.connections += 1;
        ConnectionGuard(Arc::clone(self))
    }

    /// Returns true once if a non-empty queue lacks a stall watch, and marks the queue as watched.
    pub(crate) fn wants_watch(&self) -> bool {
        let mut line = self.line.lock();
        let wants = !line.watched && !line.waiting.is_empty();
        line.watched |= wants;
        wants
    }

    /// Ends the stall watch of an empty queue; returns true if ended.
    pub(crate) fn ends_watch(&self) -> bool {
        let mut line = self.line.lock();
        line.watched = line.first().is_some();
        !line.watched
    }
}

struct Idle<'a>(&'a Destination);

impl<'a> Idle<'a> {
    fn begin(destination: &'a Destination) -> Self {
        destination.line.lock().idle += 1;
        Self(destination)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.line.lock().idle -= 1;
    }
}

impl ConnectionGuard {
    /// Finishes all pending deliveries with the disposition, unless another connection may still serve the queue. A failing
    /// destination opens no further connections, so the last connection to fail decides.
    pub(crate) fn give_up(self, disposition: Disposition) {
        let waiting = {
            let mut line = self.0.line.lock();
            line.failing = line.connections > 1;
            if line.failing { VecDeque::new() } else { std::mem::take(&mut line.waiting) }
        };
        for pending in waiting {
            pending.finish(|_| disposition.clone());
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut line = self.0.line.lock();
        line.connections -= 1;
        line.failing &= line.connections > 0;
    }
}

#[cfg(test)]
mod tests {
    use waxwing_types::{Address, EnhancedCode, Envelope, MemoryBody, Origin, QueueId, ReversePath, Status, Timestamp, Via};

    use super::*;

    fn destination(max: usize) -> Arc<Destination> {
        let hop = NextHop { transport: "smtp".into(), host: "x.example".into(), port: None };
        let key = Key { hop, require_tls: false };
        Arc::new(Destination::new(key, Arc::new(ClientSettings::new("us.test")), max))
    }

    fn pending(id: u64) -> (Pending, oneshot::Receiver<Handed>) {
        let envelope = Envelope {
            sender: ReversePath::Null,
            recipients: Vec::new(),
            body_type: waxwing_types::BodyType::SevenBit,
            ret: None,
            envid: None,
            smtputf8: false,
            require_tls: false,
            origin: Origin::internal(Via::Dsn, Timestamp::default()),
        };
        let message = Message {
            id: QueueId::from_u64(id),
            envelope: Arc::new(envelope),
            head: bytes::Bytes::new(),
            body: Arc::new(MemoryBody::default()),
            tags: Arc::default(),
        };
        let (reply, outcome) = oneshot::channel();
        let to = Recipient::new(Address::parse("a@x.example").unwrap());
        (Pending::new(vec![(7, to)], message, Monotonic::default(), reply), outcome)
    }

    #[test]
    fn one_connection_for_every_few_jobs() {
        let d = destination(3);
        let mut guards = Vec::new();
        for id in 0..100 {
            d.push(pending(id).0);
            guards.extend(d.wants_connection());
            let expected = [0, 4, 8].iter().filter(|n| **n <= id).count();
            assert_eq!(guards.len(), expected, "after job {id}");
        }
        guards.pop();
        assert!(d.wants_connection().is_some(), "a permit that was dropped is free again");
    }

    #[test]
    fn who_gives_up_last_answers_for_all() {
        let d = destination(2);
        let (job, mut outcome) = pending(1);
        d.push(job);
        let (first, second) = (d.one_more_connection().unwrap(), d.one_more_connection().unwrap());
        let status = Status::local(EnhancedCode::new(4, 4, 1), "refused");
        let deferred = Disposition::Deferred { status, not_before: None };
        first.give_up(deferred.clone());
        assert!(outcome.try_recv().is_err(), "the other connection may still serve it");
        assert!(d.one_more_connection().is_none(), "there must be a last one, which answers");
        second.give_up(deferred.clone());
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
        assert_eq!(d.first_in_line(), Some((2, 7)));
        assert_eq!(d.take().map(|job| job.message.id), Some(QueueId::from_u64(2)));
        assert!(d.take().is_none() && !d.has_work());
    }

    #[test]
    fn a_good_connection_allows_more_again() {
        let d = destination(3);
        let (first, _second) = (d.one_more_connection().unwrap(), d.one_more_connection().unwrap());
        first.give_up(Disposition::Delivered(Status::local(EnhancedCode::new(2, 0, 0), "not said to anybody")));
        assert!(d.one_more_connection().is_none());
        d.good_begins();
        assert!(d.one_more_connection().is_some());
    }
}
