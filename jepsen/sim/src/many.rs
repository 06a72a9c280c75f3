//! Many runs, on as many threads as there are to spare, in the order of their seeds.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::run::{self, Outcome, Plan};

/// A run is given up when it takes longer than this: something in it goes round in circles.
const STUCK: Duration = Duration::from_secs(120);

/// Runs `plan` with the seeds from `first` on, `count` of them, and hands every outcome to `each`,
/// in the order of seeds, so that what is found first does not depend on how busy the machine is;
/// `each` says whether to go on. Ends the process if a run does not end.
pub fn run_many(
    plan: &Plan,
    first: u64,
    count: u64,
    jobs: usize,
    mut each: impl FnMut(Outcome) -> bool,
) {
    let next = AtomicU64::new(first);
    let end = first + count;
    let running: Mutex<Vec<(u64, Instant)>> = Mutex::default();
    let (outcomes, arriving) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (outcomes, next, running) = (outcomes.clone(), &next, &running);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let lock = || running.lock().unwrap_or_else(PoisonError::into_inner);
                    lock().push((seed, Instant::now()));
                    let outcome = run::run(&Plan { seed, ..plan.clone() });
                    lock().retain(|(other, _)| *other != seed);
                    if outcomes.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(outcomes);
        let mut early: BTreeMap<u64, Outcome> = BTreeMap::new();
        let mut turn = first;
        loop {
            match arriving.recv_timeout(Duration::from_secs(1)) {
                Ok(outcome) => {
                    early.insert(outcome.seed, outcome);
                    while let Some(outcome) = early.remove(&turn) {
                        turn += 1;
                        if !each(outcome) {
                            next.store(end, Ordering::Relaxed);
                            return;
                        }
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let running = running.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((seed, _)) = running.iter().find(|(_, at)| at.elapsed() > STUCK) {
                        // Its thread can't be ended; the process is about to.
                        eprintln!("seed {seed} does not end: it is stuck");
                        std::process::exit(255);
                    }
                }
            }
        }
    })
}
