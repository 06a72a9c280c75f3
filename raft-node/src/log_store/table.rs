//! One group's entries: where each is on the disk, and the payloads of the newest in memory. Pure.
//!
//! The table is ahead of the disk: it changes when a call is made, and the sync thread fills in
//! where each entry went. A slot is recognised by its serial number, because an index may be used
//! again after a truncation while the old entry is still on its way to the disk.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{frame::frame_len, segment::Segment, state::GroupState};

/// Where an entry is, and what it is; kept for each entry of the log, so it is small.
pub(super) struct Slot {
    pub term: u64,
    /// `None` until it is written.
    pub segment: Option<Arc<Segment>>,
    /// Of its frame in the segment.
    pub at: u32,
    /// Of the payload.
    pub length: u32,
    /// Wraps: it only has to differ from what is queued under the same index.
    pub serial: u32,
    pub kind: u8,
}

const _: () = assert!(size_of::<Slot>() <= 32, "a slot is kept for each entry of the log");

impl Slot {
    /// Bytes of its frame.
    pub fn frame_bytes(&self) -> usize {
        frame_len(self.length as usize)
    }

    /// Position in the log as a whole, bytes: for distances.
    fn position(&self) -> Option<u64> {
        self.segment.as_ref().map(|segment| segment.start + u64::from(self.at))
    }
}

/// See the module. The slots without a place are the last ones, and all of those are cached.
#[derive(Default)]
pub(super) struct Table {
    pub state: GroupState,
    /// Index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    /// Payloads of the last slots: the newest are what followers ask for.
    cached: VecDeque<Bytes>,
    next_serial: u32,
    /// A commit point that is not in any frame yet.
    pub unsaved_committed: bool,
}

fn offset(index: u64, first: u64) -> Option<usize> {
    usize::try_from(index.checked_sub(first)?).ok()
}

fn bytes_of(payloads: impl Iterator<Item = Bytes>) -> u64 {
    payloads.map(|payload| payload.len() as u64).sum()
}

impl Table {
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One more than the last index with a slot.
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(offset(index, self.first)?)
    }

    pub fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.get_mut(offset(index, self.first)?)
    }

    fn first_cached(&self) -> u64 {
        self.end() - self.cached.len() as u64
    }

    /// The payload, if it is in memory.
    pub fn payload(&self, index: u64) -> Option<&Bytes> {
        self.cached.get(offset(index, self.first_cached())?)
    }

    /// Adds the next slot and answers with its serial. The caller has checked the index.
    pub fn push(&mut self, index: u64, term: u64, kind: u8, length: u32) -> u32 {
        if self.slots.is_empty() {
            self.first = index;
        }
        assert_eq!(index, self.end(), "a group's entries follow each other");
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        self.slots.push_back(Slot { term, segment: None, at: 0, length, serial, kind });
        serial
    }

    /// Adds the next slot with its payload.
    pub fn push_cached(&mut self, index: u64, term: u64, kind: u8, payload: Bytes) -> u32 {
        let length = u32::try_from(payload.len()).expect("entries are bounded far below 4 GiB");
        let serial = self.push(index, term, kind, length);
        self.cached.push_back(payload);
        serial
    }

    /// Drops everything from `next` on; answers with the payload bytes that were cached in it.
    pub fn cut_after(&mut self, next: u64) -> u64 {
        let first_cached = self.first_cached();
        let keep = |from: u64, len: usize| offset(next, from).unwrap_or(0).min(len);
        self.slots.truncate(keep(self.first, self.slots.len()));
        bytes_of(self.cached.drain(keep(first_cached, self.cached.len())..))
    }

    /// Drops everything up to and including `upto`; answers like [`Self::cut_after`].
    pub fn cut_upto(&mut self, upto: u64) -> u64 {
        let first_cached = self.first_cached();
        let gone = |from: u64, len: usize| offset(upto + 1, from).unwrap_or(0).min(len);
        let freed = bytes_of(self.cached.drain(..gone(first_cached, self.cached.len())));
        self.slots.drain(..gone(self.first, self.slots.len()));
        self.first = self.first.max(upto + 1);
        freed
    }

    /// Drops payloads of written entries up to and including `upto` from memory; answers like
    /// [`Self::cut_after`].
    pub fn evict(&mut self, upto: u64) -> u64 {
        let first_cached = self.first_cached();
        let written = (first_cached..self.end().min(upto.saturating_add(1)))
            .take_while(|index| self.slot(*index).is_some_and(|slot| slot.segment.is_some()))
            .count();
        bytes_of(self.cached.drain(..written))
    }

    /// Position of the entry; `end` for one that is not written or not there yet.
    fn position(&self, index: u64, end: u64) -> u64 {
        self.slot(index).and_then(Slot::position).unwrap_or(end)
    }

    /// See `GroupLog::bytes_between`; `end` is the position behind everything written.
    pub fn bytes_between(&self, after: u64, upto: u64, end: u64) -> u64 {
        let from = after.saturating_add(1).max(self.first);
        if upto < from || from >= self.end() {
            return 0;
        }
        let last = self.position(upto, end);
        let frame = self.slot(upto).map_or(0, |slot| slot.frame_bytes() as u64);
        (last + frame).min(end).saturating_sub(self.position(from, end))
    }

    /// See `GroupLog::index_keeping`.
    pub fn index_keeping(&self, bytes: u64, end: u64) -> u64 {
        let limit = end.saturating_sub(bytes);
        // What goes ends where what stays begins. Positions rise with the index, but for a few
        // entries that were copied out of an old segment; those only lower the answer.
        let below = self.slots.partition_point(|slot| {
            slot.position().is_some_and(|p| p + slot.frame_bytes() as u64 <= limit)
        });
        if below == 0 { 0 } else { self.first + below as u64 - 1 }
    }

    /// Whether the table has every entry that a start would find, `written` being the state as of
    /// what is on the disk: no purge or truncation is on its way.
    pub fn is_settled(&self, written: &GroupState) -> bool {
        let kept = written.last.filter(|last| Some(*last) != written.purged);
        self.state.purged == written.purged
            && kept.is_none_or(|(_, index)| self.slot(index).is_some_and(|s| s.segment.is_some()))
    }

    /// Slots in `segment` with their indices; none is above `highest`.
    pub fn slots_in<'a>(
        &'a self,
        segment: &'a Arc<Segment>,
        highest: u64,
    ) -> impl Iterator<Item = (u64, &'a Slot)> {
        (self.first..)
            .zip(&self.slots)
            .take_while(move |(index, _)| *index <= highest)
            .filter(|(_, slot)| slot.segment.as_ref().is_some_and(|s| Arc::ptr_eq(s, segment)))
    }

    /// The first entry that has no place. After recovery there must be none.
    pub fn first_without_place(&self) -> Option<u64> {
        let n = self.slots.iter().position(|slot| slot.segment.is_none())?;
        Some(self.first + n as u64)
    }
}
