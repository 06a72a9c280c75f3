//! One group's log as its users see it: the calls. Each changes the table and queues what is to be
//! written under one lock, so that the queue's order is the table's order.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    read::{Found, Wanted},
    shared::{Op, Shared},
    state::{GroupState, Point, VoteRecord},
    table::Table,
};

/// An entry, as given and as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// Term.
    pub term: u64,
    /// Index.
    pub index: u64,
    /// Opaque here.
    pub kind: u8,
    /// Opaque here.
    pub payload: Bytes,
}

/// Called once, when entries are durable, or can't be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

pub(super) struct Group {
    pub number: u32,
    table: Mutex<Table>,
    /// Entries below this index are gone: what remembers an index can see without the lock that it
    /// is obsolete. Moved by purges, under the lock.
    first: AtomicU64,
}

impl Group {
    pub fn new(number: u32, table: Table) -> Self {
        let first = AtomicU64::new(table.first());
        Self { number, table: Mutex::new(table), first }
    }

    pub fn is_gone(&self, index: u64) -> bool {
        index < self.first.load(Ordering::Relaxed)
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One group's log. Cheap to clone.
#[derive(Clone)]
pub struct GroupLog {
    pub(super) shared: Arc<Shared>,
    pub(super) group: Arc<Group>,
}

fn gone() -> io::Error {
    io::Error::other("the Raft log is closed")
}

impl GroupLog {
    /// The state, calls that are still on their way to the disk included.
    #[must_use]
    pub fn state(&self) -> GroupState {
        self.group.table().state
    }

    /// The index of the last entry, whether it is on the disk yet or not; 0 if there is none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.group.table().state.last.map_or(0, |(_, index)| index)
    }

    /// Adds entries, readable on return. `done` is called once, from the sync thread and in the
    /// order of the calls: when they are durable, or with the error.
    ///
    /// # Panics
    /// If the entries don't follow each other and what is there: Raft truncates first.
    pub fn append(&self, entries: Vec<RawEntry>, done: Done) {
        let mut table = self.group.table();
        let mut bytes = 0;
        let mut first_serial = None;
        for entry in &entries {
            let next = table.state.next_index();
            assert!(
                next.is_none_or(|next| next == entry.index),
                "entry {} does not follow the log, which goes on at {next:?}",
                entry.index
            );
            bytes += entry.payload.len() as u64;
            let payload = entry.payload.clone();
            let serial = table.push_cached(entry.index, entry.term, entry.kind, payload);
            first_serial.get_or_insert(serial);
            table.state.last = Some((entry.term, entry.index));
        }
        // Before the thread can see the entries, and drop them again.
        self.shared.cached.fetch_add(bytes, Ordering::Relaxed);
        let first_serial = first_serial.unwrap_or_default();
        let group = self.group.clone();
        self.submit(table, Op::Append { group, entries, first_serial, done });
    }

    /// Queues `op` under the table's lock. Outside of it the thread is woken, which needs it too, or
    /// `op` answered if the log takes nothing any more: an answer may call back.
    fn submit(&self, table: MutexGuard<'_, Table>, op: Op) {
        let queued = self.shared.push(op);
        drop(table);
        match queued {
            Ok(bell) => bell.ring(),
            Err((op, why)) => op.fail(&why),
        }
    }

    /// Saves a vote; durable on return.
    ///
    /// # Errors
    /// The disk's; final.
    pub async fn save_vote(&self, vote: VoteRecord) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        {
            let mut table = self.group.table();
            table.state.vote = Some(vote);
            self.submit(table, Op::Vote { group: self.group.clone(), vote, reply });
        }
        answer.await.map_err(|_| gone())?
    }

    /// Notes the commit point. Never waits and never syncs: it goes to the disk with whatever is
    /// written next, and an older one than the last is fine after a crash.
    pub fn save_committed(&self, point: Option<Point>) {
        let mut table = self.group.table();
        table.state.committed = point;
        table.unsaved_committed = point.is_some();
    }

    /// Removes the entries behind `last_kept` (all of them, if `None`); durable on return.
    ///
    /// # Errors
    /// The disk's; final.
    pub async fn truncate_after(&self, last_kept: Option<u64>) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let next = last_kept.map_or(0, |kept| kept + 1);
        {
            let mut table = self.group.table();
            let freed = table.cut_after(next);
            self.shared.cached.fetch_sub(freed, Ordering::Relaxed);
            let last = match table.end().checked_sub(1) {
                Some(index) => table.slot(index).map(|slot| (slot.term, index)),
                None => None,
            };
            let last = last.or(table.state.purged);
            table.state.last = last;
            self.submit(table, Op::Truncate { group: self.group.clone(), last, reply });
        }
        answer.await.map_err(|_| gone())?
    }

    /// Removes the entries up to and including (term, index), which may be beyond the last one;
    /// durable on return.
    ///
    /// # Errors
    /// The disk's; final.
    pub async fn purge(&self, term: u64, index: u64) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        {
            let mut table = self.group.table();
            if table.state.purged.is_some_and(|(_, purged)| purged >= index) {
                return Ok(());
            }
            let freed = table.cut_upto(index);
            self.group.first.store(table.first(), Ordering::Relaxed);
            self.shared.cached.fetch_sub(freed, Ordering::Relaxed);
            table.state.purged = Some((term, index));
            if table.state.last.is_none_or(|(_, last)| last <= index) {
                table.state.last = Some((term, index));
            }
            self.submit(table, Op::Purge { group: self.group.clone(), term, index, reply });
        }
        answer.await.map_err(|_| gone())?
    }

    /// The entries from `from` to `to` (exclusive) that are there, as many as fit into `max_bytes`
    /// of payload, but at least one if there is any.
    ///
    /// # Errors
    /// The disk's, or damage; never a wrong entry.
    pub fn read(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<RawEntry>> {
        self.find(from, to, max_bytes).read()
    }

    /// Where the entries of [`Self::read`] are, without waiting for anything.
    #[must_use]
    pub fn find(&self, from: u64, to: u64, max_bytes: u64) -> Found {
        let mut wanted = Vec::new();
        let table = self.group.table();
        let mut bytes = 0;
        for index in from.max(table.first())..to.min(table.end()) {
            let slot = table.slot(index).expect("within the table");
            bytes += u64::from(slot.length);
            if !wanted.is_empty() && bytes > max_bytes {
                break;
            }
            wanted.push(Wanted::new(index, slot, table.payload(index)));
        }
        Found::new(self.group.number, wanted)
    }

    /// Bytes of log between two entries: what was written to the disk from behind `after` up to
    /// `upto`, other groups' frames and padding included.
    #[must_use]
    pub fn bytes_between(&self, after: u64, upto: u64) -> u64 {
        let end = self.shared.end.load(Ordering::Relaxed);
        self.group.table().bytes_between(after, upto, end)
    }

    /// The highest index such that everything up to it may go and about `bytes` of log are still
    /// there behind it; 0 if nothing may go.
    #[must_use]
    pub fn index_keeping(&self, bytes: u64) -> u64 {
        let end = self.shared.end.load(Ordering::Relaxed);
        self.group.table().index_keeping(bytes, end)
    }
}
