//! What one record costs to be found: in memory, where recent batches are, and in the storage,
//! which is asked for everything else; a log of 20,000 batches of one record each.
//!
//! `cargo bench -p quorate-raft-node --bench read_path`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use quorate_raft_node::read::recent::Recent;
use quorate_state_machine::{
    apply::ApplyItem,
    batch::{RecordRef, encode},
    command::{AppendPart, Command},
    entry::EntryBuilder,
    store::{Compression, Store, StoreOptions},
    types::{Batch, LogIndex, LogName, LogPoint, Offset, Term, TimestampMs},
};

const BATCHES: u64 = 20_000;

/// In one entry.
const APPENDS: u64 = 100;

fn name() -> LogName {
    LogName::new("bench").expect("a valid name")
}

fn item(index: u64, commands: &[Command]) -> ApplyItem {
    let mut entry = EntryBuilder::new();
    commands.iter().for_each(|command| entry.push(command));
    ApplyItem {
        at: LogPoint { term: Term(1), index: LogIndex(index) },
        payload: Some(entry.finish(TimestampMs(index))),
        membership: None,
    }
}

fn fill(store: &Store, recent: &Recent) {
    let create = Command::CreateLog { name: name(), if_absent: false, read_level: None };
    let bytes = encode([RecordRef { value: &[7; 128], ..RecordRef::default() }]);
    let batch = Batch::validate(bytes, None).expect("a valid batch");
    let part = AppendPart {
        log: name(),
        expected_offset: None,
        writer_epoch: None,
        producer: None,
        incarnation: None,
        batch,
    };
    let appends: Vec<_> = (0..APPENDS).map(|_| Command::Append(vec![part.clone()])).collect();
    let mut items = vec![item(1, &[create])];
    items.extend((0..BATCHES / APPENDS).map(|n| item(2 + n, &appends)));
    for item in items.chunks(1) {
        store
            .apply_and(item, |writes, outcomes| recent.applied(item, writes, outcomes))
            .expect("entries apply");
    }
}

fn one_record(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let options = StoreOptions::new(64 << 20, 64 << 20, Compression::None);
    let store = Store::open(dir.path(), &options).expect("a store");
    let recent = Recent::new(64 << 20);
    fill(&store, &recent);
    // A walk that jumps about, as readers of random offsets do.
    let mut at = 0;
    let mut next = move || {
        at = (at + 7_919) % BATCHES;
        (Offset(at), Offset(at + 1))
    };
    let mut group = c.benchmark_group("one record of 20,000");
    group.bench_function("from memory", |b| {
        b.iter(|| {
            let (from, to) = next();
            let glimpse = recent.glimpse(&name()).expect("the log is kept");
            let kept = recent.batches(glimpse.log.incarnation, from, to, usize::MAX);
            black_box(kept.expect("its batches are kept"));
        });
    });
    let mut from_storage = |group: &mut criterion::BenchmarkGroup<'_, _>, label: &str| {
        group.bench_function(label, |b| {
            b.iter(|| {
                let (from, to) = next();
                let view = store.view().expect("a view");
                let log = view.log(&name()).expect("sound").expect("the log");
                let found = view.batches(log.incarnation, from, to, usize::MAX);
                black_box(found.expect("sound"));
            });
        });
    };
    from_storage(&mut group, "from a memtable");
    store.flush().expect("a flush");
    from_storage(&mut group, "from files, cached");
}

criterion_group!(benches, one_record);
criterion_main!(benches);
