//! Giving segments back: those that nobody needs, and those that hardly anybody needs.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use super::{
    frame::{BATCH_HEADER, BLOCK, frame_len},
    read::{self, Wanted},
    segment::Segment,
    writer::{Piece, Writer},
};

/// Segments held before the little that is needed of the oldest is copied out of it.
const HELD_BEFORE_COPYING: usize = 4;

impl Writer {
    /// Gives back what nobody needs, and moves what little keeps the oldest segments.
    pub fn tidy(&mut self) -> io::Result<()> {
        self.free_segments();
        let mut budget = self.options.segment_bytes / 8;
        while self.segments.len() > HELD_BEFORE_COPYING {
            let Some(copied) = self.copy_forward(budget)? else { break };
            budget = budget.saturating_sub(copied);
        }
        Ok(())
    }

    /// Gives back the oldest segments in which every group has purged everything.
    pub fn free_segments(&mut self) {
        while self.segments.len() > 1 {
            let oldest = &self.segments[0];
            let needed = oldest.highest().iter().any(|(group, index)| {
                let purged = self.states.get(group).and_then(|state| state.purged);
                purged.is_none_or(|(_, purged)| purged < *index)
            });
            if needed {
                break;
            }
            let oldest = self.segments.pop_front().expect("looked at right above");
            self.preparer.recycle(oldest);
        }
        let files = self.segments.len() + self.preparer.ready();
        self.shared.segments.store(self.segments.len() as u64, Ordering::Relaxed);
        let bytes = files as u64 * self.options.segment_bytes;
        self.shared.disk_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Copies what is still needed of the oldest segment, if that is little, and gives the segment
    /// back. A group that appends nothing would hold it, and with it all younger ones, for ever;
    /// and each start begins a segment that few entries may ever come into. `None` if it stays: what
    /// is in it is worth a segment, or does not fit behind what is in the current one.
    fn copy_forward(&mut self, budget: u64) -> io::Result<Option<u64>> {
        let oldest = self.segments[0].clone();
        let room = self.options.segment_bytes - self.at;
        let limit =
            (self.options.segment_bytes / 16).min(budget).min(room.saturating_sub(BLOCK as u64));
        let Some(pieces) = self.needed_of(&oldest, limit)? else { return Ok(None) };
        let copied = pieces.iter().map(|piece| frame_len(piece.payload.len()) as u64).sum();
        if !pieces.is_empty() {
            self.write_batch(&pieces)?;
        }
        // Everything that is needed is elsewhere now.
        oldest.highest().clear();
        drop(oldest);
        self.free_segments();
        Ok(Some(copied))
    }

    /// The entries in `segment` that are not purged or truncated; `None` if they are more than
    /// `limit` bytes, or if a purge or truncation of them is still on its way to the disk: until it
    /// is there, a start needs what it removes.
    fn needed_of(&self, segment: &Arc<Segment>, limit: u64) -> io::Result<Option<Vec<Piece>>> {
        let mut pieces = Vec::new();
        let mut bytes = BATCH_HEADER as u64;
        for (number, highest) in segment.highest().clone() {
            let group = self.shared.group(number);
            let mut wanted = Vec::new();
            let mut serials = Vec::new();
            {
                let table = group.table();
                let written = self.states.get(&number).copied().unwrap_or_default();
                if !table.is_settled(&written) {
                    return Ok(None);
                }
                for (index, slot) in table.slots_in(segment, highest) {
                    bytes += slot.frame_bytes() as u64;
                    if bytes > limit {
                        return Ok(None);
                    }
                    wanted.push(Wanted::new(index, slot, table.payload(index)));
                    serials.push(slot.serial);
                }
            }
            for (entry, serial) in read::entries(number, wanted)?.into_iter().zip(serials) {
                pieces.push(Piece::entry(&group, entry, serial));
            }
        }
        Ok(Some(pieces))
    }
}
