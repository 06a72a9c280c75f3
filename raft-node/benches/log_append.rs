//! What a durable append to the Raft log costs: one writer that waits for each, which is the disk's
//! time; and eight groups with four appends under way each, which share writes and syncs. Entries
//! of one record (128 B), of a packed one (16 KiB), and large (1 MiB).
//!
//! Writes into `target/tmp`, since a temporary directory may be memory.
//!
//! `cargo bench -p quorate-raft-node --bench log_append`

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_raft_node::log_store::{GroupLog, LogStore, Options, RawEntry};
use tempfile::TempDir;

const SIZES: [usize; 3] = [128, 16 * 1024, 1024 * 1024];

/// Groups that append at the same time.
const GROUPS: u32 = 8;

/// Appends that each of them has under way, as a proposer does.
const IN_FLIGHT: usize = 4;

/// A purge leaves this many entries: segments are recycled, as in a node that runs.
const KEPT: u64 = 64;

fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, Options::default()).expect("an empty log").0
}

fn scratch() -> TempDir {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/tmp");
    std::fs::create_dir_all(&dir).expect("a directory beside the build");
    TempDir::new_in(dir).expect("a directory in it")
}

/// One group that appends, and the answers it waits for.
struct Appender {
    log: GroupLog,
    payload: Bytes,
    next: u64,
    done: mpsc::Sender<()>,
    answers: mpsc::Receiver<()>,
}

impl Appender {
    fn new(log: GroupLog, size: usize) -> Self {
        let (done, answers) = mpsc::channel();
        Self { log, payload: vec![7; size].into(), next: 1, done, answers }
    }

    fn send(&mut self) {
        let entry = RawEntry { term: 1, index: self.next, kind: 1, payload: self.payload.clone() };
        self.next += 1;
        let done = self.done.clone();
        let answer = move |result: std::io::Result<()>| {
            result.expect("the disk takes it");
            done.send(()).expect("somebody waits");
        };
        self.log.append(vec![entry], Box::new(answer));
        if self.next.is_multiple_of(4 * KEPT) {
            let purged = self.log.purge(1, self.next - KEPT);
            futures::executor::block_on(purged).expect("the disk takes it");
        }
    }

    fn wait(&self) {
        self.answers.recv().expect("an answer");
    }

    /// Appends `count`, `in_flight` at a time.
    fn run(&mut self, count: u64, in_flight: usize) {
        let mut waiting = 0;
        for _ in 0..count {
            self.send();
            waiting += 1;
            if waiting == in_flight {
                self.wait();
                waiting -= 1;
            }
        }
        (0..waiting).for_each(|_| self.wait());
    }
}

fn alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("log append, one at a time");
    for size in SIZES {
        let dir = scratch();
        let store = open(dir.path());
        let mut appender = Appender::new(store.group(0), size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| appender.run(1, 1));
        });
    }
}

fn contended(c: &mut Criterion) {
    let mut group = c.benchmark_group("log append, 8 groups, 4 at a time each");
    for size in SIZES {
        let dir = scratch();
        let store = open(dir.path());
        let mut appenders: Vec<_> =
            (0..GROUPS).map(|n| Appender::new(store.group(n), size)).collect();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_custom(|rounds| {
                let each = rounds.div_ceil(u64::from(GROUPS));
                let started = Instant::now();
                std::thread::scope(|scope| {
                    for appender in &mut appenders {
                        scope.spawn(move || appender.run(each, IN_FLIGHT));
                    }
                });
                // Of the appends that were asked for.
                let all = each * u64::from(GROUPS);
                started.elapsed().mul_f64(rounds as f64 / all as f64)
            });
        });
    }
}

fn settings() -> Criterion {
    Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3))
}

criterion_group! { name = benches; config = settings(); targets = alone, contended }
criterion_main!(benches);
