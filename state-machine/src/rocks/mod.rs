//! The state of one group in RocksDB.
//!
//! There is no WAL: all writes of an apply batch, the applied point among them, are one atomic
//! write, so after a crash the store is at some earlier applied point, and the Raft log (purged
//! only behind a flushed snapshot) is applied again from there.

mod error;
mod open;
mod options;
mod reclaim;
mod view;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rocksdb::{CompactOptions, DB, FlushOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint};

pub use self::{error::StoreError, options::StoreOptions, view::Frozen};
use self::{reclaim::Ranges, view::Live};
pub use crate::store::Compression;
use crate::{
    apply::{self, ApplyItem},
    keys,
    outcome::Outcome,
    read::Reader,
    types::LogPoint,
    view::{View, Write, Writes},
};

/// Reads of a frozen state.
pub type ReadView = Reader<Frozen>;

/// Version of everything in the store; its first row.
const FORMAT: u8 = 1;

/// An open store. Dropping it, and the last of its views, closes it.
pub struct Store {
    dir: PathBuf,
    db: Arc<DB>,
    unlogged: WriteOptions,
    /// Held through an apply: what one reads is what the one before it wrote.
    writer: Mutex<Writer>,
    /// How far the state is; moved by apply, after the write, and by flush.
    points: Mutex<Points>,
    /// Deleted, and not given back yet.
    deleted: Mutex<Ranges>,
    /// Whether garbage in blob files is being collected.
    blob_gc: Mutex<bool>,
}

/// What only apply looks at.
#[derive(Default)]
struct Writer {
    /// Range deletions since apply last had the memtable flushed; at least those that are in it.
    range_deletions: u32,
}

/// How far a store is. `durable` never passes `applied`.
#[derive(Clone, Copy)]
struct Points {
    applied: Option<LogPoint>,
    durable: Option<LogPoint>,
}

/// Nothing that holds one of the locks can leave what it guards half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store in `dir`; makes it if the directory is missing or empty.
    ///
    /// # Errors
    /// [`StoreError`]; damage and missing files are errors, never an empty or a shorter state.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::with(dir, open::writable(dir, options)?)
    }

    /// Opens a store that nobody writes, such as a checkpoint. It refuses to apply.
    ///
    /// # Errors
    /// [`StoreError`]; also if there is none.
    pub fn open_read_only(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::with(dir, open::read_only(dir, options)?)
    }

    fn with(dir: &Path, db: DB) -> Result<Self, StoreError> {
        let applied = Reader::new(Live(&db)).map_err(error::view(dir))?.applied();
        Ok(Self {
            dir: dir.to_owned(),
            db: Arc::new(db),
            unlogged: options::unlogged(),
            writer: Mutex::default(),
            // There is no WAL, so what is there at opening was flushed before.
            points: Mutex::new(Points { applied, durable: applied }),
            deleted: Mutex::default(),
            blob_gc: Mutex::new(false),
        })
    }

    /// Applies entries in one atomic write.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written, and this replica must stop.
    pub fn apply(&self, items: &[ApplyItem]) -> Result<Vec<Vec<Outcome>>, StoreError> {
        self.apply_and(items, |_, _| {})
    }

    /// The same, and shows `seen` what was written and what it came to: after the write, and before
    /// the next one.
    ///
    /// # Errors
    /// As [`Self::apply`]. `seen` saw nothing then.
    pub fn apply_and(
        &self,
        items: &[ApplyItem],
        seen: impl FnOnce(&Writes, &[Vec<Outcome>]),
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        let mut writer = lock(&self.writer);
        let (writes, outcomes) =
            apply::commit(&Live(&self.db), items).map_err(error::view(&self.dir))?;
        self.write(&writes)?;
        if let Some(last) = items.last() {
            lock(&self.points).applied = Some(last.at);
        }
        seen(&writes, &outcomes);
        writer.range_deletions += self.note_deleted(&writes);
        if writer.range_deletions >= options::RANGE_DELETIONS {
            self.flush_memtable(false)?;
            writer.range_deletions = 0;
        }
        Ok(outcomes)
    }

    fn write(&self, writes: &Writes) -> Result<(), StoreError> {
        let mut batch = WriteBatch::with_capacity_bytes(batch_bytes(writes));
        for write in &writes.0 {
            match write {
                Write::Put(key, value) => batch.put(key, value),
                Write::Delete(key) => batch.delete(key),
                Write::DeleteRange(from, to) => batch.delete_range(from, to),
            }
        }
        self.db.write_opt(batch, &self.unlogged).map_err(error::rocks(&self.dir))
    }

    /// Remembers deleted ranges for [`Self::reclaim`], and counts them.
    fn note_deleted(&self, writes: &Writes) -> u32 {
        let mut count = 0;
        for write in &writes.0 {
            if let Write::DeleteRange(from, to) = write {
                lock(&self.deleted).add(from, to);
                count += 1;
            }
        }
        count
    }

    /// The last entry applied. Reads nothing.
    #[must_use]
    pub fn applied(&self) -> Option<LogPoint> {
        lock(&self.points).applied
    }

    /// The last entry known to survive a crash; later ones may survive too. Reads nothing.
    #[must_use]
    pub fn durable_applied(&self) -> Option<LogPoint> {
        lock(&self.points).durable
    }

    /// The Raft membership that goes with the applied point; opaque here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raft_meta(&self) -> Result<Option<Bytes>, StoreError> {
        Live(&self.db).get(&keys::membership()).map_err(error::view(&self.dir))
    }

    /// The state as of now, frozen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn view(&self) -> Result<ReadView, StoreError> {
        Reader::new(Frozen::new(self.db.clone())).map_err(error::view(&self.dir))
    }

    /// Makes everything applied before the call durable, and says how far that is at least.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<Option<LogPoint>, StoreError> {
        // Taken before: what is applied during the flush may or may not be in it.
        let applied = self.applied();
        self.flush_memtable(true)?;
        let mut points = lock(&self.points);
        points.durable = points.durable.max(applied);
        Ok(points.durable)
    }

    /// True if the next [`Self::apply`] may have to wait for a flush or a compaction: one memtable
    /// is being written out and the next one may follow it, or RocksDB slows writes down already.
    #[must_use]
    pub fn may_stall(&self) -> bool {
        let above = |name: &str, limit: u64| {
            // Only an unknown name gives nothing; a store that can't tell is treated as pressed.
            self.db.property_int_value(name).ok().flatten().is_none_or(|value| value > limit)
        };
        above("rocksdb.num-immutable-mem-table", 1) || above("rocksdb.actual-delayed-write-rate", 0)
    }

    fn flush_memtable(&self, wait: bool) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.db.flush_opt(&options).map_err(error::rocks(&self.dir))
    }

    /// Makes a copy in `dest`, which must not exist, out of hard links. It holds everything applied
    /// before the call, and maybe a little more: it says itself what.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self, dest: &Path) -> Result<(), StoreError> {
        if dest.try_exists().map_err(error::io(dest))? {
            return Err(StoreError::Exists { dir: dest.to_owned() });
        }
        self.flush()?;
        let checkpoint = Checkpoint::new(&self.db).map_err(error::rocks(&self.dir))?;
        checkpoint.create_checkpoint(dest).map_err(error::rocks(&self.dir))
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
    /// for the apply path. What open views still show stays until a later compaction.
    ///
    /// RocksDB could drop whole files of a deleted range at once, but it does so under the feet of
    /// open views, which would then miss rows that they must show. A compaction of the range is as
    /// good where batches are blobs: it rewrites keys only, and drops blob files without live
    /// batches. Those that hold live batches too are copied together once half of what blob files
    /// hold is garbage.
    ///
    /// # Errors
    /// RocksDB's.
    pub fn reclaim(&self) -> Result<(), StoreError> {
        let ranges = lock(&self.deleted).take();
        let mut options = CompactOptions::default();
        // RocksDB's own compactions, which keep apply from stalling, go on beside it.
        options.set_exclusive_manual_compaction(false);
        for (from, to) in ranges {
            self.db.compact_range_opt(Some(from), Some(to), &options);
        }
        self.adjust_blob_gc()
    }

    fn adjust_blob_gc(&self) -> Result<(), StoreError> {
        let property =
            |name: &str| self.db.property_int_value(name).map_err(error::rocks(&self.dir));
        let garbage = property("rocksdb.live-blob-file-garbage-size")?.unwrap_or(0);
        let total = property("rocksdb.live-blob-file-size")?.unwrap_or(0);
        let mut on = lock(&self.blob_gc);
        let wanted = options::wants_blob_gc(*on, garbage, total);
        if wanted != *on {
            self.db.set_options(&options::blob_gc(wanted)).map_err(error::rocks(&self.dir))?;
            *on = wanted;
        }
        Ok(())
    }
}

/// What a batch of writes takes, about; so that it does not grow step by step.
fn batch_bytes(writes: &Writes) -> usize {
    /// Type, lengths.
    const OVERHEAD: usize = 16;
    let bytes = |write: &Write| match write {
        Write::Put(key, value) => key.len() + value.len(),
        Write::Delete(key) => key.len(),
        Write::DeleteRange(from, to) => from.len() + to.len(),
    };
    writes.0.iter().map(|write| bytes(write) + OVERHEAD).sum()
}
