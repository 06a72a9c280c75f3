//! Batches as they come back: checked, then taken apart lazily.

use std::ops::Range;

use bytes::Bytes;
use quorate_proto::v1 as wire;

use crate::{
    batch::{Record, Records},
    errors::{Error, Result},
    position::ProducerId,
};

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its number in the log.
    pub offset: u64,
    /// The leader's time when its batch was appended, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// What was appended. Value and key are slices of the batch, which stays in memory as long as
    /// one of them does.
    pub record: Record,
}

/// A stored batch, or the part of it that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBatch {
    first_offset: u64,
    count: u32,
    visible: Range<u64>,
    timestamp_ms: u64,
    bytes: Bytes,
    crc32c: u32,
    writer_epoch: Option<u64>,
    producer: Option<(ProducerId, u64)>,
}

impl ReadBatch {
    pub(crate) fn from_wire(batch: wire::StoredBatch, verify: bool) -> Result<Self> {
        let first = batch.first_offset;
        if verify && crc32c::crc32c(&batch.batch) != batch.batch_crc32c {
            return Err(Error::corrupt(format!(
                "the batch at offset {first} arrived damaged: its checksum does not match"
            )));
        }
        let Some(end) = first.checked_add(batch.count.into()) else {
            return Err(Error::corrupt(format!("a batch at offset {first} beyond all offsets")));
        };
        let visible_to = if batch.visible_to == 0 { end } else { batch.visible_to.min(end) };
        Ok(Self {
            first_offset: first,
            count: batch.count,
            visible: batch.visible_from.max(first)..visible_to,
            timestamp_ms: batch.timestamp_ms,
            bytes: batch.batch,
            crc32c: batch.batch_crc32c,
            writer_epoch: batch.writer_epoch,
            producer: batch
                .producer
                .and_then(|p| Some((ProducerId(p.id.as_ref().try_into().ok()?), p.sequence))),
        })
    }

    /// Hides what lies before `offset`.
    pub(crate) fn hide_before(&mut self, offset: u64) {
        self.visible.start = self.visible.start.max(offset);
    }

    /// Hides what lies at `offset` and behind.
    pub(crate) fn hide_from(&mut self, offset: u64) {
        self.visible.end = self.visible.end.min(offset);
    }

    /// Offsets of the records that [`Self::records`] yields.
    #[must_use]
    pub fn offsets(&self) -> Range<u64> {
        self.visible.clone()
    }

    /// Offset of the first record of the whole batch, which may lie before what was asked for.
    #[must_use]
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// Records of the whole batch.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The leader's time when it was appended, milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// The whole serialized batch, as it was appended.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// CRC32C of [`Self::bytes`], as the writer computed it.
    #[must_use]
    pub fn crc32c(&self) -> u32 {
        self.crc32c
    }

    /// The writer epoch it was appended under.
    #[must_use]
    pub fn writer_epoch(&self) -> Option<u64> {
        self.writer_epoch
    }

    /// Who appended it, and as which of his batches.
    #[must_use]
    pub fn producer(&self) -> Option<(ProducerId, u64)> {
        self.producer
    }

    /// The records that were asked for, decoded one by one as they are taken.
    #[must_use]
    pub fn records(&self) -> ReadRecords {
        ReadRecords {
            records: Records::of(self.bytes.clone()),
            next: self.first_offset,
            end: self.first_offset + u64::from(self.count),
            visible: self.visible.clone(),
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// See [`ReadBatch::records`]. Yields an error, and then nothing more, when the batch does not
/// hold what it should.
#[derive(Clone, Debug)]
pub struct ReadRecords {
    records: Records,
    next: u64,
    end: u64,
    visible: Range<u64>,
    timestamp_ms: u64,
}

impl ReadRecords {
    fn fail(&mut self, error: Error) -> Option<Result<ReadRecord>> {
        self.visible.end = 0;
        Some(Err(error))
    }
}

impl Iterator for ReadRecords {
    type Item = Result<ReadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.visible.start.min(self.visible.end) {
            match self.records.skip_one() {
                Some(Ok(())) => self.next += 1,
                Some(Err(error)) => return self.fail(error),
                None => break,
            }
        }
        if self.next >= self.visible.end {
            return None;
        }
        match self.records.next() {
            Some(Ok(record)) => {
                let offset = self.next;
                self.next += 1;
                Some(Ok(ReadRecord { offset, timestamp_ms: self.timestamp_ms, record }))
            }
            Some(Err(error)) => self.fail(error),
            None => {
                let message = format!(
                    "a batch ends at offset {} although it should go to {}",
                    self.next, self.end
                );
                self.fail(Error::corrupt(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, ErrorKind};

    fn stored(values: &[&'static str], first: u64, from: u64, to: u64) -> wire::StoredBatch {
        let batch = Batch::of(values.iter().copied()).unwrap();
        wire::StoredBatch {
            first_offset: first,
            count: batch.record_count(),
            visible_from: from,
            visible_to: to,
            batch: batch.bytes().clone(),
            batch_crc32c: batch.crc32c(),
            ..Default::default()
        }
    }

    fn seen(batch: wire::StoredBatch) -> Vec<(u64, String)> {
        let batch = ReadBatch::from_wire(batch, true).unwrap();
        let read = batch.records().map(|r| r.unwrap());
        read.map(|r| (r.offset, String::from_utf8(r.record.value.to_vec()).unwrap())).collect()
    }

    #[test]
    fn only_what_was_asked_for() {
        let abc = ["a", "b", "c"];
        // visible_from, visible_to => offsets
        let table: [(u64, u64, &[(u64, &str)]); 7] = [
            (10, 0, &[(10, "a"), (11, "b"), (12, "c")]),
            (0, 0, &[(10, "a"), (11, "b"), (12, "c")]),
            (11, 0, &[(11, "b"), (12, "c")]),
            (10, 12, &[(10, "a"), (11, "b")]),
            (11, 12, &[(11, "b")]),
            (12, 12, &[]),
            (11, 99, &[(11, "b"), (12, "c")]),
        ];
        for (from, to, expected) in table {
            let seen = seen(stored(&abc, 10, from, to));
            let seen: Vec<_> = seen.iter().map(|(o, v)| (*o, v.as_str())).collect();
            assert_eq!(seen, expected, "{from}..{to}");
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut bad = stored(&["abc"], 0, 0, 0);
        bad.batch_crc32c ^= 1;
        let error = ReadBatch::from_wire(bad.clone(), true).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Corrupt, true));
        assert!(ReadBatch::from_wire(bad, false).is_ok(), "unless nobody asks");

        let mut short = stored(&["a", "b"], 5, 0, 0);
        short.count = 3;
        let records: Vec<_> = ReadBatch::from_wire(short, true).unwrap().records().collect();
        assert_eq!(records.len(), 3);
        assert_eq!(records[2].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);

        let beyond = wire::StoredBatch { first_offset: u64::MAX, ..stored(&["a"], 0, 0, 0) };
        assert_eq!(ReadBatch::from_wire(beyond, true).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
