//! The seam to the async runtime: the only place where this crate (outside `log_store`'s thread and
//! openraft) creates tasks, sleeps or reads the monotonic clock. A simulation replaces what is
//! behind these functions; everything else knows no runtime of its own.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

pub use tokio::time::{Instant, error::Elapsed};

/// Handle to a spawned task.
pub type Task<T> = tokio::task::JoinHandle<T>;

/// Starts a task.
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    tokio::spawn(future)
}

/// The threads that serve clients. Consensus runs on a thread of its own: no read that waits for a
/// disk and no crowd of clients delays a heartbeat.
#[derive(Clone, Debug)]
pub struct Edge(tokio::runtime::Handle);

impl Edge {
    /// Threads that are there already; they must outlive what is spawned on them.
    #[must_use]
    pub fn new(threads: tokio::runtime::Handle) -> Self {
        Self(threads)
    }

    /// Starts a task there. What it spawns stays there too.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.spawn(future)
    }
}

/// Sleeps.
pub async fn sleep(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    tokio::time::sleep(duration).await;
}

/// A wait that is begun again and again. To put off one that is under way costs next to nothing,
/// where each new timer that is due before all others makes the thread wake itself: a system call,
/// and another turn of its loop.
#[derive(Default)]
pub struct Alarm(Option<Pin<Box<tokio::time::Sleep>>>);

impl Alarm {
    /// Ready from `at` on. Asked for an earlier time it can't be put off, and costs a timer.
    pub fn poll_until(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}

/// Gives `future` at most `limit`.
///
/// # Errors
/// [`Elapsed`] when the limit came first; the future is dropped then.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    tokio::time::timeout(limit, future).await
}

/// Monotonic time of the runtime. Never crosses the wire, never proves an age (see `clock`).
#[must_use]
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    Instant::now()
}

/// Runs blocking work (file systems, RocksDB) off the event loop and waits for it.
///
/// # Panics
/// If the work panics; the process is about to abort then (see `main`).
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    // Another thread would finish whenever it likes.
    #[cfg(feature = "simulation")]
    return work();
    #[cfg(not(feature = "simulation"))]
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    tokio::task::spawn_blocking(work).await.expect("blocking work does not panic")
}
