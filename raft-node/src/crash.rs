//! Crash points: places where a test may ask the process to die, as `kill -9` would, between two
//! steps of the durability protocol.
//!
//! `QUORATE_CRASH_AT=<point>[:<n>]` kills the process when the point is passed for the n-th time
//! (default 1). They are in every build, so that the binary that is tested is the binary that is
//! shipped; unarmed, a point costs one relaxed load.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The environment variable.
pub const VARIABLE: &str = "QUORATE_CRASH_AT";

/// Every crash point, for tests that go through all of them.
pub const POINTS: &[&str] = &[
    "log.append.queued",
    "log.append.written",
    "log.append.synced",
    "log.vote.synced",
    "log.truncate.written",
    "log.purge.written",
    "log.segment.rolled",
    "apply.begin",
    "apply.written",
    "snapshot.build.begin",
    "snapshot.build.checkpointed",
    "snapshot.build.sealed",
    "snapshot.receive.file",
    "snapshot.receive.complete",
    "snapshot.install.prepared",
    "snapshot.install.adopted",
    "snapshot.install.switched",
];

static ARMED: AtomicBool = AtomicBool::new(false);
static TARGET: OnceLock<(String, AtomicU64)> = OnceLock::new();

/// Reads the environment once, at start.
///
/// # Errors
/// The variable names no crash point, or its count is no number above 0.
pub fn arm_from_environment() -> Result<(), String> {
    let Ok(value) = std::env::var(VARIABLE) else { return Ok(()) };
    let (point, count) = parse(&value)?;
    TARGET.get_or_init(|| (point, AtomicU64::new(count)));
    ARMED.store(true, Ordering::Release);
    tracing::warn!(%value, "crash point armed: this process will kill itself");
    Ok(())
}

fn parse(value: &str) -> Result<(String, u64), String> {
    let (point, count) = value.split_once(':').unwrap_or((value, "1"));
    if !POINTS.contains(&point) {
        return Err(format!("{VARIABLE}: no crash point {point:?}; there are: {POINTS:?}"));
    }
    match count.parse() {
        Ok(count) if count > 0 => Ok((point.to_owned(), count)),
        _ => Err(format!("{VARIABLE}: {count:?} is no count above 0")),
    }
}

/// What a simulation does at a crash point: it may unwind out of it, as a death that only the
/// tasks of one simulated node see.
#[cfg(feature = "simulation")]
pub mod simulated {
    use std::cell::Cell;

    thread_local! {
        static HOOK: Cell<Option<fn(&'static str)>> = const { Cell::new(None) };
    }

    /// Calls `hook` at every crash point that this thread passes.
    pub fn set_hook(hook: fn(&'static str)) {
        HOOK.set(Some(hook));
    }

    pub(super) fn pass(point: &'static str) {
        if let Some(hook) = HOOK.get() {
            hook(point);
        }
    }
}

/// Passes a crash point. Use through [`crate::crash_point!`].
pub fn pass(point: &'static str) {
    debug_assert!(POINTS.contains(&point), "{point} is missing in crash::POINTS");
    #[cfg(feature = "simulation")]
    simulated::pass(point);
    if !ARMED.load(Ordering::Relaxed) {
        return;
    }
    let Some((target, left)) = TARGET.get() else { return };
    if target == point && left.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: kill and getpid have no memory effects; SIGKILL leaves nothing to unwind.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        // The signal is delivered before this thread runs on; other threads stop with it.
        loop {
            std::thread::park();
        }
    }
}

/// Marks a step of the durability protocol at which a test may kill the process.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash::pass($name)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_checked() {
        assert_eq!(parse("apply.begin"), Ok(("apply.begin".to_owned(), 1)));
        assert_eq!(parse("apply.begin:7"), Ok(("apply.begin".to_owned(), 7)));
        assert!(parse("nowhere").unwrap_err().contains("no crash point"));
        assert!(parse("apply.begin:0").is_err() && parse("apply.begin:x").is_err());
    }
}
