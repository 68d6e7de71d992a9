//! Accounting events: a bounded queue off the mail path, dispatched to the `on-event` hooks in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use waxwing_net::{Shutdown, spawn};
use waxwing_pipeline::{Context, Event, EventSink, Hook, Pipeline};
use waxwing_types::Source;

/// Events that may wait, each of a few hundred bytes; further events are dropped and counted.
const EVENTS_MAX: usize = 4_096;

/// Bounded queue of accounting events; full queues drop, so publishing never blocks.
pub(crate) struct EventQueue {
    pipeline: Arc<Pipeline>,
    sender: mpsc::Sender<(String, String)>,
    dropped: Arc<AtomicU64>,
}

impl EventQueue {
    /// Creates the queue and starts the task that calls the plugins, until shutdown.
    pub(crate) fn start(pipeline: &Arc<Pipeline>, shutdown: Shutdown) -> Arc<Self> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let dropped = Arc::<AtomicU64>::default();
        drop(spawn("events", dispatch(Arc::clone(pipeline), receiver, Arc::clone(&dropped), shutdown)));
        Arc::new(Self { pipeline: Arc::clone(pipeline), sender, dropped })
    }
}

impl EventSink for EventQueue {
    fn has_subscribers(&self) -> bool {
        self.pipeline.has_hook(Hook::OnEvent)
    }

    fn publish(&self, name: &str, json: String) {
        if self.sender.try_send((name.to_owned(), json)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn dispatch(
    pipeline: Arc<Pipeline>,
    mut receiver: mpsc::Receiver<(String, String)>,
    dropped: Arc<AtomicU64>,
    mut shutdown: Shutdown,
) {
    loop {
        let (name, json) = tokio::select! {
            biased;
            event = receiver.recv() => match event {
                Some(event) => event,
                None => return,
            },
            () = shutdown.wait() => return,
        };
        pipeline
            .notify(&mut pipeline.open_session(), &mut Context::new(Source::Api, None), Event::Accounting { name, json })
            .await;
        let lost = if receiver.is_empty() { dropped.swap(0, Ordering::Relaxed) } else { 0 };
        if lost > 0 {
            tracing::warn!(target: "plugins", lost, "on-event is too slow: events were dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use waxwing_pipeline::{
        AddressClassifier, Binding, BindingSettings, CallOutcome, Fault, HookAnswer, HookSet, Plugin, PluginSession,
    };
    use waxwing_types::{Address, AddressClass, ManualClock};

    use super::*;

    /// Notes what it hears.
    #[derive(Clone, Default)]
    struct Ear(Arc<parking_lot::Mutex<Vec<String>>>);

    impl Plugin for Ear {
        fn version(&self) -> &str {
            "1"
        }
        fn exports(&self) -> HookSet {
            HookSet::default().with(Hook::OnEvent)
        }
        fn open_session(self: Arc<Self>) -> Box<dyn PluginSession> {
            Box::new(self.as_ref().clone())
        }
    }

    #[async_trait]
    impl PluginSession for Ear {
        async fn call(&mut self, event: &Event, _: &Context) -> Result<CallOutcome, Fault> {
            if let Event::Accounting { name, json } = event {
                self.0.lock().push(format!("{name} {json}"));
            }
            Ok(CallOutcome::from_answer(HookAnswer::Done))
        }
    }

    impl AddressClassifier for Ear {
        fn class_of(&self, _: &Address) -> AddressClass {
            AddressClass::Remote
        }
    }

    fn pipeline(bindings: Vec<Arc<Binding>>) -> Arc<Pipeline> {
        Arc::new(Pipeline::new(bindings, Arc::new(Ear::default()), Arc::new(ManualClock::default())))
    }

    #[tokio::test]
    async fn events_are_told_in_order_and_what_is_too_much_is_dropped() {
        let (_trigger, shutdown) = Shutdown::new();
        let ear = Ear::default();
        let bound = pipeline(vec![Binding::new("ear", Arc::new(ear.clone()), BindingSettings::default())]);
        let queue = EventQueue::start(&bound, shutdown.clone());
        assert!(queue.has_subscribers() && !EventQueue::start(&pipeline(Vec::new()), shutdown).has_subscribers());
        // The task has no turn before this one waits.
        for number in 0..EVENTS_MAX + 3 {
            queue.publish("delivered", number.to_string());
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        for _ in 0..1_000 {
            if ear.0.lock().len() == EVENTS_MAX && queue.dropped.load(Ordering::Relaxed) == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let received = ear.0.lock().clone();
        assert_eq!((received.len(), received[0].as_str(), received[7].as_str()), (EVENTS_MAX, "delivered 0", "delivered 7"));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 0, "they were logged");
    }
}
