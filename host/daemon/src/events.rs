//! Events for accounting: taken off the mail's way, bounded, told to the plugins of on-event one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Context, Event, Events, Hook, Pipeline};
use waxwing_types::Via;

/// Events that may wait; more are dropped, and counted. Each is a few hundred octets.
const EVENTS_MAX: usize = 4_096;

/// Where events go in.
pub(crate) struct EventLine {
    pipeline: Arc<Pipeline>,
    line: mpsc::Sender<(String, String)>,
    dropped: Arc<AtomicU64>,
}

impl EventLine {
    /// Starts the task that tells plugins of them, until the shutdown.
    pub(crate) fn start(pipeline: &Arc<Pipeline>, shutdown: Shutdown) -> Arc<Self> {
        let (line, waiting) = mpsc::channel(EVENTS_MAX);
        let dropped = Arc::<AtomicU64>::default();
        drop(spawn("events", tell(Arc::clone(pipeline), waiting, Arc::clone(&dropped), shutdown)));
        Arc::new(Self { pipeline: Arc::clone(pipeline), line, dropped })
    }
}

impl Events for EventLine {
    fn wanted(&self) -> bool {
        self.pipeline.has(Hook::OnEvent)
    }

    fn happened(&self, name: &str, json: String) {
        if self.line.try_send((name.to_owned(), json)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn tell(
    pipeline: Arc<Pipeline>,
    mut waiting: mpsc::Receiver<(String, String)>,
    dropped: Arc<AtomicU64>,
    mut shutdown: Shutdown,
) {
    loop {
        let (name, json) = tokio::select! {
            biased;
            event = waiting.recv() => match event {
                Some(event) => event,
                None => return,
            },
            () = shutdown.wait() => return,
        };
        pipeline.tell(&mut pipeline.chain(), &mut Context::new(Via::Api, None), Event::Observe { name, json }).await;
        let lost = if waiting.is_empty() { dropped.swap(0, Ordering::Relaxed) } else { 0 };
        if lost > 0 {
            tracing::warn!(target: "plugins", lost, "on-event is too slow: events were dropped");
        }
    }
}
