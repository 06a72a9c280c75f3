//! What a group's log amounts to, besides its entries; and how frames change it. The sync thread
//! and recovery both go through here, so that what is written and what is read back agree.

use super::frame::{Frame, Kind};

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRecord {
    /// Term.
    pub term: u64,
    /// For whom.
    pub node: u64,
    /// Granted by a quorum.
    pub committed: bool,
}

/// (term, index).
pub type Point = (u64, u64);

/// A group's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last vote saved.
    pub vote: Option<VoteRecord>,
    /// The last entry that was purged.
    pub purged: Option<Point>,
    /// The last entry; the last purged one if there is none behind it.
    pub last: Option<Point>,
    /// The last commit point saved.
    pub committed: Option<Point>,
}

/// What an entry's frame is, seen from the state before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryIs {
    /// The next one.
    Next,
    /// A copy of one that is there, from an old segment.
    Copy,
}

impl GroupState {
    /// The first index that an entry may have.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.purged.map_or(0, |(_, index)| index + 1)
    }

    /// The index of the next entry; `None` while the log is empty and was never used (the first
    /// entry may have any index then).
    #[must_use]
    pub fn next_index(&self) -> Option<u64> {
        self.last.map(|(_, index)| index + 1)
    }

    /// What an entry with this index is.
    ///
    /// # Errors
    /// It leaves a gap.
    pub fn classify(&self, index: u64) -> Result<EntryIs, &'static str> {
        match self.next_index() {
            None => Ok(EntryIs::Next),
            Some(next) if index == next => Ok(EntryIs::Next),
            Some(next) if index < next => Ok(EntryIs::Copy),
            Some(_) => Err("an entry leaves a gap behind the one before"),
        }
    }

    /// After a crash. A commit point may have reached the disk before entries up to it, as others
    /// committed them: what is there of them is committed, and no more is claimed.
    pub fn trust_committed_up_to_last(&mut self) {
        let last = self.last;
        self.committed = self.committed.zip(last).map(|(c, l)| if c.1 > l.1 { l } else { c });
    }

    /// Follows a frame.
    pub fn follow(&mut self, frame: &Frame) {
        match frame.kind {
            Kind::Entry => {
                if self.next_index().is_none_or(|next| next == frame.index) {
                    self.last = Some((frame.term, frame.index));
                }
            }
            Kind::Vote => {
                self.vote = Some(VoteRecord {
                    term: frame.term,
                    node: frame.index,
                    committed: frame.entry_kind != 0,
                });
            }
            Kind::Truncate => {
                self.last = frame.index.checked_sub(1).map(|kept| (frame.term, kept));
            }
            Kind::Purge => {
                let point = (frame.term, frame.index);
                self.purged = Some(point);
                if self.last.is_none_or(|(_, last)| last <= frame.index) {
                    self.last = Some(point);
                }
            }
            Kind::Committed => self.committed = Some((frame.term, frame.index)),
        }
    }
}
