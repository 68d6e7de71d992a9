//! Tasks and how they are told to end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Tells every task that the server is going down. Cheap to clone; the trigger knows when the last clone is gone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The one that starts the shutdown.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl Shutdown {
    /// A pair, not triggered.
    #[must_use]
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// It has begun.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it begins; a trigger that was dropped counts as triggered.
    pub async fn wait(&mut self) {
        // An error means that the trigger is gone, and with it the server.
        let _ = self.0.wait_for(|triggered| *triggered).await;
    }
}

impl ShutdownTrigger {
    /// Begins the shutdown.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Waits until every [`Shutdown`] is dropped: every task that holds one has ended. The caller bounds the wait.
    pub async fn finished(&self) {
        self.0.closed().await;
    }

    /// One more receiver.
    #[must_use]
    pub fn subscribe(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

/// Starts a task: the one place that does. A task that runs on holds a [`Shutdown`] and ends with it. A panic in it is
/// logged with `name` and ends that task only.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[allow(clippy::disallowed_methods, reason = "this is the helper that stands for tokio::spawn")]
    tokio::spawn(Watched { name, finished: false, future })
}

pin_project! {
    /// Notices that a task is unwinding. An async block that awaited the future would have room for it twice.
    struct Watched<F> {
        name: &'static str,
        finished: bool,
        #[pin]
        future: F,
    }

    impl<F> PinnedDrop for Watched<F> {
        fn drop(this: Pin<&mut Self>) {
            if !this.finished && std::thread::panicking() {
                tracing::error!(task = this.name, "task panicked");
            }
        }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        *this.finished = true;
        Poll::Ready(output)
    }
}
