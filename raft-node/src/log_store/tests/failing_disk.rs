//! A direct write fails, and a random part of it reaches the disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use proptest::prelude::*;

use super::{super::*, all, append, entry, open_with, run, scratch};

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
    Options { disk: Arc::new(disk), ..super::options() }
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
        let (store, _) = open_with(dir.path(), super::options());
        let found = seen(&store);
        prop_assert!(allowed.contains(&found), "{found:?} is none of {allowed:?}");
        if again {
            // And it goes on from there.
            let log = store.group(0);
            let next = log.state().next_index().unwrap_or(0);
            append(&log, vec![entry(1000, next, 100)]).unwrap();
            let expected = seen(&store);
            store.close();
            let (store, _) = open_with(dir.path(), super::options());
            prop_assert_eq!(seen(&store), expected);
        }
    }
}
