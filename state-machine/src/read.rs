//! What readers ask of the state. Everything from disk is checked: what is damaged or missing is an
//! error, never a wrong or a shorter answer.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::{
    entry::PartHeader,
    keys::{self, BATCH, BatchKey},
    outcome::LogDescription,
    planted,
    types::{
        Digest, Incarnation, LogIndex, LogName, LogPoint, Offset, ProducerId, Sequence, Term,
        TimestampMs, WriterEpoch,
    },
    values::{DigestMark, GroupMeta, LogMeta},
    view::{View, ViewError, Write},
};

/// A batch as stored, with what apply decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Its records.
    pub count: u32,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// The serialized `RecordBatch`, as the producer encoded it.
    pub bytes: Bytes,
    /// CRC32C of `bytes`, verified.
    pub crc32c: u32,
    /// The epoch it was appended with.
    pub writer_epoch: Option<WriterEpoch>,
    /// The producer and sequence it was appended with.
    pub producer: Option<(ProducerId, Sequence)>,
}

impl StoredBatch {
    /// The batch that a write of apply's stores, and its log; `None` for all other writes. Reads
    /// and copies nothing: the bytes are those of the entry, whose checksum apply has verified.
    ///
    /// # Panics
    /// If the write is not one of apply's.
    pub(crate) fn of_write(write: &Write) -> Option<(Incarnation, Self)> {
        const OURS: &str = "apply writes batches in the form that it reads";
        let Write::Put(key, value) = write else { return None };
        if key.first() != Some(&BATCH) {
            return None;
        }
        let key = BatchKey::parse(key).expect(OURS);
        let (header, at) = PartHeader::parse(value).expect(OURS);
        let behind = key.last_offset.0.checked_add(1).expect(OURS);
        let batch = Self {
            first_offset: Offset(behind.checked_sub(u64::from(header.count)).expect(OURS)),
            count: header.count,
            timestamp: key.timestamp,
            bytes: value.slice(at..),
            crc32c: header.crc32c,
            writer_epoch: header.writer_epoch,
            producer: header.producer,
        };
        Some((key.incarnation, batch))
    }

    /// One past the offset of its last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.first_offset.0 + u64::from(self.count))
    }
}

/// What a stored batch's checksum is, and what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchChecksum {
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Its records.
    pub count: u32,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// Of the bytes that are stored.
    pub computed_crc32c: u32,
    /// As the producer stated it.
    pub stored_crc32c: u32,
}

/// Reads of one view.
#[derive(Clone, Debug)]
pub struct Reader<V> {
    view: V,
    group: GroupMeta,
}

impl<V: View> Reader<V> {
    /// Reads of `view`.
    ///
    /// # Errors
    /// [`ViewError`] if the group's row can't be read.
    pub fn new(view: V) -> Result<Self, ViewError> {
        let group = match view.get(&keys::group())? {
            Some(row) => GroupMeta::decode(&row).map_err(ViewError::damaged("the group's row"))?,
            None => GroupMeta::default(),
        };
        Ok(Self { view, group })
    }

    /// The last entry applied in this view; `None` before the first.
    #[must_use]
    pub fn applied(&self) -> Option<LogPoint> {
        self.group.applied
    }

    /// The group's rolling digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.group.digest
    }

    /// Logs that exist.
    #[must_use]
    pub fn log_count(&self) -> u64 {
        self.group.logs
    }

    /// The highest leader timestamp applied.
    #[must_use]
    pub fn log_time(&self) -> TimestampMs {
        self.group.log_time
    }

    /// The log of a name.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn log(&self, name: &LogName) -> Result<Option<LogDescription>, ViewError> {
        let Some(row) = self.view.get(&keys::log(name.as_str()))? else { return Ok(None) };
        let meta = LogMeta::decode(&row)
            .map_err(ViewError::damaged(&format!("the row of log {:?}", name.as_str())))?;
        Ok(Some(meta.describe(name.clone())))
    }

    /// True while the log with this incarnation is not deleted.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn exists(&self, incarnation: Incarnation) -> Result<bool, ViewError> {
        Ok(self.view.get(&keys::name(incarnation))?.is_some())
    }

    /// Up to `limit` logs whose names start with `prefix` and come after `after`, by name.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LogDescription>, ViewError> {
        let from = keys::log(prefix);
        let from = after.map_or(from.clone(), |after| from.max(keys::behind_log(after)));
        let mut logs = Vec::new();
        let mut damage = None;
        self.view.scan(&from, &keys::behind_logs(prefix), &mut |key, row| {
            if logs.len() == limit {
                return ControlFlow::Break(());
            }
            let parsed = keys::parse_log(key).and_then(|name| {
                let name = LogName::new(name)
                    .map_err(|_| crate::Malformed("the key of a log holds no log name"))?;
                Ok(LogMeta::decode(row)?.describe(name))
            });
            match parsed {
                Ok(log) => {
                    logs.push(log);
                    ControlFlow::Continue(())
                }
                Err(why) => {
                    damage = Some(ViewError::corrupt("the row of a log", why.0));
                    ControlFlow::Break(())
                }
            }
        })?;
        damage.map_or(Ok(logs), Err)
    }

    /// The batches that hold the offsets from `from` (inclusive) to `to` (exclusive), as many as
    /// fit into `max_bytes`, but at least one if there is any. The first and the last may reach
    /// beyond the range.
    ///
    /// # Errors
    /// [`ViewError`]; also when a batch between two others is missing, or one is damaged.
    pub fn batches(
        &self,
        incarnation: Incarnation,
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<StoredBatch>, ViewError> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        self.walk(incarnation, from, to, &mut |key, header, first_offset, batch| {
            if !batches.is_empty() && bytes + batch.len() > max_bytes {
                return Ok(ControlFlow::Break(()));
            }
            let actual = crc32c::crc32c(batch);
            if actual != header.crc32c && !planted::is("no_checksum_check") {
                return Err(ViewError::corrupt(
                    format!("the batch at offset {first_offset} of incarnation {incarnation}"),
                    format!("its CRC32C is {actual:#010x}, not {:#010x}", header.crc32c),
                ));
            }
            bytes += batch.len();
            batches.push(StoredBatch {
                first_offset,
                count: header.count,
                timestamp: key.timestamp,
                bytes: Bytes::copy_from_slice(batch),
                crc32c: header.crc32c,
                writer_epoch: header.writer_epoch,
                producer: header.producer,
            });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(batches)
    }

    /// As [`Self::batches`], but only the checksums, right or wrong.
    ///
    /// # Errors
    /// [`ViewError`]; not for a wrong checksum of a batch.
    pub fn checksums(
        &self,
        incarnation: Incarnation,
        from: Offset,
        to: Offset,
        max_bytes: usize,
    ) -> Result<Vec<BatchChecksum>, ViewError> {
        let mut batches = Vec::new();
        let mut bytes = 0;
        self.walk(incarnation, from, to, &mut |key, header, first_offset, batch| {
            if !batches.is_empty() && bytes + batch.len() > max_bytes {
                return Ok(ControlFlow::Break(()));
            }
            bytes += batch.len();
            batches.push(BatchChecksum {
                first_offset,
                count: header.count,
                timestamp: key.timestamp,
                computed_crc32c: crc32c::crc32c(batch),
                stored_crc32c: header.crc32c,
            });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(batches)
    }

    /// Visits the batches of a range, in order and without a hole.
    #[expect(clippy::type_complexity, reason = "used twice, right above")]
    fn walk(
        &self,
        incarnation: Incarnation,
        from: Offset,
        to: Offset,
        visit: &mut dyn FnMut(
            BatchKey,
            PartHeader,
            Offset,
            &[u8],
        ) -> Result<ControlFlow<()>, ViewError>,
    ) -> Result<(), ViewError> {
        if from >= to {
            return Ok(());
        }
        let mut next = from;
        let mut step = |key: &[u8], value: &[u8]| -> Result<ControlFlow<()>, ViewError> {
            let key = BatchKey::parse(key).map_err(ViewError::damaged("a batch's key"))?;
            let what = || {
                format!(
                    "the batch that ends at offset {} of incarnation {incarnation}",
                    key.last_offset
                )
            };
            let (header, at) =
                PartHeader::parse(value).map_err(|e| ViewError::corrupt(what(), e.0))?;
            let behind = key
                .last_offset
                .0
                .checked_add(1)
                .map(Offset)
                .ok_or_else(|| ViewError::corrupt(what(), "no record has that offset"))?;
            let first =
                behind.0.checked_sub(u64::from(header.count)).map(Offset).ok_or_else(|| {
                    ViewError::corrupt(what(), "it has more records than offsets")
                })?;
            if first > next || (next > from && first < next) {
                return Err(ViewError::corrupt(
                    what(),
                    format!("it begins at offset {first}, but {next} is the next one"),
                ));
            }
            if first >= to {
                return Ok(ControlFlow::Break(()));
            }
            next = behind;
            let flow = visit(key, header, first, &value[at..])?;
            Ok(if next >= to { ControlFlow::Break(()) } else { flow })
        };
        let mut failed = None;
        self.view.scan(
            &keys::batches_from(incarnation, from),
            &keys::behind_incarnation(BATCH, incarnation),
            &mut |key, value| match step(key, value) {
                Ok(flow) => flow,
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            },
        )?;
        failed.map_or(Ok(()), Err)
    }

    /// The first readable offset whose record is of `time` or later; `None` if there is none yet.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn offset_for_timestamp(
        &self,
        log: &LogDescription,
        time: TimestampMs,
    ) -> Result<Option<Offset>, ViewError> {
        let behind = keys::behind_incarnation(BATCH, log.incarnation);
        // Timestamps never fall within a log: everything below `low` is older than `time`,
        // everything from `high` on is not.
        let (mut low, mut high) = (log.start_offset, log.next_offset);
        while low < high {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            let from = keys::batches_from(log.incarnation, middle);
            let Some(key) = self.view.first_key(&from, &behind)? else {
                return Err(ViewError::corrupt(
                    format!("log {:?}", log.name.as_str()),
                    format!("the batch of offset {middle} is missing"),
                ));
            };
            let key = BatchKey::parse(&key).map_err(ViewError::damaged("a batch's key"))?;
            if key.timestamp >= time {
                high = middle;
            } else {
                low = Offset(key.last_offset.0.saturating_add(1));
            }
        }
        Ok((low < log.next_offset).then_some(low))
    }

    /// The term of the entry at `index`, if that was applied.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn term_at(&self, index: LogIndex) -> Result<Option<Term>, ViewError> {
        if self.group.applied.is_none_or(|applied| index > applied.index) {
            return Ok(None);
        }
        Ok(self.term_before(index)?.map(|(_, term)| term))
    }

    /// The term of the last entry applied, and the entry that it began with.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn last_term(&self) -> Result<Option<(LogIndex, Term)>, ViewError> {
        self.group.applied.map_or(Ok(None), |applied| self.term_before(applied.index))
    }

    /// The term that an applied index is in, and the entry that it began with.
    fn term_before(&self, index: LogIndex) -> Result<Option<(LogIndex, Term)>, ViewError> {
        let terms = keys::term(LogIndex(0));
        let Some(key) = self.view.last_key(&terms, &keys::behind_terms(index))? else {
            return Ok(None);
        };
        let first = keys::parse_term(&key).map_err(ViewError::damaged("a term's key"))?;
        let row = self.view.get(&key)?;
        let term = row.as_deref().and_then(|row| row.try_into().ok()).map(u64::from_be_bytes);
        match term {
            Some(term) => Ok(Some((first, Term(term)))),
            None => Err(ViewError::corrupt("a term's row", "it holds no term")),
        }
    }

    /// The digests recorded at a log index, if they are still there.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn digest_mark(&self, index: LogIndex) -> Result<Option<DigestMark>, ViewError> {
        let row = self.view.get(&keys::mark(index))?;
        row.map(|row| DigestMark::decode(&row))
            .transpose()
            .map_err(ViewError::damaged("a digest mark"))
    }
}
