//! Asking the leader on a caller's behalf, within limits: a replica that is stale must not turn its
//! whole load on the leader at the moment the leader can bear it least.
//!
//! Pure but for the clock that is passed in. Two limits: so many forwarded reads at once, and a
//! circuit breaker that opens after failures in a row and lets one through after a while.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::BootInstant;

/// Reads forwarded at once, per node.
pub const MAX_FORWARDED: usize = 64;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;

/// The breaker stays open this long, then lets one read try.
const OPEN: Duration = Duration::from_secs(1);

/// Why a read is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForwarded {
    /// As many are on their way as may be.
    Budget,
    /// The last ones failed.
    Open,
}

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    opened: Option<BootInstant>,
    /// One read is trying whether the leader is back.
    trying: bool,
}

/// The limits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Forwarding {
    budget: Arc<Semaphore>,
    breaker: Arc<Mutex<Breaker>>,
}

/// The right to forward one read. Must be told what came of it.
#[derive(Debug)]
pub struct Ticket {
    _budget: OwnedSemaphorePermit,
    breaker: Arc<Mutex<Breaker>>,
    told: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { budget: Arc::new(Semaphore::new(MAX_FORWARDED)), breaker: Arc::default() }
    }
}

impl Forwarding {
    /// May a read be forwarded now?
    ///
    /// # Errors
    /// [`NotForwarded`].
    pub fn begin(&self, now: BootInstant) -> Result<Ticket, NotForwarded> {
        let permit = self.budget.clone().try_acquire_owned().map_err(|_| NotForwarded::Budget)?;
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = breaker.opened {
            if breaker.trying || now.since(opened) < OPEN {
                return Err(NotForwarded::Open);
            }
            breaker.trying = true;
        }
        drop(breaker);
        Ok(Ticket { _budget: permit, breaker: self.breaker.clone(), told: false })
    }

    /// Is the breaker open?
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner).opened.is_some()
    }

    /// Reads that are on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        MAX_FORWARDED - self.budget.available_permits()
    }
}

impl Ticket {
    /// The leader answered (a refusal of its own is an answer).
    pub fn succeeded(mut self) {
        self.told = true;
        *self.breaker.lock().unwrap_or_else(PoisonError::into_inner) = Breaker::default();
    }

    /// It did not.
    pub fn failed(mut self, now: BootInstant) {
        self.told = true;
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.trying = false;
        breaker.failures += 1;
        if breaker.failures >= FAILURES {
            breaker.opened = Some(now);
        }
    }
}

impl Drop for Ticket {
    /// A caller that went away says nothing about the leader.
    fn drop(&mut self) {
        if !self.told {
            self.breaker.lock().unwrap_or_else(PoisonError::into_inner).trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::at(Duration::from_millis(ms))
    }

    #[test]
    fn the_budget_is_a_bound() {
        let forwarding = Forwarding::default();
        let held: Vec<_> = (0..MAX_FORWARDED).map(|_| forwarding.begin(at(0)).unwrap()).collect();
        assert_eq!(forwarding.begin(at(0)).unwrap_err(), NotForwarded::Budget);
        assert_eq!(forwarding.in_flight(), MAX_FORWARDED);
        drop(held);
        assert!(forwarding.begin(at(0)).is_ok());
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_read_tries_again() {
        let forwarding = Forwarding::default();
        for _ in 0..FAILURES - 1 {
            forwarding.begin(at(0)).unwrap().failed(at(0));
        }
        forwarding.begin(at(0)).unwrap().succeeded();
        for n in 0..FAILURES {
            assert!(!forwarding.is_open(), "a success starts the count again ({n})");
            forwarding.begin(at(10)).unwrap().failed(at(10));
        }
        assert_eq!(forwarding.begin(at(1009)).unwrap_err(), NotForwarded::Open);
        let probe = forwarding.begin(at(1010)).unwrap();
        assert_eq!(forwarding.begin(at(1010)).unwrap_err(), NotForwarded::Open, "only one");
        probe.failed(at(1010));
        assert_eq!(forwarding.begin(at(1500)).unwrap_err(), NotForwarded::Open);
        forwarding.begin(at(2010)).unwrap().succeeded();
        assert!(forwarding.begin(at(2010)).is_ok());
    }

    #[test]
    fn a_caller_that_goes_away_does_not_block_the_next_try() {
        let forwarding = Forwarding::default();
        (0..FAILURES).for_each(|_| forwarding.begin(at(0)).unwrap().failed(at(0)));
        drop(forwarding.begin(at(1000)).unwrap());
        assert!(forwarding.begin(at(1000)).is_ok());
    }
}
