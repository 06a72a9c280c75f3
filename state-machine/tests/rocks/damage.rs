//! Damaged and missing files are errors, never other data.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quorate_state_machine::rocks::{Store, StoreError};

use crate::{crash_copy, entries, of_model, of_store, open, options, stream::answers, temp};

/// The files of a store that hold data.
fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sst" || e == "blob"))
        .collect();
    files.sort();
    files
}

#[test]
fn damage_is_an_error_never_other_data() {
    let dir = temp();
    let path = dir.path().join("state");
    let items = entries(40);
    {
        let store = open(&path);
        store.apply(&items[..20]).unwrap();
        store.flush().unwrap();
        store.apply(&items[20..]).unwrap();
    }
    let right = of_model(&items, 40);
    let files = data_files(&path);
    assert!(files.iter().any(|f| f.extension().is_some_and(|e| e == "blob")), "there are blobs");
    let (mut seen, mut harmless, mut damaged) = (0, 0, 0);
    for file in &files {
        let length = fs::metadata(file).unwrap().len() as usize;
        // Some byte everywhere, and each of the last, where the footers are.
        for position in (0..length).step_by(length / 12 + 1).chain(length - 8..length) {
            seen += 1;
            let copy = dir.path().join(format!("damaged-{seen}"));
            crash_copy(&path, &copy);
            let victim = copy.join(file.file_name().unwrap());
            let mut bytes = fs::read(&victim).unwrap();
            bytes[position] ^= 0x10;
            fs::write(&victim, bytes).unwrap();
            let what = format!("byte {position} of {length} of {}", victim.display());
            match Store::open(&copy, &options()) {
                Ok(store) => match of_store(&store) {
                    // Not every byte is looked at to answer; then the answer has to be right.
                    Ok(read) => {
                        assert!(read == right, "{what}: other data");
                        harmless += 1;
                    }
                    Err(_) => damaged += 1,
                },
                Err(StoreError::Damaged { dir, .. }) => {
                    assert_eq!(dir, copy);
                    damaged += 1;
                }
                Err(other) => panic!("{what}: {other}"),
            }
            fs::remove_dir_all(&copy).unwrap();
        }
    }
    assert!(damaged > seen / 2, "{damaged} of {seen} noticed, {harmless} in bytes nobody needs");
}

#[test]
fn a_damaged_batch_says_so() {
    let dir = temp();
    let path = dir.path().join("state");
    let items = entries(20);
    open(&path).apply(&items).unwrap();
    for file in data_files(&path).iter().filter(|f| f.extension().is_some_and(|e| e == "blob")) {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let store = open(&path);
    let view = store.view().unwrap();
    let error = answers(&view).unwrap_err();
    assert!(
        matches!(error, quorate_state_machine::view::ViewError::Corrupt { .. }),
        "{error} is damage, not a disk that failed"
    );
}

#[test]
fn a_missing_file_is_an_error() {
    let dir = temp();
    let path = dir.path().join("state");
    let items = entries(40);
    open(&path).apply(&items).unwrap();
    let mut names: Vec<_> = data_files(&path);
    names.push(path.join("CURRENT"));
    for (i, name) in names.iter().enumerate() {
        let copy = dir.path().join(format!("missing-{i}"));
        crash_copy(&path, &copy);
        fs::remove_file(copy.join(name.file_name().unwrap())).unwrap();
        let error = match Store::open(&copy, &options()) {
            Ok(store) => of_store(&store).err(),
            Err(error) => Some(error.to_string()),
        };
        let error = error.unwrap_or_else(|| panic!("without {} nothing is missed", name.display()));
        // A lost root file must not look like a new group.
        if name.ends_with("CURRENT") {
            assert!(error.contains("no complete store"), "{error}");
        }
    }
}
