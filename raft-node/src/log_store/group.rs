//! One group's log as its users see it: the table of entries, the cache, and the calls.
//!
//! The table is ahead of the disk: it changes when a call is made, and the sync thread fills in
//! where each entry went. A slot is recognised by its serial number, because an index may be used
//! again after a truncation while the old entry is still on its way to the disk.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    frame::{FRAME_HEADER, Kind, parse_frame},
    segment::Segment,
    shared::{Op, Shared},
    state::{GroupState, Point, VoteRecord},
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

/// Where an entry is on the disk.
#[derive(Clone)]
pub(super) struct Place {
    pub segment: Arc<Segment>,
    /// Of its frame.
    pub at: u64,
    /// Position in the log as a whole, bytes: for distances.
    pub position: u64,
}

pub(super) struct Slot {
    pub term: u64,
    pub kind: u8,
    pub length: u32,
    pub serial: u64,
    /// `None` until it is written.
    pub place: Option<Place>,
    /// `None` once the cache has dropped it; always there while `place` is not.
    pub payload: Option<Bytes>,
}

/// The table.
#[derive(Default)]
pub(super) struct Table {
    pub state: GroupState,
    /// Index of the first slot.
    pub first: u64,
    pub slots: VecDeque<Slot>,
    pub next_serial: u64,
    /// A commit point that is not in any frame yet.
    pub unsaved_committed: bool,
}

impl Table {
    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Drops slots behind `keep_upto` and answers with the payload bytes that were cached in them.
    pub fn cut_after(&mut self, next: u64) -> u64 {
        let keep = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let keep = keep.min(self.slots.len());
        self.slots.drain(keep..).filter_map(|s| s.payload).map(|p| p.len() as u64).sum()
    }

    pub fn cut_upto(&mut self, upto: u64) -> u64 {
        let gone = usize::try_from((upto + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let gone = gone.min(self.slots.len());
        let freed =
            self.slots.drain(..gone).filter_map(|s| s.payload).map(|p| p.len() as u64).sum();
        self.first = self.first.max(upto + 1);
        freed
    }
}

pub(super) struct Group {
    pub number: u32,
    table: Mutex<Table>,
}

impl Group {
    pub fn new(number: u32, table: Table) -> Self {
        Self { number, table: Mutex::new(table) }
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

    /// Adds entries, readable on return. `done` is called once, from the sync thread and in the
    /// order of the calls: when they are durable, or with the error.
    ///
    /// # Panics
    /// If the entries don't follow each other and what is there: Raft truncates first.
    pub fn append(&self, entries: Vec<RawEntry>, done: Done) {
        let mut ops = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        {
            let mut table = self.group.table();
            for entry in &entries {
                let next = table.state.next_index();
                assert!(
                    next.is_none_or(|next| next == entry.index),
                    "entry {} does not follow the log, which goes on at {next:?}",
                    entry.index
                );
                if table.slots.is_empty() {
                    table.first = entry.index;
                }
                let serial = table.next_serial;
                table.next_serial += 1;
                table.slots.push_back(Slot {
                    term: entry.term,
                    kind: entry.kind,
                    length: u32::try_from(entry.payload.len()).expect("entries are below 4 GiB"),
                    serial,
                    place: None,
                    payload: Some(entry.payload.clone()),
                });
                table.state.last = Some((entry.term, entry.index));
                bytes += entry.payload.len() as u64;
                ops.push(serial);
            }
            // Under the table's lock: the queue's order is the table's order.
            self.shared.push(Op::Append { group: self.group.clone(), entries, serials: ops, done });
        }
        self.shared.cached.fetch_add(bytes, Ordering::Relaxed);
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
            self.shared.push(Op::Vote { group: self.group.clone(), vote, reply });
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
            let back = table.slots.back().map(|s| s.term);
            let last = table.first + table.slots.len() as u64;
            table.state.last = match back {
                Some(term) => Some((term, last - 1)),
                None => table.state.purged,
            };
            let last = table.state.last;
            self.shared.push(Op::Truncate { group: self.group.clone(), last, reply });
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
            self.shared.cached.fetch_sub(freed, Ordering::Relaxed);
            table.state.purged = Some((term, index));
            if table.state.last.is_none_or(|(_, last)| last <= index) {
                table.state.last = Some((term, index));
            }
            self.shared.push(Op::Purge { group: self.group.clone(), term, index, reply });
        }
        answer.await.map_err(|_| gone())?
    }

    /// The entries from `from` to `to` (exclusive) that are there, as many as fit into `max_bytes`
    /// of payload, but at least one if there is any.
    ///
    /// # Errors
    /// The disk's, or damage; never a wrong entry.
    pub fn read(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<RawEntry>> {
        enum Found {
            Here(RawEntry),
            There(u64, u64, u8, u32, Place),
        }
        let mut found = Vec::new();
        {
            let table = self.group.table();
            let end = to.min(table.first + table.slots.len() as u64);
            let mut bytes = 0;
            for index in from.max(table.first)..end {
                let slot = table.slot(index).expect("within the table");
                bytes += u64::from(slot.length);
                if !found.is_empty() && bytes > max_bytes {
                    break;
                }
                found.push(match (&slot.payload, &slot.place) {
                    (Some(payload), _) => Found::Here(RawEntry {
                        term: slot.term,
                        index,
                        kind: slot.kind,
                        payload: payload.clone(),
                    }),
                    (None, Some(place)) => {
                        Found::There(slot.term, index, slot.kind, slot.length, place.clone())
                    }
                    (None, None) => unreachable!("the cache keeps what is not written yet"),
                });
            }
        }
        // The disk is read outside of the lock. The segment can't be used again meanwhile: it is
        // held by the place.
        found
            .into_iter()
            .map(|found| match found {
                Found::Here(entry) => Ok(entry),
                Found::There(term, index, kind, length, place) => {
                    let payload = read_entry(self.group.number, term, index, length, &place)?;
                    Ok(RawEntry { term, index, kind, payload })
                }
            })
            .collect()
    }

    /// Bytes of log between two entries: what was written to the disk from behind `after` up to
    /// `upto`, other groups' frames and padding included.
    #[must_use]
    pub fn bytes_between(&self, after: u64, upto: u64) -> u64 {
        let table = self.group.table();
        let end = self.shared.end.load(Ordering::Relaxed);
        let position = |index: u64| {
            table.slot(index).and_then(|s| s.place.as_ref()).map_or(end, |p| p.position)
        };
        if upto <= after || upto < table.first || table.slots.is_empty() {
            return 0;
        }
        position(upto).saturating_sub(position((after + 1).max(table.first)))
    }

    /// The highest index such that everything up to it may go and about `bytes` of log are still
    /// there behind it; 0 if nothing may go.
    #[must_use]
    pub fn index_keeping(&self, bytes: u64) -> u64 {
        let table = self.group.table();
        let limit = self.shared.end.load(Ordering::Relaxed).saturating_sub(bytes);
        // Positions rise with the index, but for a few entries that were copied out of an old
        // segment; those only make the answer a little lower.
        let below = table.slots.partition_point(|slot| {
            slot.place.as_ref().is_some_and(|place| place.position < limit)
        });
        (table.first + below as u64).saturating_sub(1)
    }
}

/// Reads an entry back from its segment, and checks that it is the one.
pub(super) fn read_entry(
    group: u32,
    term: u64,
    index: u64,
    length: u32,
    place: &Place,
) -> io::Result<Bytes> {
    let bytes = place.segment.read(place.at, FRAME_HEADER + length as usize)?;
    let damaged = |why: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "entry {index} of group {group} can't be read back from {} at byte {}: {why}",
                place.segment.path.display(),
                place.at
            ),
        )
    };
    let (frame, _, _) = parse_frame(&bytes).map_err(damaged)?;
    let is_it =
        frame.kind == Kind::Entry && (frame.group, frame.term, frame.index) == (group, term, index);
    if !is_it {
        return Err(damaged("another frame is there"));
    }
    Ok(Bytes::from(bytes).slice(FRAME_HEADER..))
}
