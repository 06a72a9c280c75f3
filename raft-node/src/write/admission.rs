//! Backpressure at the edge: bytes of commands admitted and not yet answered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a queued command costs besides its payload: its struct, channel slots and index entries.
/// Keeps a flood of empty commands within the bound as well.
const OVERHEAD_BYTES: usize = 512;

/// The bound, shared by all groups and connections of a node.
#[derive(Clone, Debug)]
pub struct Admission {
    permits: Arc<Semaphore>,
    limit_bytes: usize,
}

/// Held from admission until the answer is known; gives the bytes back when dropped.
#[derive(Debug)]
pub struct Permit {
    _bytes: OwnedSemaphorePermit,
}

/// The bound is reached. The command was not taken and has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{in_flight} of {limit_bytes} bytes of commands are in flight on this node")]
pub struct Overloaded {
    /// Bytes in flight when refused.
    pub in_flight: u64,
    /// The setting `limits.inflight_mb`, in bytes.
    pub limit_bytes: u64,
}

impl Admission {
    /// Admits up to `limit_bytes` at a time.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        assert!(limit_bytes > OVERHEAD_BYTES, "a limit that admits nothing");
        Self { permits: Arc::new(Semaphore::new(limit_bytes)), limit_bytes }
    }

    /// Admits a command of `payload_bytes` now, or says that the bound is reached. Never waits:
    /// a caller who would queue here is better told to come back.
    ///
    /// # Errors
    /// [`Overloaded`].
    pub fn admit(&self, payload_bytes: usize) -> Result<Permit, Overloaded> {
        // A command larger than the whole bound may pass alone.
        let cost = (payload_bytes + OVERHEAD_BYTES).min(self.limit_bytes);
        let cost = u32::try_from(cost).expect("commands are far below 4 GiB");
        match self.permits.clone().try_acquire_many_owned(cost) {
            Ok(bytes) => Ok(Permit { _bytes: bytes }),
            Err(_) => Err(Overloaded {
                in_flight: self.in_flight_bytes(),
                limit_bytes: self.limit_bytes as u64,
            }),
        }
    }

    /// Bytes admitted and not yet answered.
    #[must_use]
    pub fn in_flight_bytes(&self) -> u64 {
        (self.limit_bytes - self.permits.available_permits()) as u64
    }

    /// The bound.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_bound_and_recovers() {
        let admission = Admission::new(10_000);
        let first = admission.admit(6_000).unwrap();
        let refused = admission.admit(6_000).unwrap_err();
        assert_eq!(refused.limit_bytes, 10_000);
        assert!(refused.in_flight >= 6_000);
        drop(first);
        assert_eq!(admission.in_flight_bytes(), 0);
        admission.admit(6_000).unwrap();
    }

    #[test]
    fn empty_commands_cost_something() {
        let admission = Admission::new(10_000);
        let held: Vec<_> = std::iter::from_fn(|| admission.admit(0).ok()).take(1000).collect();
        assert!(held.len() < 20);
    }

    #[test]
    fn a_command_larger_than_the_bound_passes_alone() {
        let admission = Admission::new(10_000);
        let big = admission.admit(50_000).unwrap();
        assert!(admission.admit(1).is_err());
        drop(big);
        assert!(admission.admit(1).is_ok());
    }
}
