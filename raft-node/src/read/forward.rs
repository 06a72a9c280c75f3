//! Asking the leader on a caller's behalf, within limits: a replica that is stale must not turn its
//! whole load on the leader at the moment the leader can bear it least.
//!
//! Pure but for the clock that is passed in. Two limits: so many forwarded reads at once, and for
//! each leader a circuit breaker that opens after failures in a row and lets one through after a
//! while. Groups have leaders of their own, and a leader that died has a successor.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{clock::BootInstant, raft::types::NodeId};

/// Reads forwarded at once, per node.
pub const MAX_FORWARDED: usize = 64;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;

/// The breaker stays open this long, then lets one read try.
const OPEN: Duration = Duration::from_secs(1);

/// What is known of a leader that nobody was forwarded to for this long is forgotten.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Why a read is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForwarded {
    /// As many are on their way as may be.
    Budget,
    /// The last ones failed.
    Open,
}

#[derive(Debug)]
struct Breaker {
    /// When a read was last to be forwarded.
    asked: BootInstant,
    failures: u32,
    opened: Option<BootInstant>,
    /// One read is trying whether the leader is back.
    trying: bool,
}

impl Breaker {
    fn closed(asked: BootInstant) -> Self {
        Self { asked, failures: 0, opened: None, trying: false }
    }
}

type Breakers = Arc<Mutex<BTreeMap<NodeId, Breaker>>>;

/// The limits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Forwarding {
    budget: Arc<Semaphore>,
    breakers: Breakers,
}

/// The right to forward one read. Must be told what came of it.
#[derive(Debug)]
pub struct Ticket {
    _budget: OwnedSemaphorePermit,
    breakers: Breakers,
    leader: NodeId,
    told: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self { budget: Arc::new(Semaphore::new(MAX_FORWARDED)), breakers: Arc::default() }
    }
}

impl Forwarding {
    /// May a read be forwarded to this leader now?
    ///
    /// # Errors
    /// [`NotForwarded`].
    pub fn begin(&self, leader: NodeId, now: BootInstant) -> Result<Ticket, NotForwarded> {
        let permit = self.budget.clone().try_acquire_owned().map_err(|_| NotForwarded::Budget)?;
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.retain(|_, breaker| now.since(breaker.asked) < REMEMBERED);
        if let Some(breaker) = breakers.get_mut(&leader) {
            breaker.asked = now;
            if let Some(opened) = breaker.opened {
                if breaker.trying || now.since(opened) < OPEN {
                    return Err(NotForwarded::Open);
                }
                breaker.trying = true;
            }
        }
        drop(breakers);
        Ok(Ticket { _budget: permit, breakers: self.breakers.clone(), leader, told: false })
    }

    /// Is a breaker open?
    #[must_use]
    pub fn is_open(&self) -> bool {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.values().any(|breaker| breaker.opened.is_some())
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
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.leader);
    }

    /// It did not.
    pub fn failed(mut self, now: BootInstant) {
        self.told = true;
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.entry(self.leader).or_insert_with(|| Breaker::closed(now));
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
            let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(breaker) = breakers.get_mut(&self.leader) {
                breaker.trying = false;
            }
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
        let held: Vec<_> =
            (0..MAX_FORWARDED).map(|_| forwarding.begin(1, at(0)).unwrap()).collect();
        assert_eq!(forwarding.begin(1, at(0)).unwrap_err(), NotForwarded::Budget);
        assert_eq!(forwarding.in_flight(), MAX_FORWARDED);
        drop(held);
        assert!(forwarding.begin(1, at(0)).is_ok());
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_read_tries_again() {
        let forwarding = Forwarding::default();
        for _ in 0..FAILURES - 1 {
            forwarding.begin(1, at(0)).unwrap().failed(at(0));
        }
        forwarding.begin(1, at(0)).unwrap().succeeded();
        for n in 0..FAILURES {
            assert!(!forwarding.is_open(), "a success starts the count again ({n})");
            forwarding.begin(1, at(10)).unwrap().failed(at(10));
        }
        assert_eq!(forwarding.begin(1, at(1009)).unwrap_err(), NotForwarded::Open);
        let probe = forwarding.begin(1, at(1010)).unwrap();
        assert_eq!(forwarding.begin(1, at(1010)).unwrap_err(), NotForwarded::Open, "only one");
        probe.failed(at(1010));
        assert_eq!(forwarding.begin(1, at(1500)).unwrap_err(), NotForwarded::Open);
        forwarding.begin(1, at(2010)).unwrap().succeeded();
        assert!(forwarding.begin(1, at(2010)).is_ok());
    }

    #[test]
    fn a_leader_that_does_not_answer_stands_for_no_other() {
        let forwarding = Forwarding::default();
        (0..FAILURES).for_each(|_| forwarding.begin(1, at(0)).unwrap().failed(at(0)));
        assert_eq!(forwarding.begin(1, at(10)).unwrap_err(), NotForwarded::Open);
        let successor = forwarding.begin(2, at(10)).unwrap();
        successor.succeeded();
        assert!(forwarding.is_open(), "the success was another's");
        assert_eq!(forwarding.begin(1, at(10)).unwrap_err(), NotForwarded::Open);
        forwarding.begin(2, at(60_010)).unwrap().succeeded();
        assert!(!forwarding.is_open(), "nobody has wanted the first one for a minute");
    }

    #[test]
    fn a_caller_that_goes_away_does_not_block_the_next_try() {
        let forwarding = Forwarding::default();
        (0..FAILURES).for_each(|_| forwarding.begin(1, at(0)).unwrap().failed(at(0)));
        drop(forwarding.begin(1, at(1000)).unwrap());
        assert!(forwarding.begin(1, at(1000)).is_ok());
    }
}
