//! The log on real files; below, with disks that fail, tear, wait and forget.

mod damage;
mod failing_disk;
mod in_flight;
mod power_loss;
mod reads;
mod restarts;
mod spares;

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{atomic::Ordering, mpsc},
};

use tempfile::TempDir;

use super::*;

const SEGMENT: u64 = 64 * 1024;

/// A file system that takes direct I/O, unlike many a /tmp.
fn scratch() -> TempDir {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    std::fs::create_dir_all(&dir).unwrap();
    TempDir::new_in(dir).unwrap()
}

fn options() -> Options {
    Options { segment_bytes: SEGMENT, spare_segments: 1, kept_segments: 1, ..Options::default() }
}

fn open(dir: &Path) -> LogStore {
    open_with(dir, options()).0
}

fn open_with(dir: &Path, options: Options) -> (LogStore, RecoveryReport) {
    LogStore::open(dir, options).unwrap_or_else(|e| panic!("{e}"))
}

fn entry(term: u64, index: u64, bytes: usize) -> RawEntry {
    RawEntry { term, index, kind: 1, payload: vec![(index % 251) as u8; bytes].into() }
}

fn wait(append: impl FnOnce(Done)) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    append(Box::new(move |result| sender.send(result).unwrap()));
    receiver.recv().unwrap()
}

fn append(log: &GroupLog, entries: Vec<RawEntry>) -> io::Result<()> {
    wait(|done| log.append(entries, done))
}

/// The calls' futures need no runtime.
fn run<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

fn all(log: &GroupLog) -> Vec<(u64, u64, usize)> {
    let read = log.read(0, u64::MAX, u64::MAX).unwrap();
    for entry in &read {
        assert!(entry.payload.iter().all(|b| *b == (entry.index % 251) as u8));
    }
    read.iter().map(|e| (e.term, e.index, e.payload.len())).collect()
}

#[test]
fn everything_comes_back() {
    let dir = scratch();
    let vote = VoteRecord { term: 3, node: 2, committed: true };
    {
        let store = open(dir.path());
        let (a, b) = (store.group(0), store.group(7));
        append(&a, (0..5).map(|i| entry(1, i, 100)).collect()).unwrap();
        append(&b, vec![entry(2, 0, 10)]).unwrap();
        run(a.save_vote(vote)).unwrap();
        run(a.truncate_after(Some(2))).unwrap();
        a.save_committed(Some((1, 2)));
        append(&a, vec![entry(3, 3, 5000)]).unwrap();
        run(a.purge(1, 0)).unwrap();
        store.close();
    }
    let store = open(dir.path());
    let a = store.group(0);
    assert_eq!(
        a.state(),
        GroupState {
            vote: Some(vote),
            purged: Some((1, 0)),
            last: Some((3, 3)),
            committed: Some((1, 2))
        }
    );
    assert_eq!(all(&a), [(1, 1, 100), (1, 2, 100), (3, 3, 5000)]);
    assert_eq!(all(&store.group(7)), [(2, 0, 10)]);
    assert_eq!(store.group(1).state(), GroupState::default());
}

#[test]
fn entries_are_readable_before_they_are_durable() {
    let dir = scratch();
    let store = open(dir.path());
    let log = store.group(0);
    log.append(vec![entry(1, 0, 10)], Box::new(|result| result.unwrap()));
    assert_eq!(all(&log), [(1, 0, 10)]);
}

#[test]
fn callbacks_come_once_and_in_order() {
    let dir = scratch();
    let store = open(dir.path());
    let log = store.group(0);
    let (sender, receiver) = mpsc::channel();
    for index in 0..500 {
        let sender = sender.clone();
        log.append(
            vec![entry(1, index, 300)],
            Box::new(move |result| {
                result.unwrap();
                sender.send(index).unwrap();
            }),
        );
    }
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..500).collect::<Vec<_>>());
    let syncs = store.counters().syncs.load(Ordering::Relaxed);
    assert!(syncs < 500, "many appends share a sync: {syncs}");
}

#[test]
fn what_the_cache_dropped_is_read_from_the_disk() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), Options { cache_bytes: 0, ..options() });
    let log = store.group(0);
    for index in 0..100 {
        append(&log, vec![entry(1, index, 3000)]).unwrap();
    }
    // The last one may be under eviction still.
    assert_eq!(all(&log).len(), 100);
    assert_eq!(log.read(10, 20, 7000).unwrap().len(), 2, "bounded in bytes");
    assert_eq!(log.read(10, 20, 0).unwrap().len(), 1, "but never empty");
    assert!(log.read(100, 200, 1).unwrap().is_empty());
}

#[test]
fn a_purge_beyond_the_end_empties_the_log() {
    let dir = scratch();
    {
        let store = open(dir.path());
        let log = store.group(0);
        append(&log, vec![entry(1, 0, 10), entry(1, 1, 10)]).unwrap();
        run(log.purge(4, 90)).unwrap();
        assert_eq!(log.state().last, Some((4, 90)));
        append(&log, vec![entry(5, 91, 10)]).unwrap();
        store.close();
    }
    let store = open(dir.path());
    let log = store.group(0);
    assert_eq!(log.state().purged, Some((4, 90)));
    assert_eq!(all(&log), [(5, 91, 10)]);
    run(log.truncate_after(Some(90))).unwrap();
    assert_eq!(log.state().last, Some((4, 90)));
}

#[test]
fn segments_are_used_again_and_disk_use_is_bounded() {
    let dir = scratch();
    let store = open(dir.path());
    let log = store.group(0);
    for index in 0..400 {
        append(&log, vec![entry(1, index, 3000)]).unwrap();
        if index % 10 == 9 {
            run(log.purge(1, index - 5)).unwrap();
        }
    }
    assert!(store.counters().recycled.load(Ordering::Relaxed) > 5);
    assert!(store.segments() <= 2, "{} segments", store.segments());
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 5, "{files} files");
    store.close();
    let log = open(dir.path()).group(0);
    assert_eq!(all(&log).len(), 5);
}

#[test]
fn an_idle_group_does_not_hold_old_segments() {
    let dir = scratch();
    {
        let store = open(dir.path());
        let (busy, idle) = (store.group(0), store.group(1));
        append(&idle, vec![entry(1, 0, 10), entry(1, 1, 20)]).unwrap();
        run(idle.save_vote(VoteRecord { term: 8, node: 1, committed: false })).unwrap();
        for index in 0..600 {
            append(&busy, vec![entry(1, index, 3000)]).unwrap();
            if index % 10 == 9 {
                run(busy.purge(1, index - 5)).unwrap();
            }
        }
        assert!(store.segments() <= 6, "{} segments", store.segments());
        assert_eq!(all(&idle), [(1, 0, 10), (1, 1, 20)]);
        store.close();
    }
    let idle = open(dir.path()).group(1);
    assert_eq!(all(&idle), [(1, 0, 10), (1, 1, 20)]);
    assert_eq!(idle.state().vote, Some(VoteRecord { term: 8, node: 1, committed: false }));
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    files.sort();
    files
}

fn damage(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}
