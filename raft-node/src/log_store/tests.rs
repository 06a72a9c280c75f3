//! The log on real files, with disks that fail, tear and lie.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

use bytes::Bytes;
use proptest::prelude::*;
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
    Options { segment_bytes: SEGMENT, spare_segments: 1, ..Options::default() }
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
    let log = open(dir.path()).group(0);
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

#[test]
fn another_nodes_log_is_refused() {
    let dir = scratch();
    open(dir.path()).close();
    let foreign = Options { store_id: [1; 16], ..options() };
    assert!(matches!(LogStore::open(dir.path(), foreign), Err(OpenError::ForeignStore { .. })));
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

/// Three batches, at blocks 1, 2 and 3 of the only segment.
fn three_batches(dir: &Path) -> PathBuf {
    let store = open(dir);
    let log = store.group(0);
    for index in 0..3 {
        append(&log, vec![entry(1, index, 100)]).unwrap();
    }
    store.close();
    segment_files(dir).pop().unwrap()
}

#[test]
fn a_damaged_middle_refuses_to_start_and_explains() {
    let dir = scratch();
    let file = three_batches(dir.path());
    damage(&file, 4096 + 60);
    let error = LogStore::open(dir.path(), options()).err().expect("damage is noticed");
    let text = error.to_string();
    assert!(matches!(error, OpenError::Corrupt { at: 4096, .. }), "{text}");
    assert!(text.contains("node id that was never used"), "{text}");
}

#[test]
fn a_damaged_middle_is_seen_across_segments() {
    let dir = scratch();
    let file = three_batches(dir.path());
    let store = open(dir.path());
    append(&store.group(0), vec![entry(1, 3, 10)]).unwrap();
    store.close();
    // The last batch of the first segment: the next segment proves that it was durable.
    damage(&file, 3 * 4096 + 60);
    assert!(matches!(LogStore::open(dir.path(), options()), Err(OpenError::Corrupt { .. })));
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    let dir = scratch();
    let file = three_batches(dir.path());
    damage(&file, 3 * 4096 + 60);
    for _ in 0..3 {
        let (store, _) = open_with(dir.path(), options());
        let log = store.group(0);
        assert_eq!(log.state().last, Some((1, 1)));
        store.close();
    }
    let store = open(dir.path());
    append(&store.group(0), vec![entry(2, 2, 5)]).unwrap();
    store.close();
    assert_eq!(all(&open(dir.path()).group(0)), [(1, 0, 100), (1, 1, 100), (2, 2, 5)]);
}

#[test]
fn a_missing_segment_is_noticed() {
    let dir = scratch();
    {
        let store = open(dir.path());
        let log = store.group(0);
        for index in 0..60 {
            append(&log, vec![entry(1, index, 3000)]).unwrap();
        }
        store.close();
    }
    let files = segment_files(dir.path());
    assert!(files.len() >= 3);
    for lost in [&files[0], &files[1]] {
        let bytes = std::fs::read(lost).unwrap();
        std::fs::remove_file(lost).unwrap();
        let error = LogStore::open(dir.path(), options()).err().expect("the loss is noticed");
        assert!(error.to_string().contains("missing"), "{error}");
        std::fs::write(lost, bytes).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever is in a segment's file: an error or a log, never a panic.
    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let dir = scratch();
        std::fs::write(segment::path_of(dir.path(), 1), bytes).unwrap();
        prop_assert!(LogStore::open(dir.path(), options()).is_err());
    }

    #[test]
    fn flipped_bits_never_change_what_is_read(at in 0_u64..4 * 4096, bit in 0_u8..8) {
        let dir = scratch();
        let path = three_batches(dir.path());
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        if let Ok((store, _)) = LogStore::open(dir.path(), options()) {
            let read = all(&store.group(0));
            let whole = [(1, 0, 100), (1, 1, 100), (1, 2, 100)];
            // Only the tail can be cut: nobody can tell it from a write that was under way.
            prop_assert!(read == whole || read == whole[..2], "{read:?}");
        }
    }
}

/// Fails the n-th write. Until then everything is real; what is written from the `tear`-th byte of
/// the failing write on is lost, the rest reaches the disk by sectors of 512 bytes, at random.
struct FailingDisk {
    left: AtomicU64,
    sectors: Mutex<u64>,
    failed: AtomicBool,
}

impl Disk for FailingDisk {
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            panic!("a write after a failed one");
        }
        if self.left.fetch_sub(1, Ordering::SeqCst) > 1 {
            return RealDisk.write(file, at, bytes);
        }
        self.failed.store(true, Ordering::SeqCst);
        let mut seed = self.sectors.lock().unwrap();
        let mut torn = vec![0_u8; bytes.len()];
        file.read_exact_at_any(&mut torn, at);
        for (sector, new) in torn.chunks_mut(512).zip(bytes.chunks(512)) {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if *seed >> 63 == 1 {
                sector.copy_from_slice(new);
            }
        }
        let mut aligned = AlignedBuffer::new(torn.len());
        aligned.take(torn.len()).copy_from_slice(&torn);
        RealDisk.write(file, at, aligned.take(torn.len())).unwrap();
        Err(io::Error::other("the disk is gone"))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

trait ReadAny {
    fn read_exact_at_any(&self, bytes: &mut [u8], at: u64);
}

impl ReadAny for File {
    /// Through an aligned buffer, as the file may be open for direct I/O.
    fn read_exact_at_any(&self, bytes: &mut [u8], at: u64) {
        let mut aligned = AlignedBuffer::new(bytes.len());
        let slice = aligned.take(bytes.len());
        self.read_exact_at(slice, at).unwrap();
        bytes.copy_from_slice(slice);
    }
}

fn failing(after: u64, sectors: u64) -> Options {
    let disk = FailingDisk {
        left: AtomicU64::new(after),
        sectors: Mutex::new(sectors),
        failed: AtomicBool::new(false),
    };
    Options { disk: Arc::new(disk), ..options() }
}

#[test]
fn a_failed_write_is_final() {
    let dir = scratch();
    let (store, _) = open_with(dir.path(), failing(3, 1));
    let log = store.group(0);
    append(&log, vec![entry(1, 0, 10)]).unwrap();
    assert!(store.failed().borrow().is_none());
    append(&log, vec![entry(1, 1, 10)]).unwrap_err();
    assert!(store.failed().borrow().is_some());
    append(&log, vec![entry(1, 2, 10)]).unwrap_err();
    run(log.save_vote(VoteRecord { term: 1, node: 1, committed: false })).unwrap_err();
}

/// What a test does to the log.
#[derive(Clone, Debug)]
enum Step {
    Append(u32, Vec<usize>),
    Truncate(u32, u64),
    Purge(u32, u64),
    Vote(u32, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let group = 0_u32..3;
    let step = prop_oneof![
        6 => (group.clone(), prop::collection::vec(0_usize..6000, 1..6))
            .prop_map(|(g, sizes)| Step::Append(g, sizes)),
        1 => (group.clone(), 0_u64..8).prop_map(|(g, back)| Step::Truncate(g, back)),
        2 => (group.clone(), 0_u64..12).prop_map(|(g, on)| Step::Purge(g, on)),
        1 => (group, 1_u64..100).prop_map(|(g, term)| Step::Vote(g, term)),
    ];
    prop::collection::vec(step, 1..80)
}

/// A naive log.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<u64>,
    purged: Option<(u64, u64)>,
    entries: Vec<(u64, u64, usize)>,
}

fn seen(store: &LogStore) -> BTreeMap<u32, Model> {
    (0..3)
        .map(|number| {
            let log = store.group(number);
            let state = log.state();
            let vote = state.vote.map(|v| v.term);
            (number, Model { vote, purged: state.purged, entries: all(&log) })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Random calls, a crash in the middle of a write of which a random part reached the disk, and
    /// a new start: what was confirmed is there, and what is there is a state that the log went
    /// through at or after the last confirmation.
    #[test]
    fn nothing_confirmed_is_lost(
        steps in steps(), crash in 2_u64..60, sectors in any::<u64>(), again in any::<bool>(),
    ) {
        let dir = scratch();
        let mut options = failing(crash, sectors);
        options.cache_bytes = 8000;
        let (store, _) = open_with(dir.path(), options);
        let mut models: BTreeMap<u32, Model> = (0..3).map(|g| (g, Model::default())).collect();
        let mut allowed = vec![models.clone()];
        let mut term = 1;
        for step in steps {
            let result = match step {
                Step::Append(group, sizes) => {
                    let model = models.get_mut(&group).unwrap();
                    let log = store.group(group);
                    let next = model.entries.last().map(|e| e.1)
                        .or(model.purged.map(|p| p.1)).map_or(0, |i| i + 1);
                    let mut entries = Vec::new();
                    // Each prefix of one call is a state that may be on the disk.
                    for (index, size) in (next..).zip(sizes) {
                        entries.push(entry(term, index, size));
                        models.get_mut(&group).unwrap().entries.push((term, index, size));
                        allowed.push(models.clone());
                    }
                    append(&log, entries)
                }
                Step::Truncate(group, back) => {
                    let model = models.get_mut(&group).unwrap();
                    let keep = model.entries.len().saturating_sub(back as usize);
                    model.entries.truncate(keep);
                    let last = model.entries.last().map(|e| e.1).or(model.purged.map(|p| p.1));
                    term += 1;
                    allowed.push(models.clone());
                    run(store.group(group).truncate_after(last))
                }
                Step::Purge(group, on) => {
                    let model = models.get_mut(&group).unwrap();
                    let Some(first) = model.entries.first().map(|e| e.1) else { continue };
                    let upto = first + on;
                    let at = model.entries.iter().find(|e| e.1 == upto).map_or(term, |e| e.0);
                    model.entries.retain(|e| e.1 > upto);
                    model.purged = Some((at, upto));
                    allowed.push(models.clone());
                    run(store.group(group).purge(at, upto))
                }
                Step::Vote(group, term) => {
                    models.get_mut(&group).unwrap().vote = Some(term);
                    allowed.push(models.clone());
                    let vote = VoteRecord { term, node: 1, committed: false };
                    run(store.group(group).save_vote(vote))
                }
            };
            if result.is_err() {
                break;
            }
            let now = allowed.pop().unwrap();
            allowed = vec![now];
            prop_assert_eq!(&seen(&store), &allowed[0]);
        }
        drop(store);
        let (store, _) = open_with(dir.path(), super::tests::options());
        let found = seen(&store);
        prop_assert!(allowed.contains(&found), "{found:?} is none of {allowed:?}");
        if again {
            // And it goes on from there.
            let log = store.group(0);
            let next = log.state().next_index().unwrap_or(0);
            append(&log, vec![entry(1000, next, 100)]).unwrap();
            let expected = seen(&store);
            store.close();
            let (store, _) = open_with(dir.path(), super::tests::options());
            prop_assert_eq!(seen(&store), expected);
        }
    }
}

#[test]
fn a_payload_that_looks_like_a_batch_is_no_batch() {
    let dir = scratch();
    let store = open(dir.path());
    let forged = frame::BatchHeader { salt: 0, number: 999, length: 0, crc: 0 }.encode();
    let payload: Bytes = forged.repeat(4096 / 32 * 3).into();
    append(&store.group(0), vec![RawEntry { term: 1, index: 0, kind: 1, payload }]).unwrap();
    store.close();
    damage(&segment_files(dir.path())[0], 4096 + 20);
    let (store, _) = open_with(dir.path(), options());
    assert_eq!(store.group(0).state().last, None, "cut as a torn tail");
}
