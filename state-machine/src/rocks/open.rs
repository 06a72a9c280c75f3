//! How a store comes to be, and what is checked before one is used.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rocksdb::DB;

use super::{
    FORMAT,
    error::{self, StoreError},
    options::{StoreOptions, unlogged},
};
use crate::{keys, planted, values::LogMeta};

/// RocksDB's root file: without it, RocksDB takes a directory for an empty one.
const ROOT: &str = "CURRENT";

/// Opens the database in `dir` for writing; makes it if the directory is missing or empty.
pub(super) fn writable(dir: &Path, options: &StoreOptions) -> Result<DB, StoreError> {
    if !exists(&dir.join(ROOT)).map_err(error::io(dir))? {
        if !is_missing_or_empty(dir).map_err(error::io(dir))? {
            return Err(StoreError::NotAStore { dir: dir.to_owned() });
        }
        make(dir, options)?;
    }
    let db = DB::open(&options.rocksdb(), dir).map_err(error::rocks(dir))?;
    check_format(dir, &db)?;
    if planted::is("fence_not_persisted") {
        forget_epochs(&db).map_err(error::rocks(dir))?;
    }
    Ok(db)
}

/// A planted fault: logs as if they had never been fenced.
fn forget_epochs(db: &DB) -> Result<(), rocksdb::Error> {
    for row in db.prefix_iterator([keys::LOG]) {
        let (key, value) = row?;
        if key.first() != Some(&keys::LOG) {
            break;
        }
        if let Ok(log) = LogMeta::decode(&value) {
            let mut value = Vec::new();
            LogMeta { writer_epoch: None, ..log }.encode_to(&mut value);
            db.put_opt(key, value, &unlogged())?;
        }
    }
    Ok(())
}

/// Opens the database in `dir`, which nobody writes.
pub(super) fn read_only(dir: &Path, options: &StoreOptions) -> Result<DB, StoreError> {
    if !exists(&dir.join(ROOT)).map_err(error::io(dir))? {
        return Err(StoreError::NotAStore { dir: dir.to_owned() });
    }
    let db = DB::open_for_read_only(&options.rocksdb(), dir, false).map_err(error::rocks(dir))?;
    check_format(dir, &db)?;
    Ok(db)
}

/// Makes an empty store beside `dir` and moves it there when it is complete and durable, so that a
/// directory holds a whole store or none, whenever a crash comes.
fn make(dir: &Path, options: &StoreOptions) -> Result<(), StoreError> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(error::io(parent))?;
    let mut beside = dir.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_dir_all(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error::io(&beside)(e)),
        _ => {}
    }
    let mut create = options.rocksdb();
    create.create_if_missing(true);
    create.set_error_if_exists(true);
    let db = DB::open(&create, &beside).map_err(error::rocks(&beside))?;
    db.put_opt(keys::format(), [FORMAT], &unlogged()).map_err(error::rocks(&beside))?;
    db.flush().map_err(error::rocks(&beside))?;
    drop(db);
    File::open(&beside).and_then(|d| d.sync_all()).map_err(error::io(&beside))?;
    // Replaces an empty directory, and fails on any other.
    fs::rename(&beside, dir).map_err(error::io(dir))?;
    File::open(parent).and_then(|d| d.sync_all()).map_err(error::io(parent))
}

/// Before anything else is read: other rows may have other forms in another format.
fn check_format(dir: &Path, db: &DB) -> Result<(), StoreError> {
    let found = db.get(keys::format()).map_err(error::rocks(dir))?;
    let found = match found.as_deref() {
        Some([FORMAT]) => return Ok(()),
        Some([other]) => other.to_string(),
        Some(other) => format!("{other:?}"),
        None => "none".into(),
    };
    Err(StoreError::Format { dir: dir.to_owned(), found })
}

fn exists(path: &Path) -> io::Result<bool> {
    path.try_exists()
}

fn is_missing_or_empty(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().transpose().map(|first| first.is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e),
    }
}
