//! Recently applied batches of a group, in memory, and who waits for the next one.
//!
//! Tails, and reads near the end of a log, take batches from here as the bytes that came with the
//! Raft entry: however many follow a log, its batches are not read from RocksDB again. Only what is
//! applied gets in, and a batch is final once it is applied, so what is here is right for every
//! view that shows its offset. What is *not* here is no statement at all: the caller then looks at
//! a view, which knows about trims, deletions and older batches.
//!
//! Beside the batches it keeps what the last apply left of their logs' rows, of the applied point
//! and of the term ([`Glimpse`]): a read of recent records is answered without the storage.
//!
//! Whether a log is still what it was is told apart from its batches: [`Head::changes`] counts
//! trims, the deletion and installed snapshots, and a tail that sees it move looks at a view.

use std::{
    collections::{HashMap, VecDeque},
    mem::size_of,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use quorate_state_machine::{
    apply::ApplyItem,
    outcome::{Accepted, LogDescription, Outcome},
    planted,
    read::StoredBatch,
    seen::Seen,
    types::{Incarnation, LogIndex, LogName, LogPoint, Offset, Term},
    view::Writes,
};
use tokio::sync::watch;

/// Where a log stands, as its followers are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// One past the last record, as far as was heard since somebody follows; 0 before.
    pub next: Offset,
    /// The entry with that record, or a later one.
    pub at: LogPoint,
    /// Moves when something else than an append happened: look at a view.
    pub changes: u64,
}

/// An entry whose batches are kept. Its bytes go when the last of them does.
struct Entry {
    bytes: usize,
    /// Log and first offset of each, in order.
    batches: Vec<(Incarnation, Offset)>,
}

#[derive(Default)]
struct Log {
    /// Without a hole, the newest last.
    batches: VecDeque<StoredBatch>,
    /// Who follows; there is a head while there is one.
    followers: usize,
    head: Option<watch::Sender<Head>>,
    /// As of [`Inner::applied`]; `None`: it has not changed since it is here.
    row: Option<LogDescription>,
}

#[derive(Default)]
struct Inner {
    /// The last entry heard of; `None` before the first, and after the state was replaced.
    applied: Option<LogPoint>,
    /// The term of `applied` and the entry that it began with, where that was heard.
    term: Option<(LogIndex, Term)>,
    logs: HashMap<Incarnation, Log>,
    /// Where the logs are that have a row.
    names: HashMap<LogName, Incarnation>,
    /// Oldest first: the order of eviction.
    entries: VecDeque<Entry>,
    /// Sum of theirs.
    bytes: usize,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Recent {
    limit_bytes: usize,
    inner: Arc<RwLock<Inner>>,
}

/// A log as of an applied point, from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glimpse {
    /// The last entry that it reflects.
    pub applied: LogPoint,
    /// The log.
    pub log: LogDescription,
    pub(super) term: Option<(LogIndex, Term)>,
}

impl Glimpse {
    /// The term of the entry at `index`. `None`: it is not applied, or of an earlier term.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        let (first, term) = self.term?;
        (first <= index && index <= self.applied.index).then_some(term)
    }
}

/// A log that somebody follows.
pub struct Following {
    incarnation: Incarnation,
    head: watch::Receiver<Head>,
    recent: Recent,
}

impl Recent {
    /// Keeps entries of `limit_bytes` together.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, inner: Arc::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries were applied, and what they wrote can be read. To be called for all of them, in
    /// order.
    pub fn applied(&self, items: &[ApplyItem], writes: &Writes, outcomes: &[Vec<Outcome>]) {
        let mut batches = Vec::new();
        let mut rows = Vec::new();
        for seen in writes.0.iter().filter_map(Seen::of) {
            match seen {
                Seen::Batch(log, batch) => batches.push((log, batch)),
                row => rows.push(row),
            }
        }
        let mut batches = batches.into_iter();
        let mut inner = self.write();
        for (item, outcomes) in items.iter().zip(outcomes) {
            let accepted = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
            let mut entry = Entry { bytes: 0, batches: Vec::new() };
            for accepted in accepted {
                match accepted {
                    Accepted::Appended(parts) => {
                        for part in parts.iter().filter(|part| !part.deduplicated) {
                            let (log, batch) =
                                batches.next().expect("apply writes each appended part");
                            assert_eq!(
                                (log, batch.first_offset),
                                (part.incarnation, part.first_offset),
                                "apply writes batches in the order of its outcomes"
                            );
                            if self.limit_bytes > 0 {
                                entry.batches.push((log, batch.first_offset));
                            }
                            inner.appended(log, batch, item.at, self.limit_bytes > 0);
                        }
                    }
                    Accepted::Trimmed(log, _) => inner.changed(*log),
                    Accepted::Deleted(_) if planted::is("delete_forgets_recent") => {}
                    Accepted::Deleted(log) => {
                        inner.changed(*log);
                        inner.forget(*log);
                    }
                    _ => {}
                }
            }
            if !entry.batches.is_empty() {
                let payload = item.payload.as_ref().map_or(0, bytes::Bytes::len);
                let each = size_of::<StoredBatch>() + size_of::<(Incarnation, Offset)>();
                entry.bytes = payload + size_of::<Entry>() + entry.batches.len() * each;
                inner.bytes += entry.bytes;
                inner.entries.push_back(entry);
            }
        }
        rows.into_iter().for_each(|row| inner.saw(row));
        inner.applied = items.last().map(|item| item.at).or(inner.applied);
        inner.shrink_to(self.limit_bytes);
    }

    /// The state was replaced as a whole, and the new one can be read. `term` is that of its last
    /// entry, and the entry that it began with.
    pub fn reset(&self, term: Option<(LogIndex, Term)>) {
        let mut inner = self.write();
        (inner.applied, inner.term) = (None, term);
        inner.names.clear();
        inner.entries.clear();
        inner.bytes = 0;
        for log in inner.logs.values_mut() {
            log.row = None;
            log.batches.clear();
            if let Some(head) = &log.head {
                head.send_modify(|head| head.changes += 1);
            }
        }
        inner.logs.retain(|_, log| log.head.is_some());
    }

    /// The log of a name as of the last entry heard of. `None` says nothing: look at a view.
    #[must_use]
    pub fn glimpse(&self, name: &LogName) -> Option<Glimpse> {
        let inner = self.read();
        let log = inner.logs.get(inner.names.get(name)?)?.row.clone()?;
        Some(Glimpse { applied: inner.applied?, log, term: inner.term })
    }

    /// The batches that hold the offsets from `from` on, up to `to` (exclusive), as many as fit into
    /// `max_bytes` but at least one; fewer where the rest is not here. `None`: `from` is not here.
    #[must_use]
    pub fn batches(
        &self,
        incarnation: Incarnation,
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Option<Vec<StoredBatch>> {
        let inner = self.read();
        let kept = &inner.logs.get(&incarnation)?.batches;
        if kept.front()?.first_offset > from {
            return None;
        }
        let first = position(kept, from);
        let mut bytes = 0;
        let found: Vec<StoredBatch> = kept
            .range(first..)
            .take_while(|batch| {
                let fits = bytes == 0 || bytes + batch.bytes.len() <= max_bytes;
                bytes += batch.bytes.len();
                fits && batch.first_offset < to
            })
            .cloned()
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// Follows a log from now on. What was applied before may be missing in the head: look at a
    /// view once after this.
    #[must_use]
    pub fn follow(&self, incarnation: Incarnation) -> Following {
        let mut inner = self.write();
        let log = inner.logs.entry(incarnation).or_default();
        let head = log.head.get_or_insert_with(|| watch::Sender::new(Head::default()));
        let mut head = head.subscribe();
        head.mark_unchanged();
        log.followers += 1;
        Following { incarnation, head, recent: self.clone() }
    }

    /// Bytes kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.read().bytes
    }
}

/// Where the batch with the offset `from`, or the first behind it, is. No batch is empty, so it is
/// at most as many batches from the front as offsets: exactly there where each holds one record,
/// which spares a search through memory that no cache holds.
fn position(kept: &VecDeque<StoredBatch>, from: Offset) -> usize {
    let front = kept.front().map_or(from, |batch| batch.first_offset);
    let most = usize::try_from(from.0.saturating_sub(front.0)).unwrap_or(usize::MAX);
    match kept.get(most) {
        Some(batch) if batch.first_offset == from => most,
        _ => kept.partition_point(|batch| batch.next_offset() <= from),
    }
}

impl Inner {
    fn appended(&mut self, incarnation: Incarnation, batch: StoredBatch, at: LogPoint, keep: bool) {
        let log = match keep {
            true => self.logs.entry(incarnation).or_default(),
            // Nothing is kept, but who follows must hear of it.
            false => match self.logs.get_mut(&incarnation) {
                Some(log) => log,
                None => return,
            },
        };
        let next = batch.next_offset();
        if keep {
            // A hole means that what is older came before a state that was replaced.
            if log.batches.back().is_some_and(|last| last.next_offset() != batch.first_offset) {
                log.batches.clear();
            }
            log.batches.push_back(batch);
        }
        if let Some(head) = &log.head {
            head.send_modify(|head| (head.next, head.at) = (next, at));
        }
    }

    /// What the writes left of what is kept. To be called after the entries: only logs that are
    /// here keep their rows.
    fn saw(&mut self, row: Seen) {
        match row {
            Seen::Log(row) => {
                let Some(log) = self.logs.get_mut(&row.incarnation) else { return };
                if self.names.get(&row.name) != Some(&row.incarnation) {
                    self.names.insert(row.name.clone(), row.incarnation);
                }
                log.row = Some(row);
            }
            Seen::Gone(_) if planted::is("delete_forgets_recent") => {}
            Seen::Gone(name) => {
                self.names.remove(&name);
            }
            Seen::Term(first, term) => self.term = Some((first, term)),
            Seen::Batch(..) => unreachable!("batches come with their entries"),
        }
    }

    fn changed(&mut self, incarnation: Incarnation) {
        if let Some(head) = self.logs.get(&incarnation).and_then(|log| log.head.as_ref()) {
            head.send_modify(|head| head.changes += 1);
        }
    }

    fn forget(&mut self, incarnation: Incarnation) {
        if let Some(log) = self.logs.get_mut(&incarnation) {
            log.batches.clear();
            if let Some(row) = log.row.take() {
                self.names.remove(&row.name);
            }
        }
        self.drop_if_unused(incarnation);
    }

    /// A log that nobody follows and that has no batch here goes, and its row with it.
    fn drop_if_unused(&mut self, incarnation: Incarnation) {
        let unused = |log: &Log| log.batches.is_empty() && log.head.is_none();
        if self.logs.get(&incarnation).is_some_and(unused)
            && let Some(Log { row: Some(row), .. }) = self.logs.remove(&incarnation)
        {
            self.names.remove(&row.name);
        }
    }

    fn shrink_to(&mut self, limit_bytes: usize) {
        while self.bytes > limit_bytes
            && let Some(entry) = self.entries.pop_front()
        {
            self.bytes -= entry.bytes;
            for (incarnation, first_offset) in entry.batches {
                let Some(log) = self.logs.get_mut(&incarnation) else { continue };
                // It may be gone already, with its log's deletion.
                if log.batches.front().is_some_and(|batch| batch.first_offset == first_offset) {
                    log.batches.pop_front();
                }
                self.drop_if_unused(incarnation);
            }
        }
    }
}

impl Following {
    /// The log.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Where the log stands, as far as was heard. What comes later ends the next
    /// [`Self::moved`].
    pub fn head(&mut self) -> Head {
        *self.head.borrow_and_update()
    }

    /// Resolves when the log has moved since the last [`Self::head`].
    pub async fn moved(&mut self) {
        // The sender stays as long as somebody follows.
        let moved = self.head.changed().await;
        assert!(moved.is_ok(), "a followed log has a head");
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut inner = self.recent.write();
        let Some(log) = inner.logs.get_mut(&self.incarnation) else { return };
        log.followers -= 1;
        if log.followers == 0 {
            log.head = None;
            inner.drop_if_unused(self.incarnation);
        }
    }
}

#[cfg(test)]
#[path = "recent_tests.rs"]
mod tests;
