//! What a purge gives back at once is written again by what comes next, up to a bound: a file that
//! is removed and made anew costs a write of zeros for each byte of the log.

use std::time::{Duration, Instant};

use super::{super::*, append, entry, open_with, options, run, scratch};

/// Segments at the end of a round; all but the last are given back by one purge.
const SEGMENTS: u64 = 7;

/// By one purge.
const GIVEN_BACK: usize = SEGMENTS as usize - 1;

/// Appends until there are [`SEGMENTS`], from `next` on, and purges all entries.
fn round(store: &LogStore, next: &mut u64) {
    let log = store.group(0);
    while store.segments() < SEGMENTS {
        append(&log, vec![entry(1, *next, 3000)]).unwrap();
        *next += 1;
    }
    run(log.purge(1, *next - 1)).unwrap();
    assert_eq!(store.segments(), 1, "all that was purged is given back");
}

/// Waits for the thread that puts the files away.
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn files(dir: &Path) -> u64 {
    let log_file =
        |path: &Path| path.extension().is_some_and(|found| found == "seg" || found == "spare");
    let found = std::fs::read_dir(dir).unwrap().map(|found| found.unwrap().path());
    found.filter(|path| log_file(path)).count() as u64
}

#[test]
fn what_a_purge_gives_back_at_once_is_used_again() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { kept_segments: GIVEN_BACK, ..options() });
    let mut next = 0;
    for rounds in 1..=4 {
        round(&store, &mut next);
        let recycled = || store.counters().recycled.load(Ordering::Relaxed);
        wait_for("all segments used again", || recycled() == rounds * GIVEN_BACK as u64);
        // And the one spare that was made ahead of need.
        assert_eq!(files(dir.path()), SEGMENTS + 1, "nothing is made after the first round");
    }
}

#[test]
fn no_more_than_the_bound_is_kept() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { kept_segments: 2, ..options() });
    let mut next = 0;
    for _ in 0..3 {
        round(&store, &mut next);
        wait_for("the rest is removed", || files(dir.path()) <= 1 + 1 + 2);
    }
}
