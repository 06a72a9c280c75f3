//! An open loop: requests leave at a rate, whether or not those before them were answered.

use std::time::{Duration, Instant};

/// Requests that may leave in a row when the generator is late, before others get a turn.
const IN_A_ROW: u64 = 64;

/// When the next request is due.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    per_second: f64,
    due: u64,
}

impl Pace {
    /// So many a second, from now on.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        assert!(per_second > 0.0, "a rate of nothing has no next");
        Self { began: Instant::now(), per_second, due: 0 }
    }

    /// Waits until the next one is due and says when that was: what comes late for want of
    /// processor time is still measured from then.
    pub async fn next(&mut self) -> Instant {
        let due = self.began + Duration::from_secs_f64(self.due as f64 / self.per_second);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        } else if self.due.is_multiple_of(IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        // Only now: who stops waiting in between has not got this one.
        self.due += 1;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_late_is_caught_up_with() {
        let mut pace = Pace::new(1000.0);
        let began = pace.began;
        std::thread::sleep(Duration::from_millis(50));
        for n in 0..40 {
            assert_eq!(pace.next().await, began + Duration::from_millis(n));
        }
        for _ in 0..40 {
            let due = pace.next().await;
            assert!(Instant::now() >= due, "before it was due");
        }
        assert!(began.elapsed() >= Duration::from_millis(79));
    }
}
