//! RocksDB says in a file with which settings it runs, and they are those that were measured.

use std::fs;

use super::{open, temp};

#[test]
fn a_write_of_a_flush_is_short() {
    let dir = temp();
    let store = open(dir.path());
    let names = fs::read_dir(dir.path()).expect("the store's directory");
    let said: Vec<_> = names
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("OPTIONS")))
        .map(|path| fs::read_to_string(path).expect("its settings"))
        .collect();
    drop(store);
    assert!(!said.is_empty(), "RocksDB says what it was told");
    // Of the whole database: each is said once in a file.
    for wanted in ["writable_file_max_buffer_size=262144", "bytes_per_sync=1048576"] {
        let lines = said.iter().flat_map(|file| file.lines());
        let found = lines.filter(|line| line.trim() == wanted).count();
        assert_eq!(found, said.len(), "{wanted} in {} files", said.len());
    }
}
