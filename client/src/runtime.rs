//! The seam to the async runtime: tasks, time and dice. A simulation replaces what is behind these
//! functions; everything else in this crate knows no clock of its own.

use std::{future::Future, time::Duration};

pub use tokio::time::Instant;

/// Starts a task that nobody waits for.
pub fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) {
    drop(tokio::spawn(future));
}

/// Sleeps.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Sleeps until then.
pub async fn sleep_until(when: Instant) {
    tokio::time::sleep_until(when).await;
}

/// Gives `future` at most `limit`; `None` when the limit came first.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// Uniform in 0..1.
pub fn dice() -> f64 {
    rand::random()
}
