//! The state of one group in memory, with an image of all of it in one file: what simulations run
//! on. It has the calls of `crate::rocks` and keeps its promises, at a cost that grows with the
//! state.
//!
//! As there, nothing is logged: after a crash the store is what its last flush wrote, and the Raft
//! log is applied again from there.

mod error;
mod faults;
mod file;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

pub use self::error::StoreError;
use crate::{
    apply::{self, ApplyItem},
    keys,
    memory::Memory,
    outcome::Outcome,
    planted,
    read::Reader,
    store::Compression,
    types::LogPoint,
    view::{View, Writes},
};

/// Reads of a frozen state.
pub type ReadView = Reader<Arc<Memory>>;

/// Settings of a store. None of RocksDB's mean anything here.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions(());

impl StoreOptions {
    /// Takes what RocksDB's take.
    #[must_use]
    pub fn new(
        _memtable_bytes: usize,
        _block_cache_bytes: usize,
        _compression: Compression,
    ) -> Self {
        Self(())
    }

    /// Nothing to choose either.
    #[must_use]
    pub fn direct(self, _direct: bool) -> Self {
        self
    }
}

/// An open store.
pub struct Store {
    dir: PathBuf,
    writable: bool,
    state: Mutex<State>,
    /// Reads see flipped bits.
    flipped: AtomicBool,
}

struct State {
    /// Copied by the first write after a view was taken.
    rows: Arc<Memory>,
    applied: Option<LogPoint>,
    durable: Option<LogPoint>,
}

impl Store {
    /// Opens the store in `dir`; makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(error::io(dir))?;
        if !file::path(dir).try_exists().map_err(error::io(dir))? {
            file::write(dir, &Memory::new()).map_err(error::io(dir))?;
        }
        Ok(Self { writable: true, ..Self::open_read_only(dir, options)? })
    }

    /// Opens a store that nobody writes, such as a checkpoint. It refuses to apply.
    ///
    /// # Errors
    /// [`StoreError`]; also if there is none.
    pub fn open_read_only(dir: &Path, _options: &StoreOptions) -> Result<Self, StoreError> {
        let rows = file::read(dir)?;
        let applied = rows.reader().map_err(error::view(dir))?.applied();
        let state = State { rows: Arc::new(rows), applied, durable: applied };
        let (state, flipped) = (Mutex::new(state), AtomicBool::new(false));
        Ok(Self { dir: dir.to_owned(), writable: false, state, flipped })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies entries, all or none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was written, and this replica must stop.
    pub fn apply(&self, items: &[ApplyItem]) -> Result<Vec<Vec<Outcome>>, StoreError> {
        self.apply_and(items, |_, _| {})
    }

    /// The same, and shows `seen` what was written and what it came to.
    ///
    /// # Errors
    /// As [`Self::apply`]. `seen` saw nothing then.
    pub fn apply_and(
        &self,
        items: &[ApplyItem],
        seen: impl FnOnce(&Writes, &[Vec<Outcome>]),
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        if !self.writable {
            return Err(StoreError::ReadOnly { dir: self.dir.clone() });
        }
        let mut state = self.state();
        let (writes, outcomes) =
            apply::commit(&*state.rows, items).map_err(error::view(&self.dir))?;
        Arc::make_mut(&mut state.rows).write(writes.clone());
        if let Some(last) = items.last() {
            state.applied = Some(last.at);
        }
        seen(&writes, &outcomes);
        Ok(outcomes)
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> Option<LogPoint> {
        self.state().applied
    }

    /// The last entry known to survive a crash.
    #[must_use]
    pub fn durable_applied(&self) -> Option<LogPoint> {
        self.state().durable
    }

    /// The Raft membership that goes with the applied point; opaque here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn raft_meta(&self) -> Result<Option<Bytes>, StoreError> {
        self.state().rows.get(&keys::membership()).map_err(error::view(&self.dir))
    }

    /// The state as of now, frozen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn view(&self) -> Result<ReadView, StoreError> {
        let mut rows = self.state().rows.clone();
        if self.flipped.load(Ordering::Relaxed) {
            rows = Arc::new(faults::flip_batches(&rows));
        }
        Reader::new(rows).map_err(error::view(&self.dir))
    }

    /// From here on, or no more, reads see every batch with a bit flipped, as from a disk that
    /// returns something else than was written. Apply does not.
    pub fn flip_reads(&self, flipped: bool) {
        self.flipped.store(flipped, Ordering::Relaxed);
    }

    /// All rows, as of now.
    #[must_use]
    pub fn rows(&self) -> Arc<Memory> {
        self.state().rows.clone()
    }

    /// Makes everything applied before the call durable, and says how far that is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn flush(&self) -> Result<Option<LogPoint>, StoreError> {
        let mut state = self.state();
        file::write(&self.dir, &state.rows).map_err(error::io(&self.dir))?;
        state.durable = state.applied;
        Ok(state.durable)
    }

    /// Makes a copy in `dest`, which must not exist. It holds everything applied before the call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self, dest: &Path) -> Result<(), StoreError> {
        if dest.try_exists().map_err(error::io(dest))? {
            return Err(StoreError::Exists { dir: dest.to_owned() });
        }
        self.flush()?;
        fs::create_dir(dest).map_err(error::io(dest))?;
        let mut rows = self.state().rows.clone();
        if planted::is("dedupe_lost_in_snapshot") {
            rows = Arc::new(faults::forget_producers(&rows));
        }
        file::write(dest, &rows).map_err(error::io(dest))
    }

    /// Bytes of the file, about.
    #[must_use]
    pub fn approximate_disk_bytes(&self) -> u64 {
        fs::metadata(file::path(&self.dir)).map_or(0, |file| file.len())
    }

    /// Nothing here waits.
    #[must_use]
    pub fn may_stall(&self) -> bool {
        false
    }

    /// Nothing here is a memtable.
    #[must_use]
    pub fn memtable_bytes(&self) -> u64 {
        0
    }

    /// Does nothing: what was deleted is not in the next image anyway.
    ///
    /// # Errors
    /// None here.
    pub fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogIndex, Term};

    fn items(from: u64, to: u64) -> Vec<ApplyItem> {
        let at = |index| LogPoint { term: Term(1), index: LogIndex(index) };
        (from..to).map(|index| ApplyItem { at: at(index), ..ApplyItem::default() }).collect()
    }

    #[test]
    fn what_was_flushed_is_what_a_crash_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        store.apply(&items(0, 5)).unwrap();
        let before = store.view().unwrap();
        let flushed = store.flush().unwrap();
        store.apply(&items(5, 9)).unwrap();
        assert_eq!(before.applied(), flushed, "a view is frozen");
        assert_ne!(store.applied(), store.durable_applied());
        drop(store);
        let again = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        assert_eq!(again.applied(), flushed);
        let copy = dir.path().join("copy");
        again.checkpoint(&copy).unwrap();
        assert!(matches!(again.checkpoint(&copy), Err(StoreError::Exists { .. })));
        let copy = Store::open_read_only(&copy, &StoreOptions::default()).unwrap();
        assert_eq!(copy.view().unwrap().digest(), again.view().unwrap().digest());
        assert!(matches!(copy.apply(&items(5, 6)), Err(StoreError::ReadOnly { .. })));
    }
}
