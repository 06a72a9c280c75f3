//! The store on disk: what survives which end, and that damage is an error, never other data.
#![cfg(feature = "rocksdb")]

mod damage;
mod ends;
mod settings;
#[path = "../stream/mod.rs"]
mod stream;

use std::{fs, path::Path};

use quorate_state_machine::{
    apply::ApplyItem,
    keys,
    memory::Memory,
    rocks::{Store, StoreError, StoreOptions},
    types::LogIndex,
};
use stream::{
    Answers, answers, append, at, batch, create, delete, entry, fence, membership, produce, trim,
};

fn options() -> StoreOptions {
    StoreOptions::default()
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &options()).expect("the store opens")
}

/// A batch that goes to a blob file, told from others by `n`.
fn large(n: u64) -> quorate_state_machine::types::Batch {
    let value: Vec<u8> = (0..4096_u64).map(|i| (i * 31 + n * 7) as u8).collect();
    batch(&[&value, b"tail"])
}

/// Entry `i`: two logs, small and large batches, a producer, a trim now and then.
fn nth(i: u64) -> ApplyItem {
    if i == 1 {
        return entry(1, 1, &[create("a"), create("b"), fence("a", Some(3))]);
    }
    match i % 10 {
        5 => membership(i, b"voters 1 2 3"),
        7 => entry(i, i, &[trim("b", i / 3)]),
        _ => {
            let small = append("b", batch(&[&i.to_be_bytes()]));
            entry(i, i, &[small, produce("b", 9, i, large(i)), append("b", large(i))])
        }
    }
}

/// Entries 1 to `n`.
fn entries(n: u64) -> Vec<ApplyItem> {
    (1..=n).map(nth).collect()
}

fn of_store(store: &Store) -> Result<Answers, String> {
    let view = store.view().map_err(|e| e.to_string())?;
    answers(&view).map_err(|e| e.to_string())
}

/// What the reference model says after the first `n` of these entries.
fn of_model(items: &[ApplyItem], n: u64) -> Answers {
    let mut model = Memory::new();
    if n > 0 {
        model.apply(&items[..n as usize]).expect("the model can't be damaged");
    }
    answers(&model.reader().expect("the model can't be damaged")).expect("nor that")
}

/// What a crash leaves: the files as they are at this moment.
fn crash_copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}

#[test]
fn a_view_stays_as_it_was() {
    let dir = temp();
    let store = open(dir.path());
    let items = entries(40);
    store.apply(&items[..20]).unwrap();
    let view = store.view().unwrap();
    store.apply(&items[20..]).unwrap();
    store.apply(&[entry(41, 41, &[trim("b", 30), delete("a")])]).unwrap();
    store.flush().unwrap();
    store.reclaim().unwrap();
    assert_eq!(answers(&view).unwrap(), of_model(&items, 20));
    // It keeps the database open, too.
    drop(store);
    assert_eq!(answers(&view).unwrap(), of_model(&items, 20));
}

#[test]
fn a_checkpoint_is_the_state() {
    let dir = temp();
    let items = entries(50);
    let store = open(&dir.path().join("state"));
    store.apply(&items[..30]).unwrap();
    let dest = dir.path().join("checkpoint");
    store.checkpoint(&dest).unwrap();
    assert_eq!(store.durable_applied(), Some(at(30)));
    assert!(matches!(store.checkpoint(&dest), Err(StoreError::Exists { dir }) if dir == dest));
    store.apply(&items[30..]).unwrap();

    let frozen = Store::open_read_only(&dest, &options()).unwrap();
    assert_eq!(frozen.applied(), Some(at(30)));
    assert_eq!(frozen.raft_meta().unwrap().unwrap(), "voters 1 2 3");
    assert_eq!(of_store(&frozen).unwrap(), of_model(&items, 30));
    assert!(frozen.apply(&items[30..]).is_err(), "read only");
    assert_eq!(of_store(&frozen).unwrap(), of_model(&items, 30));
    drop(frozen);

    // Another replica goes on from it, and this one does not notice.
    let other = open(&dest);
    other.apply(&items[30..]).unwrap();
    assert_eq!(of_store(&other).unwrap(), of_model(&items, 50));
    assert_eq!(of_store(&store).unwrap(), of_model(&items, 50));
    assert!(dir.path().join("nothing").try_exists().is_ok_and(|there| !there));
    let missing = Store::open_read_only(&dir.path().join("nothing"), &options());
    assert!(matches!(missing, Err(StoreError::NotAStore { .. })));
}

#[test]
fn checkpoints_during_apply_are_states() {
    let dir = temp();
    let items = entries(200);
    let store = open(&dir.path().join("state"));
    std::thread::scope(|scope| {
        let apply = scope.spawn(|| {
            for items in items.chunks(3) {
                store.apply(items).unwrap();
            }
        });
        let mut taken = 0;
        while !apply.is_finished() || taken == 0 {
            let before = store.applied().map_or(0, |at| at.index.0);
            let dest = dir.path().join(format!("checkpoint-{taken}"));
            store.checkpoint(&dest).unwrap();
            let frozen = Store::open_read_only(&dest, &options()).unwrap();
            let n = frozen.applied().map_or(0, |at| at.index.0);
            assert!(n >= before, "it holds what was applied before");
            assert_eq!(of_store(&frozen).unwrap(), of_model(&items, n));
            taken += 1;
        }
        apply.join().unwrap();
    });
    assert_eq!(of_store(&store).unwrap(), of_model(&items, 200));
}

#[test]
fn a_store_is_made_whole_or_not_at_all() {
    let dir = temp();
    // Left by a crash while a store was being made.
    let path = dir.path().join("state");
    let half = dir.path().join("state.new");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("MANIFEST-000001"), b"half").unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(open(&path).applied(), None);
    assert!(!half.exists());

    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), b"mine").unwrap();
    assert!(
        matches!(Store::open(&other, &options()), Err(StoreError::NotAStore { dir }) if dir == other)
    );
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1, "it was left alone");
}

#[test]
fn another_format_is_refused() {
    let dir = temp();
    for (i, (foreign, shown)) in
        [(Some(&[2_u8][..]), "2"), (Some(&[1, 0][..]), "[1, 0]"), (None, "none")].iter().enumerate()
    {
        let path = dir.path().join(format!("state-{i}"));
        let items = entries(5);
        open(&path).apply(&items).unwrap();
        {
            let db = rocksdb::DB::open(&rocksdb::Options::default(), &path).unwrap();
            match foreign {
                Some(foreign) => db.put(keys::format(), foreign).unwrap(),
                None => db.delete(keys::format()).unwrap(),
            }
            // Not even looked at: the rows of another format may be of another form.
            db.put(keys::group(), b"other").unwrap();
        }
        for opened in [Store::open(&path, &options()), Store::open_read_only(&path, &options())] {
            match opened {
                Err(StoreError::Format { dir, found }) => {
                    assert_eq!((dir, found.as_str()), (path.clone(), *shown));
                }
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("format {shown} was opened"),
            }
        }
    }
}

#[test]
fn a_store_is_opened_once() {
    let dir = temp();
    let first = open(dir.path());
    let error = Store::open(dir.path(), &options()).err().expect("it is open already");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    drop(first);
    open(dir.path());
}

#[test]
fn reclaim_gives_space_back() {
    let dir = temp();
    let store = open(dir.path());
    store.apply(&[entry(1, 1, &[create("a"), create("b")])]).unwrap();
    let mut offset = 0;
    for i in 2..400 {
        let value = vec![i as u8; 64 << 10];
        let commands = [append("a", batch(&[&value])), append("b", batch(&[&value[..2048]]))];
        store.apply(&[entry(i, i, &commands)]).unwrap();
        offset += 1;
        // A blob file each time.
        if i % 40 == 0 {
            store.flush().unwrap();
        }
    }
    store.flush().unwrap();
    let full = store.approximate_disk_bytes();
    assert!(full > 25_000_000, "{full}");
    // All but the last ten of one log, in several trims; the other stays.
    for (i, before) in [(400, 100), (401, 250), (402, offset - 10)] {
        store.apply(&[entry(i, i, &[trim("a", before)])]).unwrap();
    }
    let before = of_store(&store).unwrap();
    store.reclaim().unwrap();
    // Every file holds live batches of the other log too: those are copied together.
    for i in 403..2000 {
        if store.approximate_disk_bytes() < full / 4 {
            break;
        }
        store.apply(&[entry(i, i, &[])]).unwrap();
        store.flush().unwrap();
        store.reclaim().unwrap();
    }
    let left = store.approximate_disk_bytes();
    assert!(left < full / 4, "{left} of {full} bytes are left");
    assert_eq!(of_store(&store).unwrap().logs, before.logs);
    assert_eq!(store.view().unwrap().term_at(LogIndex(1)).unwrap(), Some(at(1).term));
}

/// Values are written when their memtable is flushed, and never again while nothing is trimmed.
#[test]
fn what_is_only_appended_is_written_once() {
    let dir = temp();
    let store = open(dir.path());
    store.apply(&[entry(1, 1, &[create("a"), create("b")])]).unwrap();
    let blobs = || -> std::collections::BTreeSet<String> {
        let names = fs::read_dir(dir.path()).unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".blob")).collect()
    };
    let mut seen = blobs();
    for i in 2..300 {
        let value = vec![i as u8; 16 << 10];
        let commands = [append("a", batch(&[&value])), append("b", batch(&[&value]))];
        store.apply(&[entry(i, i, &commands)]).unwrap();
        if i % 5 == 0 {
            store.flush().unwrap();
            store.reclaim().unwrap();
            seen.extend(blobs());
        }
    }
    store.flush().unwrap();
    seen.extend(blobs());
    assert!(seen.len() > 20, "{seen:?}");
    assert_eq!(blobs(), seen, "a blob file went: its batches were written a second time");
}
