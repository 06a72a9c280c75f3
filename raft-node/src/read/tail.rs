//! Waiting for a log to grow.

use std::time::Duration;

use quorate_state_machine::types::LogPoint;
use tokio::sync::watch;

use crate::runtime;

/// Follows a group's applied point on behalf of one tail.
pub struct Follower {
    applied: watch::Receiver<LogPoint>,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something was applied since the last look.
    Applied,
    /// Nothing was, for the whole interval: time for a header.
    Quiet,
    /// The group is gone.
    Gone,
}

impl Follower {
    /// Starts behind everything applied so far.
    #[must_use]
    pub fn new(mut applied: watch::Receiver<LogPoint>) -> Self {
        applied.mark_unchanged();
        Self { applied }
    }

    /// Must be called before each look at the state: what is applied after this call wakes the
    /// next [`Self::wait`], so nothing falls between the look and the wait.
    pub fn arm(&mut self) {
        self.applied.mark_unchanged();
    }

    /// Waits for the next apply, at most `quiet`.
    pub async fn wait(&mut self, quiet: Duration) -> Woken {
        match runtime::timeout(quiet, self.applied.changed()).await {
            Ok(Ok(())) => Woken::Applied,
            Ok(Err(_)) => Woken::Gone,
            Err(_) => Woken::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_falls_between_the_look_and_the_wait() {
        let (applied, receiver) = watch::channel(LogPoint::default());
        let mut follower = Follower::new(receiver);
        follower.arm();
        applied.send_replace(LogPoint::default());
        assert_eq!(follower.wait(Duration::from_secs(60)).await, Woken::Applied);
        follower.arm();
        assert_eq!(follower.wait(Duration::from_millis(1)).await, Woken::Quiet);
        drop(applied);
        assert_eq!(follower.wait(Duration::from_secs(60)).await, Woken::Gone);
    }
}
