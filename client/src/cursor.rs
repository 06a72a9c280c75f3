//! Where a reader stands: keeps what it hands out dense, whatever the streams repeat. Pure.

use std::collections::VecDeque;

use quorate_proto::v1::{self as wire, read_from::From};

use crate::{
    errors::{Error, Result},
    stored::ReadBatch,
};

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    /// The first readable record (reads), the end (tails).
    #[default]
    Default,
    Offset(u64),
    TimestampMs(u64),
    Last(u64),
}

impl Start {
    pub(crate) fn to_wire(self) -> Option<wire::ReadFrom> {
        let from = match self {
            Self::Default => return None,
            Self::Offset(offset) => From::Offset(offset),
            Self::TimestampMs(at) => From::TimestampMs(at),
            Self::Last(n) => From::Last(n),
        };
        Some(wire::ReadFrom { from: Some(from) })
    }

    /// The offset this means for the state that `header` describes; `None` when only the first
    /// batch can tell.
    pub(crate) fn resolve(self, header: &wire::ReadHeader, default: u64) -> Option<u64> {
        match self {
            Self::Default => Some(default),
            Self::Offset(offset) => Some(offset),
            Self::Last(n) => Some(header.next_offset.saturating_sub(n).max(header.start_offset)),
            Self::TimestampMs(_) => None,
        }
    }
}

/// Batches received and not handed out, and the offset that comes next.
#[derive(Debug)]
pub(crate) struct Cursor {
    next: Option<u64>,
    received: VecDeque<wire::StoredBatch>,
    verify: bool,
}

impl Cursor {
    pub(crate) fn new(next: Option<u64>, verify: bool) -> Self {
        Self { next, received: VecDeque::new(), verify }
    }

    /// The next offset; `None` until the first batch when it began at a timestamp.
    pub(crate) fn next_offset(&self) -> Option<u64> {
        self.next
    }

    pub(crate) fn push(&mut self, batches: Vec<wire::StoredBatch>) {
        self.received.extend(batches);
    }

    /// The next batch, without what was handed out before. An error means that this stream can't
    /// be trusted; what it sent is thrown away.
    pub(crate) fn pop(&mut self) -> Result<Option<ReadBatch>> {
        let popped = self.try_pop();
        if popped.is_err() {
            self.received.clear();
        }
        popped
    }

    fn try_pop(&mut self) -> Result<Option<ReadBatch>> {
        while let Some(batch) = self.received.pop_front() {
            let mut batch = ReadBatch::from_wire(batch, self.verify)?;
            let offsets = batch.offsets();
            let next = self.next.unwrap_or(offsets.start);
            if offsets.end <= next {
                // Said twice.
                continue;
            }
            if offsets.start > next {
                return Err(Error::corrupt(format!(
                    "the records from offset {next} to {} are missing in the answer",
                    offsets.start
                )));
            }
            batch.hide_before(next);
            self.next = Some(offsets.end);
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    fn stored(offsets: std::ops::Range<u64>) -> wire::StoredBatch {
        let batch = Batch::of(offsets.clone().map(|n| n.to_string())).unwrap();
        wire::StoredBatch {
            first_offset: offsets.start,
            count: batch.record_count(),
            visible_from: offsets.start,
            batch: batch.bytes().clone(),
            batch_crc32c: batch.crc32c(),
            ..Default::default()
        }
    }

    fn drain(cursor: &mut Cursor) -> Result<Vec<std::ops::Range<u64>>> {
        std::iter::from_fn(|| cursor.pop().transpose()).map(|b| Ok(b?.offsets())).collect()
    }

    #[test]
    fn repetitions_are_cut_off() {
        let mut cursor = Cursor::new(Some(4), true);
        cursor.push(vec![stored(0..2), stored(2..6), stored(2..6), stored(6..7), stored(5..9)]);
        assert_eq!(drain(&mut cursor).unwrap(), [4..6, 6..7, 7..9]);
        assert_eq!(cursor.next_offset(), Some(9));
    }

    #[test]
    fn holes_are_errors_and_nothing_behind_them_is_handed_out() {
        let mut cursor = Cursor::new(Some(0), true);
        cursor.push(vec![stored(0..2), stored(3..4), stored(2..3)]);
        assert_eq!(cursor.pop().unwrap().unwrap().offsets(), 0..2);
        assert!(cursor.pop().is_err());
        assert_eq!(cursor.pop().unwrap(), None);
        assert_eq!(cursor.next_offset(), Some(2));
    }

    #[test]
    fn a_timestamp_is_resolved_by_the_first_batch() {
        let mut cursor = Cursor::new(None, true);
        cursor.push(vec![stored(7..9)]);
        assert_eq!(drain(&mut cursor).unwrap(), vec![7..9]);
        assert_eq!(cursor.next_offset(), Some(9));
    }

    #[test]
    fn starts() {
        let header = wire::ReadHeader { start_offset: 10, next_offset: 20, ..Default::default() };
        let table = [
            (Start::Default, Some(99)),
            (Start::Offset(12), Some(12)),
            (Start::Last(3), Some(17)),
            (Start::Last(30), Some(10)),
            (Start::TimestampMs(5), None),
        ];
        for (start, expected) in table {
            assert_eq!(start.resolve(&header, 99), expected, "{start:?}");
        }
    }
}
