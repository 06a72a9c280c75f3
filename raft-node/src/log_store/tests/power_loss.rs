//! Calls in flight from three groups, ended by a kill, a power failure or a clean stop, and started
//! again, several times over: what was confirmed (or found at a start) is there, in the order of the
//! calls and with nothing else.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{super::*, scratch};

const SECTOR: usize = 512;
const GROUPS: u32 = 3;

/// A disk that keeps what is written in a volatile cache until it is synced, and stops working at
/// a given operation.
#[derive(Default)]
struct VolatileDisk {
    /// For each file (by inode) and sector not synced yet: what is durable.
    durable: Mutex<HashMap<u64, BTreeMap<u64, [u8; SECTOR]>>>,
    /// Operations until it stops.
    left: AtomicU64,
}

fn stop() -> io::Error {
    io::Error::other("the disk has stopped")
}

impl VolatileDisk {
    fn works(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    /// Power fails: of what is not synced, any part may be lost.
    fn lose_power(&self, dir: &Path, mut seed: u64) {
        let mut durable = std::mem::take(&mut *self.durable.lock().unwrap());
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let Some(sectors) = durable.remove(&entry.metadata().unwrap().ino()) else { continue };
            let file = File::options().write(true).open(entry.path()).unwrap();
            for (sector, bytes) in sectors {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if seed >> 63 == 0 {
                    file.write_all_at(&bytes, sector * SECTOR as u64).unwrap();
                }
            }
        }
    }
}

impl Disk for VolatileDisk {
    fn write(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let works = self.works();
        let mut durable = self.durable.lock().unwrap();
        let sectors = durable.entry(file.metadata()?.ino()).or_default();
        for n in 0..(bytes.len() / SECTOR) as u64 {
            let sector = at / SECTOR as u64 + n;
            let mut before = [0; SECTOR];
            file.read_exact_at(&mut before, sector * SECTOR as u64)?;
            sectors.entry(sector).or_insert(before);
        }
        file.write_all_at(bytes, at)?;
        if works { Ok(()) } else { Err(stop()) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if !self.works() {
            return Err(stop());
        }
        self.durable.lock().unwrap().remove(&file.metadata()?.ino());
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(u32, Vec<usize>),
    Truncate(u32, u64),
    Purge(u32, u64),
    Vote(u32, u64),
    Committed(u32),
    /// Waits for everything before.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// What was written stays in the page cache.
    Kill,
    PowerLoss(u64),
    Close,
}

#[derive(Clone, Debug)]
struct Life {
    steps: Vec<Step>,
    disk_operations: u64,
    end: End,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    // Group 0 is busy; the others are mostly idle, and hold old segments.
    let group = prop_oneof![6 => Just(0_u32), 1 => Just(1), 1 => Just(2)];
    let step = prop_oneof![
        8 => (group.clone(), prop::collection::vec(0_usize..9000, 1..6))
            .prop_map(|(g, sizes)| Step::Append(g, sizes)),
        1 => (group.clone(), 0_u64..8).prop_map(|(g, back)| Step::Truncate(g, back)),
        3 => (group.clone(), 0_u64..14).prop_map(|(g, on)| Step::Purge(g, on)),
        1 => (group.clone(), 1_u64..100).prop_map(|(g, term)| Step::Vote(g, term)),
        1 => group.prop_map(Step::Committed),
        2 => Just(Step::Wait),
    ];
    let end = prop_oneof![Just(End::Kill), any::<u64>().prop_map(End::PowerLoss), Just(End::Close)];
    let life = (prop::collection::vec(step, 0..60), 2_u64..120, end)
        .prop_map(|(steps, disk_operations, end)| Life { steps, disk_operations, end });
    prop::collection::vec(life, 1..6)
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<u64>,
    purged: Option<(u64, u64)>,
    /// Term, index, length.
    entries: Vec<(u64, u64, usize)>,
}

type Models = BTreeMap<u32, Model>;

fn payload(term: u64, index: u64, length: usize) -> Bytes {
    let stamp = term.wrapping_mul(31).wrapping_add(index).to_le_bytes();
    stamp.iter().copied().cycle().take(length).collect::<Vec<_>>().into()
}

fn seen(store: &LogStore) -> Models {
    let group = |number| {
        let log = store.group(number);
        let state = log.state();
        let entries = log.read(0, u64::MAX, u64::MAX).unwrap();
        for e in &entries {
            assert_eq!(e.payload, payload(e.term, e.index, e.payload.len()), "a foreign payload");
        }
        let last = entries.last().map(|e| (e.term, e.index)).or(state.purged);
        assert_eq!(state.last, last);
        let entries = entries.iter().map(|e| (e.term, e.index, e.payload.len())).collect();
        Model { vote: state.vote.map(|v| v.term), purged: state.purged, entries }
    };
    (0..GROUPS).map(|number| (number, group(number))).collect()
}

type Pending = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// One life of the log: the calls so far, and what the groups were after each.
struct Driver<'a> {
    store: &'a LogStore,
    models: Models,
    term: u64,
    /// States, in the order of the calls; one call may make several.
    states: Vec<Models>,
    /// Calls made, each with the number of states up to it.
    calls: Vec<usize>,
    pending: Vec<(usize, Pending)>,
    /// Calls answered, in order, and with what.
    answers: Arc<Mutex<Vec<(usize, bool)>>>,
    /// States up to this one were confirmed.
    confirmed: usize,
}

impl Driver<'_> {
    fn step(&mut self, step: Step) {
        match step {
            Step::Append(group, sizes) => self.append(group, &sizes),
            Step::Truncate(group, back) => {
                let model = self.models.get_mut(&group).unwrap();
                let keep = model.entries.len().saturating_sub(back as usize);
                model.entries.truncate(keep);
                let last = model.entries.last().map(|e| e.1).or(model.purged.map(|p| p.1));
                self.term += 1;
                let log = self.store.group(group);
                self.call(Box::pin(async move { log.truncate_after(last).await }));
            }
            Step::Purge(group, on) => {
                let model = self.models.get_mut(&group).unwrap();
                let Some(first) = model.entries.first().map(|e| e.1) else { return };
                let upto = first + on;
                let term = model.entries.iter().find(|e| e.1 == upto).map_or(self.term, |e| e.0);
                model.entries.retain(|e| e.1 > upto);
                model.purged = Some((term, upto));
                let log = self.store.group(group);
                self.call(Box::pin(async move { log.purge(term, upto).await }));
            }
            Step::Vote(group, term) => {
                self.models.get_mut(&group).unwrap().vote = Some(term);
                let log = self.store.group(group);
                let vote = VoteRecord { term, node: 1, committed: false };
                self.call(Box::pin(async move { log.save_vote(vote).await }));
            }
            Step::Committed(group) => {
                let log = self.store.group(group);
                log.save_committed(log.state().last);
            }
            Step::Wait => self.wait(),
        }
    }

    fn append(&mut self, group: u32, sizes: &[usize]) {
        let model = &self.models[&group];
        let next = model.entries.last().map(|e| e.1).or(model.purged.map(|p| p.1));
        let mut entries = Vec::new();
        for (index, size) in (next.map_or(0, |i| i + 1)..).zip(sizes) {
            let payload = payload(self.term, index, *size);
            entries.push(RawEntry { term: self.term, index, kind: 1, payload });
            self.models.get_mut(&group).unwrap().entries.push((self.term, index, *size));
            // A large call may be written in parts.
            self.states.push(self.models.clone());
        }
        let (number, answers) = (self.calls.len(), self.answers.clone());
        self.calls.push(self.states.len() - 1);
        let done = move |result: io::Result<()>| {
            answers.lock().unwrap().push((number, result.is_ok()));
        };
        self.store.group(group).append(entries, Box::new(done));
    }

    fn call(&mut self, mut future: Pending) {
        self.states.push(self.models.clone());
        let number = self.calls.len();
        self.calls.push(self.states.len() - 1);
        // The first poll is what makes the call.
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => self.answers.lock().unwrap().push((number, result.is_ok())),
            Poll::Pending => self.pending.push((number, future)),
        }
    }

    /// Waits for all answers: a vote is answered behind everything that was called before it.
    fn wait(&mut self) {
        let log = self.store.group(9);
        let vote = VoteRecord { term: 1, node: 1, committed: false };
        let _ = futures::executor::block_on(log.save_vote(vote));
        for (number, future) in self.pending.drain(..) {
            let ok = futures::executor::block_on(future).is_ok();
            self.answers.lock().unwrap().push((number, ok));
        }
        let answers = std::mem::take(&mut *self.answers.lock().unwrap());
        for (number, ok) in answers {
            if ok {
                self.confirmed = self.confirmed.max(self.calls[number]);
            }
        }
    }
}

fn options(disk: &Arc<VolatileDisk>) -> Options {
    Options {
        segment_bytes: 64 * 1024,
        spare_segments: 1,
        cache_bytes: 20_000,
        durability: Durability::Fdatasync,
        disk: disk.clone(),
        ..Options::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(96),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_confirmed_is_lost_and_nothing_else_appears(lives in lives()) {
        let dir = scratch();
        let disk = Arc::new(VolatileDisk::default());
        let mut models: Models = (0..GROUPS).map(|g| (g, Model::default())).collect();
        let mut term = 1;
        for life in lives {
            disk.left.store(u64::MAX, Ordering::SeqCst);
            let (store, _) =
                LogStore::open(dir.path(), options(&disk)).unwrap_or_else(|e| panic!("{e}"));
            prop_assert_eq!(&seen(&store), &models);
            disk.left.store(life.disk_operations, Ordering::SeqCst);
            let mut driver = Driver {
                store: &store,
                models: models.clone(),
                term,
                // What a start has found is promised on.
                states: vec![models],
                calls: Vec::new(),
                pending: Vec::new(),
                answers: Arc::default(),
                confirmed: 0,
            };
            for step in life.steps {
                driver.step(step);
                if store.failed().borrow().is_some() {
                    break;
                }
                // Readable at once, written or not.
                let now = seen(&store);
                prop_assert_eq!(&now, &driver.models);
            }
            driver.wait();
            let Driver { states, confirmed, term: at, .. } = driver;
            term = at + 1;
            store.close();
            if let End::PowerLoss(seed) = life.end {
                disk.lose_power(dir.path(), seed);
            }
            disk.left.store(u64::MAX, Ordering::SeqCst);
            let (store, _) =
                LogStore::open(dir.path(), options(&disk)).unwrap_or_else(|e| panic!("{e}"));
            let found = seen(&store);
            for group in 0..GROUPS {
                let state = store.group(group).state();
                // Even if it was saved before the entries got to the disk, or they were truncated.
                prop_assert!(state.committed.map(|c| c.1) <= state.last.map(|l| l.1), "{state:?}");
            }
            prop_assert!(
                states[confirmed..].contains(&found),
                "{found:?} is none of {:?}",
                &states[confirmed..]
            );
            models = found;
            // And what this start has found survives whatever comes, though nothing is written.
            if life.end == End::Kill {
                store.close();
                disk.lose_power(dir.path(), 1);
                let (store, _) =
                    LogStore::open(dir.path(), options(&disk)).unwrap_or_else(|e| panic!("{e}"));
                prop_assert_eq!(&seen(&store), &models);
            }
        }
    }
}
