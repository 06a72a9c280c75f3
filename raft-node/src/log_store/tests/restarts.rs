//! What starts and ends leave behind: never a second writer, never a disk full of segments.

use super::{super::*, all, append, entry, open, open_with, options, run, scratch, segment_files};

#[test]
fn only_one_store_has_the_directory() {
    let dir = scratch();
    let store = open(dir.path());
    assert!(matches!(LogStore::open(dir.path(), options()), Err(OpenError::InUse { .. })));
    store.close();
    open(dir.path());
    // Dropping is enough.
    open(dir.path());
}

#[test]
fn starts_without_writes_take_no_space() {
    let dir = scratch();
    let store = open(dir.path());
    append(&store.group(0), vec![entry(1, 0, 10)]).unwrap();
    store.close();
    for _ in 0..20 {
        open(dir.path()).close();
    }
    assert!(segment_files(dir.path()).len() <= 2);
    let store = open(dir.path());
    assert_eq!(all(&store.group(0)), [(1, 0, 10)]);
}

#[test]
fn starts_with_few_writes_take_little_space() {
    let dir = scratch();
    let mut expected = Vec::new();
    for index in 0..20 {
        let store = open(dir.path());
        let log = store.group(index as u32 % 3);
        let vote = VoteRecord { term: index, node: 1, committed: false };
        run(log.save_vote(vote)).unwrap();
        append(&log, vec![entry(1, index / 3, 10)]).unwrap();
        expected.push((1, index / 3, 10));
        store.close();
        assert!(segment_files(dir.path()).len() <= 6, "{:?}", segment_files(dir.path()));
    }
    let store = open(dir.path());
    for group in 0..3 {
        let expected: Vec<_> = expected.iter().skip(group as usize).step_by(3).copied().collect();
        assert_eq!(all(&store.group(group)), expected);
        assert!(store.group(group).state().vote.unwrap().term >= 17);
    }
}

#[test]
fn a_commit_point_beyond_the_entries_is_not_believed() {
    let dir = scratch();
    let store = open(dir.path());
    let log = store.group(0);
    append(&log, vec![entry(1, 0, 10), entry(1, 1, 10)]).unwrap();
    // Others hold entry 5 already, and have committed it.
    log.save_committed(Some((1, 5)));
    run(log.save_vote(VoteRecord { term: 1, node: 2, committed: true })).unwrap();
    store.close();
    let store = open(dir.path());
    assert_eq!(store.group(0).state().committed, Some((1, 1)));
}

#[test]
fn segments_of_another_size_are_read_but_not_used_again() {
    let dir = scratch();
    let store = open(dir.path());
    append(&store.group(0), vec![entry(1, 0, 3000)]).unwrap();
    store.close();
    let larger = Options { segment_bytes: 2 * options().segment_bytes, ..options() };
    let (store, _) = open_with(dir.path(), larger.clone());
    let log = store.group(0);
    for index in 1..200 {
        append(&log, vec![entry(1, index, 3000)]).unwrap();
        run(log.purge(1, index - 1)).unwrap();
    }
    assert_eq!(all(&log), [(1, 199, 3000)]);
    store.close();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().len(), larger.segment_bytes);
    }
}

#[test]
fn a_second_spelling_of_a_segment_is_refused() {
    let dir = scratch();
    open(dir.path()).close();
    let file = segment_files(dir.path()).remove(0);
    std::fs::copy(&file, dir.path().join("1.seg")).unwrap();
    let error = LogStore::open(dir.path(), options()).err().expect("a foreign file is noticed");
    assert!(error.to_string().contains("1.seg"), "{error}");
}

#[test]
fn the_probe_of_a_killed_start_does_no_harm() {
    let dir = scratch();
    for durability in [Durability::Auto, Durability::Fdatasync] {
        std::fs::write(dir.path().join("probe"), [0; 100]).unwrap();
        open_with(dir.path(), Options { durability, ..options() });
    }
}
