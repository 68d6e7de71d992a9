//! The one way to work that blocks: off the reactor, and not too much of it at once.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Blocking jobs of the spool that run at the same time.
const JOBS_MAX: usize = 32;

/// Runs blocking work on the runtime's blocking threads.
#[derive(Clone, Debug)]
pub(crate) struct Blocking(Arc<Semaphore>);

impl Default for Blocking {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(JOBS_MAX)))
    }
}

impl Blocking {
    /// Begins `job`, which nobody waits for, unless enough others are at work.
    pub(crate) fn start(&self, job: impl FnOnce() + Send + 'static) {
        if let Ok(permit) = self.0.clone().try_acquire_owned() {
            drop(tokio::task::spawn_blocking(move || {
                job();
                drop(permit);
            }));
        }
    }

    /// Runs `job` to its end, also if the caller goes away.
    pub(crate) async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let permit = self.0.clone().acquire_owned().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        done.await.map_err(io::Error::other)
    }
}
