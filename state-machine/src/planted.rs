//! Faults planted on purpose, so that the checks can be seen to catch them. Outside of simulations
//! (feature `simulation`) there are none, and every question for one is answered at compile time.

#[cfg(feature = "simulation")]
use std::cell::Cell;

#[cfg(feature = "simulation")]
thread_local! {
    static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Plants a fault in this thread, or none.
#[cfg(feature = "simulation")]
pub fn plant(fault: Option<&'static str>) {
    PLANTED.set(fault);
}

#[cfg(feature = "simulation")]
thread_local! {
    static UNSEEN_MS: Cell<u64> = const { Cell::new(0) };
}

/// How long the process that runs in this thread was stopped so far: what a clock misses that does
/// not count such times.
#[cfg(feature = "simulation")]
pub fn set_unseen_ms(ms: u64) {
    UNSEEN_MS.set(ms);
}

/// See [`set_unseen_ms`].
#[cfg(feature = "simulation")]
#[must_use]
pub fn unseen() -> std::time::Duration {
    std::time::Duration::from_millis(UNSEEN_MS.get())
}

/// Is this fault planted in this thread?
#[cfg(feature = "simulation")]
#[must_use]
pub fn is(fault: &str) -> bool {
    PLANTED.get() == Some(fault)
}

/// No fault is planted.
#[cfg(not(feature = "simulation"))]
#[must_use]
#[inline]
pub const fn is(_fault: &str) -> bool {
    false
}

/// Nothing is missed.
#[cfg(not(feature = "simulation"))]
#[must_use]
#[inline]
pub const fn unseen() -> std::time::Duration {
    std::time::Duration::ZERO
}
