//! Faults planted on purpose, so that the checks can be seen to catch them.
//!
//! Two kinds of builds have any: simulations (feature `simulation`), where the thread that runs one
//! plants it, and `quorate-node-planted` (feature `planted`), which is told at its start. In all
//! others, every release among them, each question for one is answered at compile time.

#[cfg(feature = "planted")]
pub mod process;

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

/// How long the process was stopped so far, as far as a planted fault asks for it.
#[must_use]
#[inline]
pub fn unseen() -> std::time::Duration {
    #[cfg(feature = "simulation")]
    return std::time::Duration::from_millis(UNSEEN_MS.get());
    #[cfg(all(feature = "planted", not(feature = "simulation")))]
    return process::unseen();
    #[cfg(not(any(feature = "planted", feature = "simulation")))]
    std::time::Duration::ZERO
}

/// Is this fault planted, in this thread or in the whole process?
#[cfg(any(feature = "planted", feature = "simulation"))]
#[must_use]
pub fn is(fault: &str) -> bool {
    #[cfg(feature = "simulation")]
    if PLANTED.get() == Some(fault) {
        return true;
    }
    #[cfg(feature = "planted")]
    if process::planted() == Some(fault) {
        return true;
    }
    false
}

/// No fault is planted.
#[cfg(not(any(feature = "planted", feature = "simulation")))]
#[must_use]
#[inline]
pub const fn is(_fault: &str) -> bool {
    false
}
