//! `quorate-node-planted`: a node with a fault planted in it, under a name of its own, so that nobody
//! takes it for the real one. `jepsen mutants` builds it; no release does.

mod allocator;

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use quorate_raft_node::{observe::exit::ExitCode, program};
use quorate_state_machine::planted::process;

fn main() {
    match std::env::var(process::VARIABLE).as_deref() {
        Ok("") | Err(_) => eprintln!("a build for planted faults, with none of them planted"),
        Ok(name) => match process::plant(name) {
            Ok(name) => eprintln!("planted fault: {name}"),
            Err(why) => {
                eprintln!("{why}");
                std::process::exit(i32::from(ExitCode::Config.code()));
            }
        },
    }
    if process::planted() == Some("lease_ignores_pause") {
        process::watch_stops(unseen);
        thread::spawn(watch);
    }
    program::main()
}

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(10);

/// A longer silence than this is a stop of the process, not a busy machine.
const STOPPED_MS: u64 = 250;

static START: OnceLock<Instant> = OnceLock::new();
static UNSEEN_MS: AtomicU64 = AtomicU64::new(0);
static LAST_TICK_MS: AtomicU64 = AtomicU64::new(0);

fn now_ms() -> u64 {
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The time since the last tick, if it is long enough that the process was stopped in it.
fn stop_ms() -> u64 {
    let gap = now_ms().saturating_sub(LAST_TICK_MS.load(Ordering::Relaxed));
    if gap > STOPPED_MS { gap } else { 0 }
}

fn watch() {
    loop {
        thread::sleep(TICK);
        UNSEEN_MS.fetch_add(stop_ms(), Ordering::Relaxed);
        LAST_TICK_MS.store(now_ms(), Ordering::Relaxed);
    }
}

/// How long the process was stopped so far. Right after a stop the watch may not have ticked yet.
fn unseen() -> Duration {
    Duration::from_millis(UNSEEN_MS.load(Ordering::Relaxed) + stop_ms())
}
