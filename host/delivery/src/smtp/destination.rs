//! What waits for one next hop, and how many connections serve it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use waxwing_pipeline::{Handed, Reached};
use waxwing_smtp::ClientSettings;
use waxwing_types::{Disposition, Message, Monotonic, NextHop, Recipient};

/// Jobs that wait for each connection before another is made. Few connections carry many messages in few packets.
const JOBS_PER_CONNECTION: usize = 4;

/// One message for some recipients, waiting for a connection.
pub(crate) struct Pending {
    /// Who is not decided yet, by index, in the order of the attempt.
    pub(crate) recipients: Vec<(u32, Recipient)>,
    pub(crate) message: Message,
    /// Recipients of one transaction, where the server takes fewer than there are.
    pub(crate) batch: usize,
    /// Only the replies to MAIL and RCPT are wanted.
    pub(crate) probe: bool,
    /// Its body is 7-bit by now.
    pub(crate) converted: bool,
    decided: Vec<(u32, Disposition)>,
    reached: Option<Reached>,
    /// Given up once already because an idle connection had been closed by the server.
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

    /// A connection has taken it.
    pub(crate) fn taken(&mut self, now: Monotonic) {
        self.setup = now.since(self.queued_at);
    }

    /// Its attempt still waits. One that ran into its deadline was deferred: to deliver it now would be to deliver it twice.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Who is in its next transaction.
    pub(crate) fn batch(&self) -> &[(u32, Recipient)] {
        self.recipients.get(..self.batch).unwrap_or(&self.recipients)
    }

    /// Decides about those whom `of` has a disposition for, made from the place in order. True if nobody is left.
    pub(crate) fn decide(&mut self, of: impl Fn(usize, &Recipient) -> Option<Disposition>) -> bool {
        let mut left = Vec::new();
        for (place, (index, recipient)) in std::mem::take(&mut self.recipients).into_iter().enumerate() {
            match of(place, &recipient) {
                Some(disposition) => self.decided.push((index, disposition)),
                None => left.push((index, recipient)),
            }
        }
        self.recipients = left;
        self.recipients.is_empty()
    }

    /// How far its transactions have come: the least of them counts.
    pub(crate) fn reached(&mut self, how: Reached) {
        let least = match (self.reached, how) {
            (None, how) | (Some(Reached::ServerWithDsn), how) => how,
            (Some(before), _) => before,
        };
        self.reached = Some(least);
    }

    /// Ends it: one disposition for each recipient that is left, made by `of` from its place in order.
    pub(crate) fn finish(mut self, of: impl Fn(usize) -> Disposition) {
        self.decide(|place, _| Some(of(place)));
        let mut dispositions = self.decided;
        dispositions.sort_by_key(|(index, _)| *index);
        let reached = self.reached.unwrap_or_default();
        // The attempt may have run into its deadline: then nobody waits for this.
        let _ = self.reply.send(Handed { dispositions, setup: self.setup, reached, ..Handed::default() });
    }
}

/// Where a destination's connections go, and how they are protected: nothing that needs more shares one with what needs less.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) hop: NextHop,
    /// Its messages leave only over verified TLS, for servers that promise the same (RFC 8689).
    pub(crate) require_tls: bool,
}

/// A next hop: its line and its connections.
pub(crate) struct Destination {
    key: Key,
    client: Arc<ClientSettings>,
    connections_max: usize,
    line: Mutex<Line>,
    /// Woken when a job joins the line while a connection is idle.
    wake: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Pending>,
    connections: usize,
    idle: usize,
    /// Connections over which the server has taken a transaction.
    good: usize,
    /// A connection could not be made while others stood: no more are tried until one of those proves good or ends.
    failing: bool,
    watched: bool,
}

impl Line {
    /// The first job whose attempt still waits; the others go.
    fn first(&mut self) -> Option<&Pending> {
        while self.waiting.front().is_some_and(|pending| !pending.is_wanted()) {
            self.waiting.pop_front();
        }
        self.waiting.front()
    }
}

/// Counts as a connection until it is dropped.
pub(crate) struct ConnectionGuard(Arc<Destination>);

impl Destination {
    /// `client`: the settings of its sessions.
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

    /// Joins the line. It is bounded by the active queue, from which every job comes.
    pub(crate) fn push(&self, pending: Pending) {
        let mut line = self.line.lock();
        line.waiting.push_back(pending);
        self.wake_idle(&line);
    }

    /// Back to the head of the line.
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

    /// The server is going down: attempts that wait for a connection do not count.
    pub(crate) fn abandon(&self) {
        drop(std::mem::take(&mut self.line.lock().waiting));
    }

    /// A connection has proved good.
    pub(crate) fn good_begins(&self) {
        let mut line = self.line.lock();
        line.good += 1;
        line.failing = false;
    }

    /// Such a connection has ended.
    pub(crate) fn good_ends(&self) {
        let mut line = self.line.lock();
        line.good -= 1;
        line.failing = false;
    }

    /// The next job, or none if none comes within `limit`.
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

    /// A job that stands first in line, named by its message and first recipient.
    pub(crate) fn first_in_line(&self) -> Option<(u64, u32)> {
        let mut line = self.line.lock();
        let first = line.first()?;
        Some((first.message.id.as_u64(), first.recipients.first().map_or(0, |(index, _)| *index)))
    }

    /// A permit for a connection, if the line is long for those that there are and none is idle.
    pub(crate) fn wants_connection(self: &Arc<Self>) -> Option<ConnectionGuard> {
        let mut line = self.line.lock();
        let long = line.waiting.len() > line.connections * JOBS_PER_CONNECTION;
        let wanted = long && line.idle == 0 && self.allows_connection(&line);
        wanted.then(|| self.count_connection(&mut line))
    }

    /// A permit for a connection, within the limit.
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

    /// The line needs a watch and has none; it has one now.
    pub(crate) fn wants_watch(&self) -> bool {
        let mut line = self.line.lock();
        let wants = !line.watched && !line.waiting.is_empty();
        line.watched |= wants;
        wants
    }

    /// The watch may go: nothing waits.
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
    /// The next hop cannot be reached: all that waits gets this disposition, unless another connection may serve it. If that
    /// fails too, it answers: since no more are begun meanwhile, there is a last one.
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
