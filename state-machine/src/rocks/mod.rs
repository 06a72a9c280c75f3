//! The state of one group in RocksDB.
//!
//! There is no WAL: all writes of an apply batch, the applied point among them, are one atomic
//! write, so after a crash the store is at some earlier applied point, and the Raft log (purged
//! only behind a flushed snapshot) is applied again from there.

mod options;
mod view;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint};

use self::view::Live;
pub use self::{
    options::{Compression, StoreOptions},
    view::Frozen,
};
use crate::{
    apply::{self, ApplyItem},
    keys::{self, Key},
    outcome::Outcome,
    read::Reader,
    types::LogPoint,
    view::{View, ViewError, Write, Writes},
};

/// Reads of a frozen state.
pub type ReadView = Reader<Frozen>;

/// Version of everything in the store; its first row.
const FORMAT: u8 = 1;

/// Ranges remembered for [`Store::reclaim`]. Beyond it the oldest is forgotten: RocksDB's own
/// compactions get to it, later.
const MAX_RECLAIM: usize = 1024;

/// The store failed. Nothing of the batch in hand was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// RocksDB said no.
    #[error("the state in {} failed: {why}", dir.display())]
    Rocks {
        /// Which store.
        dir: PathBuf,
        /// RocksDB's words.
        why: String,
    },
    /// What was read is damaged, or reading failed.
    #[error("the state in {} failed: {source}", dir.display())]
    View {
        /// Which store.
        dir: PathBuf,
        /// What.
        source: ViewError,
    },
    /// Written by another version.
    #[error(
        "the state in {} has format {found}, but this build knows format {FORMAT}; start it with \
         the version that wrote it",
        dir.display()
    )]
    Format {
        /// Which store.
        dir: PathBuf,
        /// As stored.
        found: String,
    },
    /// The file system said no.
    #[error("{}: {source}", dir.display())]
    Io {
        /// Which store.
        dir: PathBuf,
        /// What.
        source: io::Error,
    },
}

/// An open store.
pub struct Store {
    dir: PathBuf,
    db: Arc<DB>,
    applied: Mutex<Option<LogPoint>>,
    /// Ranges that were deleted and not compacted yet.
    reclaim: Mutex<Vec<(Key, Key)>>,
}

fn unlogged() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

impl Store {
    /// Opens the store in `dir`; makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let db = DB::open(&options.rocksdb(), dir).map_err(|e| rocks(dir, e))?;
        let this = Self::with(dir, db)?;
        let format = this.db.get(keys::format()).map_err(|e| rocks(dir, e))?;
        // Not a store without a format: a new one.
        if format.is_none() && is_empty(&this.db).map_err(|e| rocks(dir, e))? {
            let put = this.db.put_opt(keys::format(), [FORMAT], &unlogged());
            put.map_err(|e| rocks(dir, e))?;
            this.flush()?;
            return Ok(this);
        }
        this.check_format(format)?;
        Ok(this)
    }

    /// Opens a store that nobody writes, such as a checkpoint.
    ///
    /// # Errors
    /// [`StoreError`]; also if there is none.
    pub fn open_read_only(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let mut rocksdb = options.rocksdb();
        rocksdb.create_if_missing(false);
        let db = DB::open_for_read_only(&rocksdb, dir, false).map_err(|e| rocks(dir, e))?;
        let this = Self::with(dir, db)?;
        let format = this.db.get(keys::format()).map_err(|e| rocks(dir, e))?;
        this.check_format(format)?;
        Ok(this)
    }

    fn with(dir: &Path, db: DB) -> Result<Self, StoreError> {
        let reader = Reader::new(Live(&db)).map_err(|e| damaged(dir, e))?;
        let applied = Mutex::new(reader.applied());
        Ok(Self { dir: dir.to_owned(), db: Arc::new(db), applied, reclaim: Mutex::default() })
    }

    fn check_format(&self, found: Option<Vec<u8>>) -> Result<(), StoreError> {
        match found.as_deref() {
            Some([FORMAT]) => Ok(()),
            other => Err(StoreError::Format { dir: self.dir.clone(), found: format!("{other:?}") }),
        }
    }

    /// Applies entries in one atomic write.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written, and this replica must stop.
    pub fn apply(&self, items: &[ApplyItem]) -> Result<Vec<Vec<Outcome>>, StoreError> {
        let (writes, outcomes) =
            apply::commit(&Live(&self.db), items).map_err(|e| damaged(&self.dir, e))?;
        self.write(writes)?;
        if let Some(last) = items.last() {
            *self.applied.lock().unwrap_or_else(PoisonError::into_inner) = Some(last.at);
        }
        Ok(outcomes)
    }

    fn write(&self, writes: Writes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for write in writes.0 {
            match write {
                Write::Put(key, value) => batch.put(key, value),
                Write::Delete(key) => batch.delete(key),
                Write::DeleteRange(from, to) => {
                    batch.delete_range(&from, &to);
                    let mut reclaim = self.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
                    if reclaim.len() == MAX_RECLAIM {
                        reclaim.remove(0);
                    }
                    reclaim.push((from, to));
                }
            }
        }
        self.db.write_opt(batch, &unlogged()).map_err(|e| rocks(&self.dir, e))
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> Option<LogPoint> {
        *self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Raft membership that goes with the applied point; opaque here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raft_meta(&self) -> Result<Option<Bytes>, StoreError> {
        Live(&self.db).get(&keys::membership()).map_err(|e| damaged(&self.dir, e))
    }

    /// The state as of now, frozen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn view(&self) -> Result<ReadView, StoreError> {
        Reader::new(Frozen::new(self.db.clone())).map_err(|e| damaged(&self.dir, e))
    }

    /// Makes everything applied durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(|e| rocks(&self.dir, e))
    }

    /// Makes a copy in `dest`, which must not exist, out of hard links. It holds everything applied
    /// before the call, and maybe a little more: it says itself what.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self, dest: &Path) -> Result<(), StoreError> {
        self.flush()?;
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| rocks(&self.dir, e))?;
        checkpoint.create_checkpoint(dest).map_err(|e| rocks(&self.dir, e))
    }

    /// Bytes of the files, about.
    #[must_use]
    pub fn approximate_disk_bytes(&self) -> u64 {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        property("rocksdb.total-sst-files-size") + property("rocksdb.total-blob-file-size")
    }

    /// Bytes of memtables.
    #[must_use]
    pub fn memtable_bytes(&self) -> u64 {
        let property = self.db.property_int_value("rocksdb.cur-size-all-mem-tables");
        property.ok().flatten().unwrap_or(0)
    }

    /// Gives back the space of what was trimmed and deleted since the last call. May take long; not
    /// for the apply path.
    pub fn reclaim(&self) {
        let ranges: Vec<_> = {
            let mut reclaim = self.reclaim.lock().unwrap_or_else(PoisonError::into_inner);
            reclaim.drain(..).collect()
        };
        for (from, to) in ranges {
            self.db.compact_range(Some(from), Some(to));
        }
    }
}

fn is_empty(db: &DB) -> Result<bool, rocksdb::Error> {
    let mut rows = db.raw_iterator();
    rows.seek_to_first();
    rows.status()?;
    Ok(!rows.valid())
}

fn rocks(dir: &Path, error: rocksdb::Error) -> StoreError {
    StoreError::Rocks { dir: dir.to_owned(), why: error.into_string() }
}

fn damaged(dir: &Path, source: ViewError) -> StoreError {
    StoreError::View { dir: dir.to_owned(), source }
}
