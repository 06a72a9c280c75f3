//! Reads beside everything else: what is answered is a piece of the log as it was at one moment.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{super::*, append, entry, open_with, options, run, scratch};

/// The payload says which entry it is, so that any mix-up is seen.
fn stamped(term: u64, index: u64) -> RawEntry {
    let stamp = [term.to_le_bytes(), index.to_le_bytes()].concat();
    let length = 16 + (index * 389 % 5000) as usize;
    let payload: Vec<u8> = stamp.into_iter().cycle().take(length).collect();
    RawEntry { term, index, kind: 1, payload: payload.into() }
}

fn check(read: &[RawEntry]) {
    for pair in read.windows(2) {
        assert_eq!(pair[0].index + 1, pair[1].index, "a gap");
        assert!(pair[0].term <= pair[1].term, "a term went back");
    }
    for e in read {
        assert_eq!(e, &stamped(e.term, e.index));
    }
}

fn reads_beside_writes(durability: Durability) {
    let dir = scratch();
    // Nothing in memory but what is not written yet: every read goes to the files, also to blocks
    // next to those that are being written.
    let (store, _) = open_with(dir.path(), Options { cache_bytes: 0, durability, ..options() });
    let log = store.group(0);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let (log, stop) = (log.clone(), &stop);
            scope.spawn(move || {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) || reads < 10 {
                    let last = log.state().last.map_or(0, |l| l.1);
                    let from = last.saturating_sub(reads % 40 * (reader + 1));
                    check(&log.read(from, u64::MAX, 60_000).unwrap());
                    reads += 1;
                }
            });
        }
        let (mut term, mut next) = (1, 0);
        for round in 0..600_u64 {
            append(&log, (next..next + 3).map(|index| stamped(term, index)).collect()).unwrap();
            next += 3;
            if round % 7 == 3 {
                next -= 4;
                term += 1;
                run(log.truncate_after(next.checked_sub(1))).unwrap();
            }
            if round % 31 == 30 {
                let upto = next - 40;
                let term = log.read(upto, upto + 1, 0).unwrap()[0].term;
                run(log.purge(term, upto)).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let recycled = store.counters().recycled.load(Ordering::Relaxed);
    assert!(recycled > 3, "files that readers know are written again: {recycled}");
}

#[test]
fn reads_beside_direct_writes() {
    reads_beside_writes(Durability::Auto);
}

#[test]
fn reads_beside_buffered_writes() {
    reads_beside_writes(Durability::Fdatasync);
}

#[test]
fn neighbours_are_read_with_their_padding_and_across_segments() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { cache_bytes: 0, ..options() });
    let (log, other) = (store.group(0), store.group(1));
    for index in 0..300 {
        append(&log, vec![stamped(1, index)]).unwrap();
        if index % 10 == 0 {
            append(&other, vec![entry(1, index / 10, 30_000)]).unwrap();
        }
    }
    for (from, to) in [(0, 300), (7, 8), (150, 299), (299, 400)] {
        let read = log.read(from, to, u64::MAX).unwrap();
        assert_eq!(read.len() as u64, to.min(300) - from);
        check(&read);
    }
}

#[test]
fn a_damaged_entry_is_an_error_that_names_its_place() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { cache_bytes: 0, ..options() });
    let log = store.group(0);
    for index in 0..3 {
        append(&log, vec![stamped(1, index)]).unwrap();
    }
    let file = super::segment_files(dir.path()).remove(0);
    super::damage(&file, 4096 + 70);
    let error = log.read(0, 3, u64::MAX).unwrap_err().to_string();
    assert!(error.contains("entry 0 of group 0") && error.contains(".seg at byte"), "{error}");
    check(&log.read(1, 3, u64::MAX).unwrap());
}

#[test]
fn memory_is_bounded_by_bytes() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { cache_bytes: 10_000, ..options() });
    let log = store.group(0);
    let cached = || store.inner.shared.cached.load(Ordering::SeqCst);
    for index in 0..100 {
        append(&log, vec![entry(1, index, 1000)]).unwrap();
        assert!(cached() <= 12_000, "{} bytes in memory", cached());
    }
    // So that consensus reads elsewhere what a disk may have to be waited for.
    assert!(log.find(0, 100, u64::MAX).on_disk() && log.find(0, 1, 0).on_disk());
    assert!(!log.find(98, 100, u64::MAX).on_disk() && !log.find(100, 200, 1).on_disk());
    run(log.truncate_after(Some(95))).unwrap();
    run(log.purge(1, 95)).unwrap();
    assert_eq!(cached(), 0, "what is gone does not count");
}

#[test]
fn distances_are_in_bytes_of_the_disk() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), options());
    let log = store.group(0);
    assert_eq!((log.bytes_between(0, 10), log.index_keeping(0)), (0, 0));
    for index in 0..10 {
        append(&log, vec![entry(1, index, 1000)]).unwrap();
    }
    // Each was a write of its own, and takes a block.
    let bytes = log.bytes_between(0, 9);
    assert!((8 * 4096..=9 * 4096).contains(&bytes), "{bytes}");
    assert_eq!(log.bytes_between(9, 20), 0);
    assert_eq!(log.index_keeping(u64::MAX), 0);
    assert_eq!(log.index_keeping(0), 9);
    assert_eq!(log.index_keeping(3 * 4096), 6);
    run(log.purge(1, 4)).unwrap();
    // The purge took a block, too.
    assert_eq!(log.index_keeping(3 * 4096), 7);
    assert_eq!(log.bytes_between(0, 4), 0);
}
