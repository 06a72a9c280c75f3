//! What one append costs in the state machine, at 128 B and 1 KiB a record: checking its batch at
//! the edge, packing and reading the entry, applying it. One record a batch (the worst case for all
//! that is paid per batch) and a hundred; entries of 64 appends, state in memory, so no storage
//! engine is measured.
//!
//! `cargo bench -p quorate-state-machine --no-default-features`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_state_machine::{
    apply::{ApplyItem, commit},
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::{EntryBuilder, EntryView},
    memory::Memory,
    types::{Batch, LogIndex, LogName, LogPoint, ProducerId, Sequence, Term, TimestampMs},
};

/// Appends in an entry: what a proposer merges under moderate load.
const APPENDS: u64 = 64;

/// Records of a batch, and bytes of a record's value.
const SHAPES: [(usize, usize); 4] = [(1, 128), (1, 1024), (100, 128), (100, 1024)];

fn batch(records: usize, value: usize) -> Bytes {
    let value = vec![7; value];
    encode((0..records).map(|_| RecordRef { value: &value, ..RecordRef::default() }))
}

fn name() -> LogName {
    LogName::new("bench/log").expect("a valid name")
}

/// An entry's commands; with a producer if there is a `first` sequence.
fn appends(bytes: &Bytes, first: Option<u64>) -> Vec<Command> {
    let batch = Batch::validate(bytes.clone(), None).expect("a valid batch");
    (0..APPENDS)
        .map(|n| {
            Command::Append(vec![AppendPart {
                log: name(),
                expected_offset: None,
                writer_epoch: None,
                producer: first.map(|first| (ProducerId([1; 16]), Sequence(first + n))),
                incarnation: None,
                batch: batch.clone(),
            }])
        })
        .collect()
}

fn pack(commands: &[Command]) -> Bytes {
    let mut builder = EntryBuilder::new();
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(TimestampMs(1_700_000_000_000))
}

fn item(index: u64, payload: Bytes) -> ApplyItem {
    let at = LogPoint { term: Term(1), index: LogIndex(index) };
    ApplyItem { at, payload: Some(payload), membership: None }
}

fn label(records: usize, value: usize) -> String {
    format!("{records}x{value}B")
}

fn validate(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate a batch");
    for (records, value) in SHAPES {
        let bytes = batch(records, value);
        let crc = crc32c::crc32c(&bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(label(records, value)), &(), |b, ()| {
            b.iter(|| Batch::validate(black_box(bytes.clone()), Some(crc)));
        });
    }
}

fn entry(c: &mut Criterion) {
    for (records, value) in SHAPES {
        let commands = appends(&batch(records, value), Some(0));
        let entry = pack(&commands);
        let mut group = c.benchmark_group("entry of 64 appends");
        group.throughput(Throughput::Bytes(entry.len() as u64));
        group.bench_function(format!("pack {}", label(records, value)), |b| {
            b.iter(|| pack(black_box(&commands)));
        });
        group.bench_function(format!("read {}", label(records, value)), |b| {
            b.iter(|| {
                let view = EntryView::parse(black_box(&entry)).expect("sound");
                for command in view.commands() {
                    black_box(command.expect("sound"));
                }
            });
        });
    }
}

fn apply(c: &mut Criterion) {
    for (kind, producer) in [("plain", false), ("with a producer", true)] {
        let mut group = c.benchmark_group(format!("apply 64 appends {kind}"));
        group.throughput(Throughput::Elements(APPENDS));
        for (records, value) in SHAPES {
            let bytes = batch(records, value);
            let mut memory = Memory::new();
            let create = Command::CreateLog { name: name(), if_absent: false, read_level: None };
            memory.apply(&[item(1, pack(&[create]))]).expect("sound");
            // Some history, so that rows are there to be read.
            let first = |entry: u64| producer.then_some(entry * APPENDS);
            for n in 0..4 {
                memory.apply(&[item(2 + n, pack(&appends(&bytes, first(n))))]).expect("sound");
            }
            let next = item(6, pack(&appends(&bytes, first(4))));
            group.bench_function(label(records, value), |b| {
                b.iter(|| commit(black_box(&memory), std::slice::from_ref(&next)).expect("sound"));
            });
        }
    }
}

criterion_group!(benches, validate, entry, apply);
criterion_main!(benches);
