//! Where a reading stands in its log: from the request's place to be found, message by message.

use quorate_proto::v1::{self as wire, ReadFrom, read_from::From};
use quorate_state_machine::{
    outcome::LogDescription,
    read::StoredBatch,
    store::ReadView,
    types::{Incarnation, Offset, TimestampMs},
};

use crate::{
    api::errors::ApiError,
    observe::Metrics,
    read::{levels::Served, recent::Recent},
};

/// Bytes of batches in one response message: large enough to stream at full rate, small enough to
/// interleave with other streams of the connection.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// First offset of a read; trimmed and beyond-the-end are different, typed answers. `seek` finds
/// the first record of a time or later.
pub(super) fn start_of(
    log: &LogDescription,
    from: Option<ReadFrom>,
    default: Offset,
    seek: impl FnOnce(TimestampMs) -> Result<Option<Offset>, ApiError>,
) -> Result<Offset, ApiError> {
    let (start, next) = (log.start_offset, log.next_offset);
    let offset = match from.and_then(|f| f.from) {
        None => default,
        Some(From::Offset(offset)) => Offset(offset),
        Some(From::Last(n)) => Offset(next.0.saturating_sub(n).max(start.0)),
        Some(From::TimestampMs(at)) => seek(TimestampMs(at))?.unwrap_or(next).max(start),
    };
    if offset < start {
        return Err(ApiError::trimmed(log.name.as_str(), offset.0, start.0, next.0));
    }
    if offset > next {
        return Err(ApiError::out_of_range(log.name.as_str(), offset.0, start.0, next.0));
    }
    Ok(offset)
}

/// Looks for a time in a view.
pub(super) fn seek_in<'a>(
    view: &'a ReadView,
    log: &'a LogDescription,
) -> impl FnOnce(TimestampMs) -> Result<Option<Offset>, ApiError> + 'a {
    |at| Ok(view.offset_for_timestamp(log, at)?)
}

fn on_wire(batch: StoredBatch, from: Offset, to: Offset) -> wire::StoredBatch {
    let end = batch.first_offset.0 + u64::from(batch.count);
    wire::StoredBatch {
        visible_from: from.0.max(batch.first_offset.0),
        visible_to: if to.0 < end { to.0 } else { 0 },
        first_offset: batch.first_offset.0,
        count: batch.count,
        timestamp_ms: batch.timestamp.0,
        batch: batch.bytes,
        batch_crc32c: batch.crc32c,
        writer_epoch: batch.writer_epoch.map(|e| e.0),
        producer: batch.producer.map(|(id, sequence)| wire::Producer {
            id: bytes::Bytes::copy_from_slice(&id.0),
            sequence: sequence.0,
        }),
    }
}

/// Where a sequence of messages stands.
pub(super) struct Cursor {
    pub next: Offset,
    pub end: Offset,
    pub records_left: u64,
    pub bytes_left: u64,
}

/// A limit of 0 means none.
pub(super) fn or_unlimited(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

impl Cursor {
    pub(super) fn done(&self) -> bool {
        self.next >= self.end || self.records_left == 0 || self.bytes_left == 0
    }

    /// Reads the next message's batches and moves on.
    pub(super) fn step(
        &mut self,
        served: &Served,
        log: &LogDescription,
        recent: &Recent,
        metrics: &Metrics,
    ) -> Result<Vec<wire::StoredBatch>, ApiError> {
        if let Some(batches) = self.step_in_memory(log.incarnation, recent, metrics) {
            return Ok(batches);
        }
        let (end, bytes) = self.bounds();
        let batches = served.view.batches(log.incarnation, self.next, end, bytes)?;
        metrics.batches_read("disk", batches.len());
        if batches.is_empty() {
            return Err(ApiError::corrupt(format!(
                "log {:?} should have records from offset {} on, but none is stored here; ask \
                 another node, and run `quorate verify --deep`",
                log.name.as_str(),
                self.next
            )));
        }
        Ok(self.advance(batches, end))
    }

    /// The same, without a look at the state; `None` if the next batch is not in memory.
    pub(super) fn step_in_memory(
        &mut self,
        incarnation: Incarnation,
        recent: &Recent,
        metrics: &Metrics,
    ) -> Option<Vec<wire::StoredBatch>> {
        let (end, bytes) = self.bounds();
        let batches = recent.batches(incarnation, self.next, end, bytes)?;
        metrics.batches_read("memory", batches.len());
        Some(self.advance(batches, end))
    }

    /// End and bytes of the next message.
    fn bounds(&self) -> (Offset, usize) {
        let end = Offset(self.end.0.min(self.next.0.saturating_add(self.records_left)));
        let bytes = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
        (end, MESSAGE_BYTES.min(bytes))
    }

    fn advance(&mut self, batches: Vec<StoredBatch>, end: Offset) -> Vec<wire::StoredBatch> {
        let last = batches.last().expect("a step has a batch");
        let reached = last.next_offset().min(end);
        let bytes: u64 = batches.iter().map(|b| b.bytes.len() as u64).sum();
        let from = self.next;
        self.records_left = self.records_left.saturating_sub(reached.0 - from.0);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        self.next = reached;
        batches.into_iter().map(|b| on_wire(b, from, end)).collect()
    }
}
