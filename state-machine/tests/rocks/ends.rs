//! What is there again after which end of the process.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use quorate_state_machine::rocks::{Compression, Store, StoreError, StoreOptions};

use crate::{crash_copy, entries, nth, of_model, of_store, open, stream::at, temp};

#[test]
fn what_was_flushed_is_there_again() {
    let dir = temp();
    let path = dir.path().join("state");
    let items = entries(40);
    let store = open(&path);
    assert_eq!(store.applied(), None);
    assert_eq!(store.raft_meta().unwrap(), None);
    for items in items.chunks(7) {
        store.apply(items).unwrap();
    }
    assert_eq!(store.applied(), Some(at(40)));
    assert_eq!(store.durable_applied(), None, "nothing was flushed yet");
    assert_eq!(store.flush().unwrap(), Some(at(40)));
    assert_eq!(store.durable_applied(), Some(at(40)));

    let crashed = dir.path().join("crashed");
    crash_copy(&path, &crashed);
    let again = open(&crashed);
    assert_eq!(again.applied(), Some(at(40)));
    assert_eq!(again.durable_applied(), Some(at(40)));
    assert_eq!(again.raft_meta().unwrap().unwrap(), "voters 1 2 3");
    assert_eq!(of_store(&again).unwrap(), of_model(&items, 40));
    assert_eq!(of_store(&store).unwrap(), of_model(&items, 40));
}

#[test]
fn closing_flushes() {
    let dir = temp();
    let items = entries(12);
    open(dir.path()).apply(&items).unwrap();
    assert_eq!(of_store(&open(dir.path())).unwrap(), of_model(&items, 12));
}

/// Where the process that gets killed works; set by the test that kills it.
const VICTIM_DIR: &str = "QUORATE_TEST_VICTIM_DIR";

/// So small that RocksDB flushes, compacts and stalls all the time.
fn tiny() -> StoreOptions {
    StoreOptions::new(64 << 10, 1 << 20, Compression::Lz4)
}

/// Not a test by itself: what `a_killed_process_leaves_a_prefix` runs and kills.
#[test]
fn victim() {
    #[expect(clippy::disallowed_methods, reason = "a switch of the test, not of the state machine")]
    let Some(dir) = std::env::var_os(VICTIM_DIR) else { return };
    let store = Store::open(Path::new(&dir), &tiny()).unwrap();
    let done = store.applied().map_or(0, |at| at.index.0);
    // Ends by itself if nobody kills it.
    for first in (done + 1..done + 100_000).step_by(10) {
        let items: Vec<_> = (first..first + 10).map(nth).collect();
        store.apply(&items).unwrap();
        println!("applied {}", store.applied().unwrap().index);
    }
}

#[test]
fn a_killed_process_leaves_a_prefix() {
    let dir = temp();
    let path = dir.path().join("state");
    let mut before = 0;
    // Each round is killed a little later, and goes on where the one before was.
    for round in 1..8 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ends::victim", "--nocapture"])
            .env(VICTIM_DIR, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
        let said = lines
            .filter_map(|line| line.strip_prefix("applied ")?.parse::<u64>().ok())
            .nth(7 * round)
            .expect("it goes on until it is killed");
        victim.kill().unwrap();
        victim.wait().unwrap();

        let copy = dir.path().join(format!("round-{round}"));
        crash_copy(&path, &copy);
        let after = Store::open(&copy, &tiny()).unwrap();
        let n = after.applied().map_or(0, |at| at.index.0);
        // Nothing asked for a flush, so anything from the last state on is fine, if it is a state.
        assert!(n >= before, "what was durable stays");
        let items = entries(n + 200);
        assert!(of_store(&after).unwrap() == of_model(&items, n), "{n} of {said} is no prefix");
        after.apply(&items[n as usize..]).unwrap();
        assert!(of_store(&after).unwrap() == of_model(&items, n + 200), "{n} does not go on");
        before = n;
    }
    assert!(before > 0, "RocksDB flushed by itself");
}

#[test]
fn what_was_not_flushed_is_lost_whole() {
    let dir = temp();
    let path = dir.path().join("state");
    let items = entries(30);
    let store = open(&path);
    store.apply(&items[..10]).unwrap();
    store.flush().unwrap();
    store.apply(&items[10..30]).unwrap();
    let copy = dir.path().join("crashed");
    // The memtable is far from full, so nothing is being flushed now.
    crash_copy(&path, &copy);
    let after = open(&copy);
    assert_eq!(after.applied(), Some(at(10)), "memtables are lost, the Raft log has the rest");
    assert_eq!(of_store(&after).unwrap(), of_model(&items, 10));
    assert!(
        matches!(after.apply(&items[9..]), Err(StoreError::Damaged { .. })),
        "what is applied is not applied again"
    );
    assert_eq!(of_store(&after).unwrap(), of_model(&items, 10));
    after.apply(&items[10..]).unwrap();
    assert_eq!(of_store(&after).unwrap(), of_model(&items, 30));
}
