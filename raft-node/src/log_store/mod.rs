//! The Raft log of one node, shared by all its groups: segmented, preallocated, recycled, with one
//! thread that makes everything durable. Knows nothing of openraft.
//!
//! The contract, for each group:
//! - What was appended is readable when the call returns, from memory until it is on the disk.
//! - A callback runs once, in the order of the calls, only after everything up to it is durable.
//! - Votes, truncations and purges are frames of the same stream: durable on return, and in order
//!   with the appends around them.
//! - The first failed write or sync is the last: everything that waits or comes later gets the
//!   error, [`LogStore::failed`] says so, nothing is tried again.
//! - After a crash: everything that was confirmed is there; of what was not, a prefix may be.
//!
//! Reading order: `frame` (bytes), `segment` (files), `state`, `table` (where entries are), `group`
//! (the calls), `shared` (the queue), `writer` (the thread), `evict` (the cache's bound), `read`,
//! `prepare` (spare segments), `recovery`.
//!
//! Not here: admission (the byte bound is in front of the proposer), what an entry means, when to
//! purge.

mod buffer;
mod durability;
mod evict;
mod frame;
mod group;
mod prepare;
mod read;
mod recovery;
mod segment;
mod shared;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod tidy;
mod writer;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread,
};

use tokio::sync::watch;

pub(crate) use self::durability::sync_dir;
use self::{
    buffer::AlignedBuffer,
    evict::Evictions,
    group::Group,
    prepare::Preparer,
    segment::Header,
    shared::{Op, Shared},
    writer::Writer,
};
pub use self::{
    durability::{Disk, Durability, RealDisk},
    group::{Done, GroupLog, RawEntry},
    recovery::RecoveryReport,
    shared::{Counters, SYNC_BUCKETS_US},
    state::{GroupState, Point, VoteRecord},
};

/// Settings.
#[derive(Clone)]
pub struct Options {
    /// Size of a segment, bytes; whole blocks of 4 KiB, and more than the largest entry.
    pub segment_bytes: u64,
    /// Segments kept ready: so many are made ahead of need.
    pub spare_segments: usize,
    /// Purged segments kept to be used again, beyond those; at least one. As many as one purge
    /// gives back: what is removed then is made anew soon after, and that costs a write of zeros
    /// for each byte of the log.
    pub kept_segments: usize,
    /// Payload bytes of entries kept in memory, all groups together. What is not written yet is
    /// kept in any case; admission bounds it.
    pub cache_bytes: u64,
    /// How writes become durable.
    pub durability: Durability,
    /// Whose log this is: cluster and node. Another's is refused.
    pub store_id: [u8; 16],
    /// The seam for tests.
    pub disk: Arc<dyn Disk>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            spare_segments: 2,
            kept_segments: 8,
            cache_bytes: 64 * 1024 * 1024,
            durability: Durability::Auto,
            store_id: [0; 16],
            disk: Arc::new(RealDisk),
        }
    }
}

const WHAT_TO_DO: &str = "This replica has promised what is lost here, so it must not come back \
    under its node id. The other replicas hold everything acknowledged: remove this node from the \
    cluster for good, and add a new one with an empty data directory under a node id that was never \
    used. Keep the files if you want to know what happened";

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        source: io::Error,
    },
    /// What was durable can't be read.
    #[error("{} is damaged at byte {at}: {why}. {WHAT_TO_DO}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// Somebody has it open.
    #[error("{} is in use: is this node running already?", path.display())]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The log of another node.
    #[error(
        "{} belongs to the log of another node or cluster: was a disk swapped, or a directory \
         copied? Give each node its own data directory",
        path.display()
    )]
    ForeignStore {
        /// Which file.
        path: PathBuf,
    },
}

/// True if there is a log in `dir`, whatever its state. [`LogStore::open`] begins one if there is
/// none; who knows that there was one must ask first.
///
/// # Errors
/// The file system's.
pub fn is_begun(dir: &Path) -> io::Result<bool> {
    segment::any(dir)
}

struct Inner {
    shared: Arc<Shared>,
    method: durability::Method,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl Inner {
    fn close(&self) {
        // Refused when it is closed or has failed already.
        if let Ok(bell) = self.shared.push(Op::Close) {
            bell.ring();
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            // The last handle may be dropped in a callback.
            && thread.thread().id() != thread::current().id()
        {
            // A panic there was reported by the hook already.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The node's log. Cheap to clone.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

impl LogStore {
    /// Opens the log in `dir` (made if it is not there), reads it back, and starts the thread.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was changed but leftovers removed.
    ///
    /// # Panics
    /// If `segment_bytes` is not a positive number of whole blocks below 4 GiB.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, RecoveryReport), OpenError> {
        assert!(
            options.segment_bytes.is_multiple_of(frame::BLOCK as u64)
                && (1..1 << 32).contains(&options.segment_bytes),
            "a segment is whole blocks, and addressed with 32 bits"
        );
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = durability::lock(dir).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::InUse { path: dir.to_owned() },
            _ => io(source),
        })?;
        let method = durability::probe(dir, options.durability).map_err(io)?;
        let recovered =
            recovery::recover(dir, options.store_id, options.segment_bytes, &*options.disk)?;
        let states = recovered.states();
        let (next_batch, report) = (recovered.next_batch, recovered.report);
        let groups = recovered
            .tables
            .into_iter()
            .map(|(number, table)| (number, Arc::new(Group::new(number, table))))
            .collect();
        let mut segments = VecDeque::from(recovered.segments);
        let mut spares = recovered.spares;
        if recovered.last_is_empty && segments.len() > 1 {
            // A node that is started again and again must not fill the disk with segments. The
            // oldest one stays in any case: its header is all that is left of what was before it.
            let last = segments.pop_back().expect("there are more than one");
            let number = prepare::next_number(&spares);
            spares.push(segment::retire(dir, &last.path, number).map_err(io)?);
        }
        let shared = Arc::new(Shared::new(groups, 0, 0));
        let preparer = Preparer::start(
            dir.to_owned(),
            options.segment_bytes,
            options.spare_segments,
            options.kept_segments,
            method,
            spares,
            shared.clone(),
        )
        .map_err(io)?;
        // Always a fresh segment: behind a cut tail nothing is ever written, so nothing stale can
        // be taken for new.
        let header = Header {
            store_id: options.store_id,
            id: segments.back().map_or(1, |last| last.id + 1),
            salt: rand::random(),
            first_batch: next_batch,
            groups: states.clone(),
        };
        let at = Header::space(header.groups.len()) as u64;
        let spare = preparer.take().map_err(io)?;
        let (file, segment) =
            segment::begin(dir, &spare, options.segment_bytes, &header, method, &*options.disk)
                .map_err(io)?;
        shared.end.store(segment.start + at, Ordering::Relaxed);
        segments.push_back(Arc::new(segment));
        let writer = Writer {
            shared: shared.clone(),
            dir: dir.to_owned(),
            options,
            method,
            file,
            segments,
            at,
            number: next_batch,
            states,
            preparer,
            buffer: AlignedBuffer::new(1 << 20),
            evictions: Evictions::default(),
            _lock: lock,
        };
        let thread = thread::Builder::new()
            .name("log-sync".to_owned())
            .spawn(move || writer.run())
            .map_err(io)?;
        let inner = Inner { shared, method, thread: Mutex::new(Some(thread)) };
        Ok((Self { inner: Arc::new(inner) }, report))
    }

    /// A group's log; empty if the group is new.
    #[must_use]
    pub fn group(&self, number: u32) -> GroupLog {
        let shared = self.inner.shared.clone();
        let group = shared.group(number);
        GroupLog { shared, group }
    }

    /// How writes become durable here, for people.
    #[must_use]
    pub fn durability(&self) -> &'static str {
        self.inner.method.name()
    }

    /// Whether this is by writes around the page cache, which this file system then takes.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.inner.method == durability::Method::Direct
    }

    /// Bytes of all files.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.inner.shared.disk_bytes.load(Ordering::Relaxed)
    }

    /// Segments in use.
    #[must_use]
    pub fn segments(&self) -> u64 {
        self.inner.shared.segments.load(Ordering::Relaxed)
    }

    /// Calls that wait for the thread.
    #[must_use]
    pub fn queue_depth(&self) -> u64 {
        self.inner.shared.depth()
    }

    /// Counters since the start of the process.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.shared.counters
    }

    /// Turns to a message, once and for ever, when a write or a sync has failed.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.inner.shared.failed.subscribe()
    }

    /// Makes everything that is queued durable, and ends the thread. Later calls get an error.
    pub fn close(self) {
        self.inner.close();
    }
}
