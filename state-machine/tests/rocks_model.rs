//! RocksDB says what the reference model says: every outcome, every reader's answer and every
//! replicated row, however the entries are cut into batches, and whatever flushes, crashes,
//! snapshots, restarts and compactions come between them.
#![cfg(feature = "rocksdb")]

mod stream;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{TestCaseResult, TestRunner},
};
use quorate_state_machine::{
    apply::ApplyItem,
    command::{AppendPart, Command},
    keys,
    memory::Memory,
    outcome::Outcome,
    rocks::{Compression, Store, StoreOptions},
    types::{Offset, ProducerId, ReadLevel, Sequence, WriterEpoch},
};
use stream::{answers, at, batch, create, delete, entry, fence, membership, name, part, trim};

const LOGS: [&str; 3] = ["a", "a/b", "c"];

/// What happens between two batches of entries.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    Flush,
    Reclaim,
    Restart,
    /// Only what the last flush made durable is there afterwards; the rest is applied again.
    Crash,
    /// Goes on in a copy that was made as a snapshot is.
    Restore,
}

/// An entry to be, without its index.
#[derive(Clone, Debug)]
enum Planned {
    Commands {
        after_ms: u64,
        commands: Vec<Command>,
    },
    Membership,
    Blank,
    /// Bytes that are no entry.
    Noise,
}

fn an_append() -> impl Strategy<Value = AppendPart> {
    let producer = (0..3_u8, prop_oneof![4 => 0..4_u64, 1 => 0..200_u64])
        .prop_map(|(id, sequence)| (ProducerId([id; 16]), Sequence(sequence)));
    (
        prop::sample::select(&LOGS[..]),
        prop::option::weighted(0.2, (0..12_u64).prop_map(Offset)),
        prop::option::weighted(0.3, (0..4_u64).prop_map(WriterEpoch)),
        prop::option::weighted(0.5, producer),
        prop_oneof![3 => 1..40_usize, 1 => 900..3000_usize],
        1..4_usize,
        0..3_u8,
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(log, expected_offset, writer_epoch, producer, bytes, records, fill, other)| {
                // What a producer sends under a sequence is nearly always the same.
                let (bytes, records, fill) = match producer {
                    Some((_, sequence)) if !other => (1 + sequence.0 as usize * 700, 2, 9),
                    _ => (bytes, records, fill),
                };
                let value = vec![fill; bytes % 4000];
                let batch = batch(&vec![&value[..]; records]);
                AppendPart { expected_offset, writer_epoch, producer, ..part(log, batch) }
            },
        )
}

fn a_command() -> impl Strategy<Value = Command> {
    let log = || prop::sample::select(&LOGS[..]);
    prop_oneof![
        14 => an_append().prop_map(|part| Command::Append(vec![part])),
        3 => prop::collection::vec(an_append(), 2..4).prop_map(Command::Append),
        4 => log().prop_map(create),
        1 => log().prop_map(|log| Command::CreateLog { name: name(log), if_absent: false, read_level: None }),
        1 => log().prop_map(delete),
        4 => (log(), 0..25_u64).prop_map(|(log, before)| trim(log, before)),
        2 => (log(), prop::option::of(0..4_u64)).prop_map(|(log, min)| fence(log, min)),
        1 => (log(), prop::option::of(0..3_u64)).prop_map(|(log, ms)| Command::SetReadLevel {
            name: name(log),
            read_level: ms.map(|ms| ReadLevel::Bounded { max_staleness_ms: ms }),
            incarnation: None,
        }),
        1 => Just(Command::MarkDigest),
    ]
}

fn a_planned() -> impl Strategy<Value = Planned> {
    // Now and then a day passes, so that producers expire.
    let after_ms = prop_oneof![20 => 0..50_u64, 1 => Just(26 * 3_600_000_u64)];
    prop_oneof![
        12 => (after_ms, prop::collection::vec(a_command(), 0..5))
            .prop_map(|(after_ms, commands)| Planned::Commands { after_ms, commands }),
        1 => Just(Planned::Membership),
        1 => Just(Planned::Blank),
        1 => Just(Planned::Noise),
    ]
}

fn an_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Nothing),
        3 => Just(Event::Flush),
        1 => Just(Event::Reclaim),
        1 => Just(Event::Restart),
        2 => Just(Event::Crash),
        1 => Just(Event::Restore),
    ]
}

fn entries() -> impl Strategy<Value = Vec<ApplyItem>> {
    prop::collection::vec(a_planned(), 20..120).prop_map(|planned| {
        let mut time = 1_000_000;
        // All logs are there at first, or most commands would be refused.
        let first = entry(1, time, &LOGS.map(create));
        let rest = (2..).zip(planned).map(|(index, planned)| match planned {
            Planned::Commands { after_ms, commands } => {
                time += after_ms;
                entry(index, time, &commands)
            }
            Planned::Membership => membership(index, b"some voters"),
            Planned::Blank => ApplyItem { at: at(index), ..ApplyItem::default() },
            Planned::Noise => ApplyItem {
                at: at(index),
                payload: Some(bytes::Bytes::from_static(b"\x01 no entry")),
                membership: None,
            },
        });
        std::iter::once(first).chain(rest).collect()
    })
}

fn options() -> StoreOptions {
    StoreOptions::new(64 << 10, 1 << 20, Compression::None)
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// All rows but the local ones, of which a new store has one more.
fn rows_of_store(store: &Store, dest: &Path) -> Rows {
    store.checkpoint(dest).unwrap();
    let db = rocksdb::DB::open_for_read_only(&rocksdb::Options::default(), dest, false).unwrap();
    db.iterator(rocksdb::IteratorMode::Start)
        .map(Result::unwrap)
        .filter(|(key, _)| key[0] != keys::LOCAL)
        .map(|(key, value)| (key.into_vec(), value.into_vec()))
        .collect()
}

fn rows_of_model(model: &Memory) -> Rows {
    let rows = model.rows().filter(|(key, _)| key[0] != keys::LOCAL);
    rows.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn run(items: &[ApplyItem], cuts: &[(usize, Event)]) -> TestCaseResult {
    // The model takes one entry at a time, so the batches of the store are a cut of their own.
    let mut model = Memory::new();
    let right: Vec<Vec<Outcome>> = items
        .iter()
        .map(|item| model.apply(std::slice::from_ref(item)).unwrap().remove(0))
        .collect();

    let temp = tempfile::tempdir().unwrap();
    let mut home = temp.path().join("0");
    let mut store = Store::open(&home, &options()).unwrap();
    let mut done = 0;
    // What a crash leaves (a copy, since nothing may touch it), and how much is in it.
    let mut durable: Option<(PathBuf, usize)> = None;
    for (generation, (size, event)) in (1..).zip(cuts.iter().cycle()) {
        let end = (done + size).min(items.len());
        let outcomes = store.apply(&items[done..end]).unwrap();
        prop_assert_eq!(&outcomes, &right[done..end]);
        done = end;
        let next = temp.path().join(generation.to_string());
        match event {
            Event::Nothing => {}
            Event::Flush => {
                prop_assert_eq!(store.flush().unwrap(), done.checked_sub(1).map(|i| items[i].at));
                store.checkpoint(&next).unwrap();
                durable = Some((next, done));
            }
            Event::Reclaim => store.reclaim().unwrap(),
            Event::Restart => {
                drop(store);
                store = Store::open(&home, &options()).unwrap();
            }
            Event::Crash => {
                drop(store);
                done = match &durable {
                    Some((files, done)) => {
                        copy_files(files, &next);
                        *done
                    }
                    None => 0,
                };
                store = Store::open(&next, &options()).unwrap();
                home = next;
            }
            Event::Restore => {
                store.checkpoint(&next).unwrap();
                drop(store);
                store = Store::open(&next, &options()).unwrap();
                home = next;
            }
        }
        prop_assert_eq!(store.applied(), done.checked_sub(1).map(|last| items[last].at));
        if done == items.len() {
            break;
        }
        // Crashes may come too often to ever reach the end.
        if generation == 60 {
            store.apply(&items[done..]).unwrap();
            break;
        }
    }
    prop_assert_eq!(
        answers(&store.view().unwrap()).unwrap(),
        answers(&model.reader().unwrap()).unwrap()
    );
    prop_assert_eq!(rows_of_store(&store, &temp.path().join("rows")), rows_of_model(&model));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn rocksdb_is_the_model(
        items in entries(),
        cuts in prop::collection::vec((1..25_usize, an_event()), 1..12),
    ) {
        run(&items, &cuts)?;
    }
}

/// What the property above is worth depends on what its entries do.
#[test]
fn the_entries_do_all_sorts_of_things() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        let items = entries().new_tree(&mut runner).unwrap().current();
        for outcome in Memory::new().apply(&items).unwrap().iter().flatten() {
            // "Ok Appended ...", "Err LogNotFound ...".
            let shown = format!("{:?}", outcome.result).replacen('(', " ", 1);
            let kind = shown.split(|c: char| !(c.is_alphanumeric() || c == ' ')).next();
            seen.insert(kind.unwrap_or_default().trim().to_owned());
            if shown.contains("deduplicated: true") {
                seen.insert("deduplicated".to_owned());
            }
        }
    }
    for kind in [
        "Ok Appended",
        "Ok Created",
        "Ok Deleted",
        "Ok Trimmed",
        "Ok Fenced",
        "Ok Marked",
        "deduplicated",
        "Err LogNotFound",
        "Err LogExists",
        "Err OffsetMismatch",
        "Err Fenced",
        "Err EpochNotGranted",
        "Err SequenceGap",
        "Err SequenceReused",
        "Err ProducerUnknown",
        "Err TrimBeyondEnd",
        "Err DuplicateLog",
        "Err Undecodable",
    ] {
        assert!(seen.contains(kind), "no {kind} among {seen:?}");
    }
}
