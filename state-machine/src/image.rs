//! The state of one group in memory, with an image of all of it in one file: what simulations run
//! on. It has the calls of `crate::rocks` and keeps its promises, at a cost that grows with the
//! state.
//!
//! As there, nothing is logged: after a crash the store is what its last flush wrote, and the Raft
//! log is applied again from there. A flush writes beside, syncs, and renames.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes};

use crate::{
    apply::{self, ApplyItem},
    keys::{self, Key},
    memory::Memory,
    outcome::Outcome,
    planted,
    read::Reader,
    store::Compression,
    types::LogPoint,
    values::LogMeta,
    view::{View, ViewError, Write, Writes},
};

/// The one file of a store.
const FILE: &str = "state.image";

/// Begins the file.
const MAGIC: &[u8; 8] = b"QIMAGE01";

/// Reads of a frozen state.
pub type ReadView = Reader<Arc<Memory>>;

/// The store failed. What the call was to write is not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is stored is damaged.
    #[error("the state in {} is damaged: {why}", dir.display())]
    Damaged {
        /// Which store.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A copy is never made over something else.
    #[error("{} exists, so no checkpoint can be made there", dir.display())]
    Exists {
        /// Where.
        dir: PathBuf,
    },
    /// Nothing is applied to a store that was opened for reading.
    #[error("the state in {} was opened for reading only", dir.display())]
    ReadOnly {
        /// Which store.
        dir: PathBuf,
    },
    /// The file system failed.
    #[error("{}: {source}", dir.display())]
    Io {
        /// Which directory.
        dir: PathBuf,
        /// What.
        source: io::Error,
    },
}

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

fn io_error(dir: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Io { dir: dir.to_owned(), source }
}

fn view_error(dir: &Path) -> impl Fn(ViewError) -> StoreError {
    move |error| StoreError::Damaged { dir: dir.to_owned(), why: error.to_string() }
}

impl Store {
    /// Opens the store in `dir`; makes it if there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        if !dir.join(FILE).try_exists().map_err(io_error(dir))? {
            write_image(dir, &Memory::new()).map_err(io_error(dir))?;
        }
        Ok(Self { writable: true, ..Self::open_read_only(dir, options)? })
    }

    /// Opens a store that nobody writes, such as a checkpoint. It refuses to apply.
    ///
    /// # Errors
    /// [`StoreError`]; also if there is none.
    pub fn open_read_only(dir: &Path, _options: &StoreOptions) -> Result<Self, StoreError> {
        let bytes = fs::read(dir.join(FILE)).map_err(io_error(dir))?;
        let rows = parse_image(bytes.into())
            .map_err(|why| StoreError::Damaged { dir: dir.to_owned(), why: why.to_owned() })?;
        let applied = rows.reader().map_err(view_error(dir))?.applied();
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
            apply::commit(&*state.rows, items).map_err(view_error(&self.dir))?;
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
        self.state().rows.get(&keys::membership()).map_err(view_error(&self.dir))
    }

    /// The state as of now, frozen.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn view(&self) -> Result<ReadView, StoreError> {
        let mut rows = self.state().rows.clone();
        if self.flipped.load(Ordering::Relaxed) {
            rows = Arc::new(flip_batches(&rows));
        }
        Reader::new(rows).map_err(view_error(&self.dir))
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
        write_image(&self.dir, &state.rows).map_err(io_error(&self.dir))?;
        state.durable = state.applied;
        Ok(state.durable)
    }

    /// Makes a copy in `dest`, which must not exist. It holds everything applied before the call.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn checkpoint(&self, dest: &Path) -> Result<(), StoreError> {
        if dest.try_exists().map_err(io_error(dest))? {
            return Err(StoreError::Exists { dir: dest.to_owned() });
        }
        self.flush()?;
        fs::create_dir(dest).map_err(io_error(dest))?;
        let mut rows = self.state().rows.clone();
        if planted::is("dedupe_lost_in_snapshot") {
            rows = Arc::new(forget_producers(&rows));
        }
        write_image(dest, &rows).map_err(io_error(dest))
    }

    /// Bytes of the file, about.
    #[must_use]
    pub fn approximate_disk_bytes(&self) -> u64 {
        fs::metadata(self.dir.join(FILE)).map_or(0, |file| file.len())
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

/// Every batch with its last bit flipped.
fn flip_batches(rows: &Memory) -> Memory {
    let mut flipped = rows.clone();
    let batches = rows.rows().filter(|(key, _)| key.first() == Some(&keys::BATCH));
    let writes = batches.map(|(key, value)| {
        let mut value = value.to_vec();
        if let Some(last) = value.last_mut() {
            *last ^= 1;
        }
        Write::Put(Key::from_slice(key), value.into())
    });
    flipped.write(Writes(writes.collect()));
    flipped
}

/// A planted fault: all but what deduplication needs.
fn forget_producers(rows: &Memory) -> Memory {
    let tables = [keys::PRODUCER, keys::CHUNK, keys::EXPIRY];
    let forgotten = rows.rows().filter(|(key, _)| key.first().is_some_and(|t| tables.contains(t)));
    let writes = forgotten.map(|(key, _)| Write::Delete(Key::from_slice(key))).collect();
    let mut rest = rows.clone();
    rest.write(Writes(writes));
    rest
}

/// A planted fault: logs as if they had never been fenced.
fn forget_epochs(rows: &Memory) -> Memory {
    let logs = rows.rows().filter(|(key, _)| key.first() == Some(&keys::LOG));
    let writes = logs.filter_map(|(key, value)| {
        let log = LogMeta { writer_epoch: None, ..LogMeta::decode(value).ok()? };
        let mut value = Vec::new();
        log.encode_to(&mut value);
        Some(Write::Put(Key::from_slice(key), value.into()))
    });
    let writes = writes.collect();
    let mut rest = rows.clone();
    rest.write(Writes(writes));
    rest
}

fn write_image(dir: &Path, rows: &Memory) -> io::Result<()> {
    if planted::is("fence_not_persisted") {
        return write_rows(dir, &forget_epochs(rows));
    }
    write_rows(dir, rows)
}

fn write_rows(dir: &Path, rows: &Memory) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (key, value) in rows.rows() {
        bytes.put_u32(length(key.len()));
        bytes.put_slice(key);
        bytes.put_u32(length(value.len()));
        bytes.put_slice(value);
    }
    bytes.put_u32(crc32c::crc32c(&bytes));
    let beside = dir.join("state.tmp");
    let mut file = File::create(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a row is far below 4 GiB")
}

fn parse_image(bytes: Bytes) -> Result<Memory, &'static str> {
    let body = bytes.len().checked_sub(4).ok_or("the image is cut")?;
    let (mut rows, mut sum) = (bytes.slice(..body), bytes.slice(body..));
    if crc32c::crc32c(&rows) != sum.get_u32() || !rows.starts_with(MAGIC) {
        return Err("the image's checksum does not fit");
    }
    rows.advance(MAGIC.len());
    let mut writes = Writes::default();
    while rows.has_remaining() {
        let key = field(&mut rows)?;
        let value = field(&mut rows)?;
        writes.0.push(Write::Put(Key::from_slice(&key), value));
    }
    let mut memory = Memory::new();
    memory.write(writes);
    Ok(memory)
}

fn field(rows: &mut Bytes) -> Result<Bytes, &'static str> {
    let cut = "the image is cut";
    if rows.remaining() < 4 {
        return Err(cut);
    }
    let length = rows.get_u32() as usize;
    if rows.remaining() < length {
        return Err(cut);
    }
    Ok(rows.split_to(length))
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

    #[test]
    fn damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        store.apply(&items(0, 3)).unwrap();
        store.flush().unwrap();
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(parse_image(damaged.into()).is_err(), "byte {at}");
            assert!(parse_image(whole[..at].to_vec().into()).is_err(), "cut at {at}");
        }
    }
}
