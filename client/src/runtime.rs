//! The seam to the async runtime: tasks, time and dice. A simulation replaces what is behind these
//! functions; everything else in this crate knows no clock of its own.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

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

/// Lets everything else that can run have its turn first.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// Gives `future` at most `limit`; `None` when the limit came first.
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Gives `future` until `deadline`; `None` when that came first.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    tokio::time::timeout_at(deadline, future).await.ok()
}

/// What `future` gives without waiting. Not held back by the runtime's turns, which would make
/// something that is there look absent.
pub fn at_once<F: Future>(future: F) -> Option<F::Output> {
    use futures::FutureExt;
    tokio::task::unconstrained(future).now_or_never()
}

/// Monotonic time.
pub fn now() -> Instant {
    Instant::now()
}

/// A moment on two clocks: monotonic time stands still while a machine sleeps, and wall time may be
/// set back. For bounds where late is harmful and early is not.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: Instant,
    wall: SystemTime,
}

impl Moment {
    pub fn now() -> Self {
        Self { at: now(), wall: SystemTime::now() }
    }

    /// The longer of what both clocks say.
    pub fn until(&self, later: &Self) -> Duration {
        let wall = later.wall.duration_since(self.wall).unwrap_or_default();
        later.at.saturating_duration_since(self.at).max(wall)
    }
}

/// Uniform in 0..1.
pub fn dice() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_slept_did_not_stop_time() {
        let began = Moment::now();
        let hour = Duration::from_secs(3600);
        let slept = Moment { wall: began.wall + hour, ..began };
        let set_back = Moment { at: began.at + hour, wall: began.wall - hour };
        assert_eq!((began.until(&slept), began.until(&set_back)), (hour, hour));
        assert_eq!(slept.until(&began), Duration::ZERO);
    }
}
