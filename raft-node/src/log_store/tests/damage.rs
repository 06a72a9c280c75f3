//! What was durable is damaged, missing or another's: a start says so, and never makes it up. What
//! was being written is cut off.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::*, all, append, damage, entry, open, open_with, options, scratch, segment_files,
};

#[test]
fn another_nodes_log_is_refused() {
    let dir = scratch();
    open(dir.path()).close();
    let foreign = Options { store_id: [1; 16], ..options() };
    assert!(matches!(LogStore::open(dir.path(), foreign), Err(OpenError::ForeignStore { .. })));
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
