//! A spool over an engine and files in memory, and messages for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use waxwing_queue::{EmbeddedSpool, KEYSPACES, LossyBodyFiles, SpoolSettings};
use waxwing_spool::{NewBody, NewMessage, Settlement, Spool, Unit, UnitRecipient};
use waxwing_store::{LossyEngine, Store, StoreOptions};
use waxwing_types::{
    Address, BodyRead, BodyType, Clock, EnhancedCode, Envelope, ManualClock, Origin, QueueId, Recipient, ReversePath, Source,
    Status, Tags, Timestamp,
};

pub(crate) struct World {
    pub(crate) engine: LossyEngine,
    pub(crate) files: LossyBodyFiles,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) settings: SpoolSettings,
    pub(crate) store: Store,
    pub(crate) spool: EmbeddedSpool,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SpoolSettings)) -> Self {
        let clock = Arc::new(ManualClock::default());
        let mut settings = SpoolSettings { queue_minfree: 0, ..SpoolSettings::new(1 << 20, clock.clone()) };
        change(&mut settings);
        Self::open(LossyEngine::default(), LossyBodyFiles::default(), clock, settings).await
    }

    async fn open(engine: LossyEngine, files: LossyBodyFiles, clock: Arc<ManualClock>, settings: SpoolSettings) -> Self {
        let options = StoreOptions { lazy_delay: Duration::from_millis(1), ..StoreOptions::new(&KEYSPACES) };
        let store = Store::with_engine(Arc::new(engine.clone()), &options).unwrap();
        let spool = EmbeddedSpool::open_with(&store, Arc::new(files.clone()), settings.clone()).await.unwrap();
        Self { engine, files, clock, settings, store, spool }
    }

    /// After a power cut.
    pub(crate) async fn restart(self) -> Self {
        Self::open(self.engine.restart(), self.files.restart(), self.clock, self.settings).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn id(&self) -> QueueId {
        self.spool.next_queue_id(self.now())
    }

    pub(crate) fn message(&self, recipients: usize) -> NewMessage {
        message(self.id(), recipients, self.now())
    }

    pub(crate) async fn enqueue(&self, recipients: usize) -> QueueId {
        let message = self.message(recipients);
        let id = message.id;
        self.spool.enqueue(message).await.unwrap();
        id
    }

    /// Enqueues a message whose body comes in pieces.
    pub(crate) async fn enqueue_large(&self, bytes: usize) -> QueueId {
        let mut message = self.message(1);
        message.body = self.write(message.id, bytes).await;
        let id = message.id;
        self.spool.enqueue(message).await.unwrap();
        id
    }

    pub(crate) async fn write(&self, id: QueueId, bytes: usize) -> NewBody {
        let mut writer = self.spool.body_sink(id, self.spool.reserve_space(0).unwrap());
        let all = pattern(bytes);
        for piece in all.chunks(60_000) {
            writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    /// All that is due by `until`.
    pub(crate) async fn due(&self, until: Timestamp) -> Vec<Unit> {
        let lease = self.spool.acquire(waxwing_spool::ShardId::FIRST).await.unwrap();
        self.spool.scan_due(&lease, None, until, 1000).await.unwrap()
    }
}

pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
}

pub(crate) fn message(id: QueueId, recipients: usize, now: Timestamp) -> NewMessage {
    let recipient = |n| Recipient::new(Address::new(format!("r{n}"), "example.org").unwrap());
    let envelope = Envelope {
        sender: ReversePath::Address(Address::parse("sender@example.com").unwrap()),
        recipients: (0..recipients).map(recipient).collect(),
        body_type: BodyType::SevenBit,
        ret: None,
        envid: None,
        smtputf8: false,
        require_tls: false,
        origin: Origin::internal(Source::Smtp, now),
    };
    NewMessage {
        id,
        envelope,
        header: Bytes::from_static(b"Subject: test\r\n\r\n"),
        body: NewBody::inline(Bytes::from_static(b"hello\r\n")).unwrap(),
        tags: Tags::new(),
        hold: None,
        not_before: Duration::ZERO,
        priority: 0,
        attached: Vec::new(),
    }
}

pub(crate) fn gone(unit: &Unit) -> Settlement {
    Settlement {
        unit: unit.clone(),
        remaining: vec![],
        attempts: unit.attempts + 1,
        next_state: waxwing_spool::NextState::Removed,
        generated: Vec::new(),
    }
}

pub(crate) fn later(unit: &Unit, at: Timestamp) -> Settlement {
    let status = Status::local(EnhancedCode::new(4, 4, 1), "no answer");
    let wait = |recipient: &UnitRecipient| UnitRecipient { index: recipient.index, last_status: Some(status.clone()) };
    Settlement {
        unit: unit.clone(),
        remaining: unit.recipients.iter().map(wait).collect(),
        attempts: unit.attempts + 1,
        next_state: waxwing_spool::NextState::RetryAt(at),
        generated: Vec::new(),
    }
}

pub(crate) async fn read_all(body: &dyn BodyRead) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let piece = body.read(all.len() as u64, 100_000).await?;
        if piece.is_empty() {
            return Ok(all);
        }
        all.extend_from_slice(&piece);
    }
}
