//! The seam to the clocks.
//!
//! The wall clock stamps records. Ages are proven on CLOCK_BOOTTIME, which runs on while the
//! machine is suspended: a monotonic clock that stops would make an old answer look young.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Time since boot, suspended time included. Only comparable within one machine and boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// A point that long after boot.
    #[must_use]
    pub fn at(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// That long earlier; the moment of boot at the earliest.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }

    /// That long later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Time from `earlier` to `self`; zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch. May jump in both directions; nothing but record
    /// timestamps depends on it.
    fn wall_ms(&self) -> u64;
    /// Now, on the clock that proves ages.
    fn boot(&self) -> BootInstant;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the seam")]
        let now = SystemTime::now();
        // A clock set before 1970 counts as 1970; apply keeps timestamps monotonic anyway.
        now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    fn boot(&self) -> BootInstant {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is a valid timespec for the call to fill.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) };
        assert_eq!(failed, 0, "CLOCK_BOOTTIME exists on every Linux since 2.6.39");
        BootInstant(Duration::new(now.tv_sec as u64, now.tv_nsec as u32))
    }
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    boot_ms: AtomicU64,
}

impl ManualClock {
    /// Sets the wall clock.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ms.store(ms, Ordering::Release);
    }

    /// Lets time since boot pass.
    pub fn advance(&self, by: Duration) {
        self.boot_ms.fetch_add(by.as_millis() as u64, Ordering::AcqRel);
    }
}

impl Clock for ManualClock {
    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Acquire)
    }

    fn boot(&self) -> BootInstant {
        BootInstant(Duration::from_millis(self.boot_ms.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_since_boot_moves_forward() {
        let first = SystemClock.boot();
        let second = SystemClock.boot();
        assert!(second >= first && second.since(first) < Duration::from_secs(60));
        assert_eq!(first.since(first), Duration::ZERO);
        assert!(SystemClock.wall_ms() > 1_600_000_000_000);
    }
}
