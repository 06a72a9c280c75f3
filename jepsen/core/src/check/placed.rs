//! The final log as an index: which record at which offset, and where a record is.

use std::collections::BTreeMap;

use crate::{
    history::History,
    ids::{Incarnation, Offset, RecordId},
    op::{Batch, ReplicaLog},
};

/// What a log holds after the run, as the replica with the longest copy serves it. That the others
/// serve the same is another check's business.
#[derive(Debug)]
pub struct FinalLog {
    /// Its name.
    pub name: String,
    /// Which of the logs of that name, if it is known.
    pub incarnation: Option<Incarnation>,
    /// First readable offset.
    pub start: Offset,
    /// One past the last record.
    pub next: Offset,
    /// Its batches, as read.
    pub batches: Vec<Batch>,
    /// Every intact record, sorted by (record, offset).
    by_record: Vec<Placed>,
}

/// A record and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// Which record.
    pub record: RecordId,
    /// At which offset.
    pub offset: Offset,
    /// In which batch, by place in [`FinalLog::batches`].
    pub batch: usize,
}

impl FinalLog {
    /// All logs that were read back, by name.
    #[must_use]
    pub fn of(history: &History) -> BTreeMap<String, Self> {
        let mut longest: BTreeMap<&str, &ReplicaLog> = BTreeMap::new();
        for replica in &history.replicas {
            let best = longest.entry(&replica.log).or_insert(replica);
            if replica.next_offset > best.next_offset {
                *best = replica;
            }
        }
        longest.into_iter().map(|(name, log)| (name.to_owned(), Self::new(log))).collect()
    }

    pub(super) fn new(replica: &ReplicaLog) -> Self {
        let mut by_record = Vec::new();
        for (number, batch) in replica.batches.iter().enumerate() {
            for (at, record) in batch.records.iter().enumerate() {
                if let Some(record) = *record {
                    let offset = batch.first_offset.plus(at);
                    by_record.push(Placed { record, offset, batch: number });
                }
            }
        }
        by_record.sort_unstable();
        Self {
            name: replica.log.clone(),
            incarnation: replica.incarnation,
            start: replica.start_offset,
            next: replica.next_offset,
            batches: replica.batches.clone(),
            by_record,
        }
    }

    /// The number of intact records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_record.len()
    }

    /// True when there is no intact record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_record.is_empty()
    }

    /// Every intact record, sorted by (record, offset).
    #[must_use]
    pub fn placed(&self) -> &[Placed] {
        &self.by_record
    }

    /// All places of a record.
    #[must_use]
    pub fn places_of(&self, record: RecordId) -> &[Placed] {
        let from = self.by_record.partition_point(|placed| placed.record < record);
        let rest = &self.by_record[from..];
        &rest[..rest.partition_point(|placed| placed.record == record)]
    }

    /// The first place of a record.
    #[must_use]
    pub fn offset_of(&self, record: RecordId) -> Option<Offset> {
        self.places_of(record).first().map(|placed| placed.offset)
    }

    /// The batch and the record at an offset.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<(&Batch, Option<RecordId>)> {
        let after = self.batches.partition_point(|batch| batch.first_offset <= offset);
        let batch = &self.batches[after.checked_sub(1)?];
        let inside = usize::try_from(offset.0 - batch.first_offset.0).ok()?;
        batch.records.get(inside).map(|record| (batch, *record))
    }
}
