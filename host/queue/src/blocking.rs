//! Blocking work of the spool: runs off the async runtime's workers, with bounded concurrency.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Maximum number of blocking spool jobs that run at the same time.
const JOBS_MAX: usize = 32;

/// Runs blocking work on the runtime's blocking threads.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPool(Arc<Semaphore>);

impl Default for BlockingPool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(JOBS_MAX)))
    }
}

impl BlockingPool {
    /// Starts `job` without waiting for the result; skips the job if [`JOBS_MAX`] jobs are running.
    pub(crate) fn try_start(&self, job: impl FnOnce() + Send + 'static) {
        if let Ok(permit) = self.0.clone().try_acquire_owned() {
            drop(tokio::task::spawn_blocking(move || {
                job();
                drop(permit);
            }));
        }
    }

    /// Runs `job` to completion, even if the caller's future is dropped.
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
