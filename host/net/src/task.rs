//! Task spawning and the shutdown signal.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Receiver of the shutdown signal. Cheap to clone; the trigger observes when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Sender of the shutdown signal.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl Shutdown {
    /// Creates a trigger and a receiver, not triggered.
    #[must_use]
    pub fn new() -> (ShutdownTrigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(sender), Self(receiver))
    }

    /// Returns whether the shutdown has started.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the start of the shutdown; a dropped trigger counts as triggered.
    pub async fn wait(&mut self) {
        // An error means a dropped trigger, at the end of the server.
        let _ = self.0.wait_for(|triggered| *triggered).await;
    }

    /// Sleeps for the duration; returns false if the shutdown started before the end.
    pub async fn sleep(&mut self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.wait() => false,
        }
    }
}

impl ShutdownTrigger {
    /// Starts the shutdown.
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Waits until every [`Shutdown`] is dropped, so that all tasks with a receiver have ended. The caller limits the
    /// waiting time.
    pub async fn all_dropped(&self) {
        self.0.closed().await;
    }

    /// Creates another receiver.
    #[must_use]
    pub fn subscribe(&self) -> Shutdown {
        Shutdown(self.0.subscribe())
    }
}

/// Spawns a task; the only use of `tokio::spawn`. A long-running task holds a [`Shutdown`] and ends with the signal.
/// A panic is logged with `name` and ends only the task.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[allow(clippy::disallowed_methods, reason = "this is the helper that stands for tokio::spawn")]
    tokio::spawn(PanicLogger { name, finished: false, future })
}

pin_project! {
    /// Logs a panic of the task. A wrapping async block would reserve twice the space of the future.
    struct PanicLogger<F> {
        name: &'static str,
        finished: bool,
        #[pin]
        future: F,
    }

    impl<F> PinnedDrop for PanicLogger<F> {
        fn drop(this: Pin<&mut Self>) {
            if !this.finished && std::thread::panicking() {
                tracing::error!(task = this.name, "task panicked");
            }
        }
    }
}

impl<F: Future> Future for PanicLogger<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.future.poll(cx));
        *this.finished = true;
        Poll::Ready(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_early_at_the_shutdown() {
        let (trigger, mut shutdown) = Shutdown::new();
        assert!(shutdown.sleep(Duration::from_millis(1)).await);
        trigger.trigger();
        assert!(!shutdown.sleep(Duration::from_secs(5)).await);
    }
}
