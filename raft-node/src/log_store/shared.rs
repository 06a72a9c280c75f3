//! What the callers and the sync thread share: the queue, the counters, the failure.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    group::{Done, Group, RawEntry},
    state::{Point, VoteRecord},
    table::Table,
};

/// Something for the sync thread to make durable.
pub(super) enum Op {
    Append { group: Arc<Group>, entries: Vec<RawEntry>, first_serial: u32, done: Done },
    Vote { group: Arc<Group>, vote: VoteRecord, reply: oneshot::Sender<io::Result<()>> },
    Truncate { group: Arc<Group>, last: Option<Point>, reply: oneshot::Sender<io::Result<()>> },
    Purge { group: Arc<Group>, term: u64, index: u64, reply: oneshot::Sender<io::Result<()>> },
    Close,
}

impl Op {
    /// Ends it with an error.
    pub fn fail(self, why: &str) {
        let error = || io::Error::other(why.to_owned());
        match self {
            Self::Append { done, .. } => done(Err(error())),
            // Who asked may have stopped waiting.
            Self::Vote { reply, .. } | Self::Truncate { reply, .. } | Self::Purge { reply, .. } => {
                let _ = reply.send(Err(error()));
            }
            Self::Close => {}
        }
    }
}

#[derive(Default)]
struct Queue {
    ops: Vec<Op>,
    /// Nothing is taken any more; why.
    closed: Option<String>,
}

/// Upper bounds of the sync histogram's buckets, microseconds.
pub const SYNC_BUCKETS_US: [u64; 14] =
    [25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 102_400, 1_000_000];

/// Counters, since the start of the process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches made durable.
    pub syncs: AtomicU64,
    /// Bytes written, padding and headers included.
    pub written_bytes: AtomicU64,
    /// Bytes of entries in them.
    pub payload_bytes: AtomicU64,
    /// Entries appended.
    pub entries: AtomicU64,
    /// Segments used again.
    pub recycled: AtomicU64,
    /// Segments that had to be made while an append waited.
    pub unprepared: AtomicU64,
    /// Syncs by duration; the last bucket is everything longer.
    pub sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    /// Microseconds of all syncs.
    pub sync_us: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, elapsed: Duration) {
        let us = elapsed.as_micros() as u64;
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        Self::add(&self.sync_buckets[bucket], 1);
        Self::add(&self.sync_us, us);
        Self::add(&self.syncs, 1);
    }
}

/// What was queued is taken once this rings. To be rung without any lock that the sync thread takes
/// (the queue's, a table's): woken earlier, it would run into it, and sleep and be woken once more
/// before it writes.
#[must_use = "nobody else wakes the thread"]
pub(super) struct Bell<'a>(Option<&'a Condvar>);

impl Bell<'_> {
    pub fn ring(self) {
        if let Some(wake) = self.0 {
            wake.notify_one();
        }
    }
}

pub(super) struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    pub groups: RwLock<BTreeMap<u32, Arc<Group>>>,
    pub counters: Counters,
    /// Payload bytes in the tables.
    pub cached: AtomicU64,
    /// Position behind everything written.
    pub end: AtomicU64,
    /// Bytes of all files.
    pub disk_bytes: AtomicU64,
    pub segments: AtomicU64,
    pub failed: watch::Sender<Option<String>>,
}

impl Shared {
    pub fn new(groups: BTreeMap<u32, Arc<Group>>, end: u64, cached: u64) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Condvar::new(),
            groups: RwLock::new(groups),
            counters: Counters::default(),
            cached: AtomicU64::new(cached),
            end: AtomicU64::new(end),
            disk_bytes: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            failed: watch::Sender::new(None),
        }
    }

    /// The group; made if it is new.
    pub fn group(&self, number: u32) -> Arc<Group> {
        let known = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = known.get(&number) {
            return group.clone();
        }
        drop(known);
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Group::new(number, Table::default()));
        groups.entry(number).or_insert_with(new).clone()
    }

    /// Queues `op`, and says by what the thread is to be woken; gives it back, with the reason, if
    /// nothing is taken any more.
    pub fn push(&self, op: Op) -> Result<Bell<'_>, (Op, String)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(why) = &queue.closed {
            return Err((op, why.clone()));
        }
        queue.ops.push(op);
        // Who finds others before him leaves it to the first of them.
        Ok(Bell((queue.ops.len() == 1).then_some(&self.wake)))
    }

    /// Waits for something to do, and takes all of it.
    pub fn take(&self, into: &mut Vec<Op>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.ops.is_empty() {
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut queue.ops, into);
    }

    pub fn depth(&self) -> u64 {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).ops.len() as u64
    }

    /// Takes nothing any more, and answers with what was still queued.
    pub fn close(&self, why: &str) -> Vec<Op> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed.get_or_insert_with(|| why.to_owned());
        std::mem::take(&mut queue.ops)
    }
}
