//! What a command came to: a pure function of the state and the entry, equal on every replica. A
//! refusal is an outcome, never an error; errors are local failures and stop apply.

use crate::types::{
    Incarnation, LogIndex, LogName, LogPoint, Offset, ReadLevel, Sequence, TimestampMs, WriterEpoch,
};

/// A command's answer plus where it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Term and index of the entry that decided it.
    pub at: LogPoint,
    /// The log's next offset right after (of the refusing part, or the first part, for appends);
    /// 0 where there is no such log.
    pub next_offset: Offset,
    /// The log's writer epoch right after, if it was ever fenced.
    pub writer_epoch: Option<WriterEpoch>,
    /// Accepted or refused.
    pub result: Result<Accepted, Refused>,
}

/// What an accepted command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// One per part, in order.
    Appended(Vec<Appended>),
    /// The log, and whether it was created by this command.
    Created(LogDescription, bool),
    /// The incarnation that is gone.
    Deleted(Incarnation),
    /// The log's first readable offset.
    Trimmed(Incarnation, Offset),
    /// The new epoch.
    Fenced(Incarnation, WriterEpoch),
    /// The log as it is from now on.
    ReadLevelSet(LogDescription),
    /// The log index at which digests were recorded.
    Marked(LogIndex),
}

/// Where one part of an append went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the batch's first record.
    pub first_offset: Offset,
    /// One past the batch's last record.
    pub next_offset: Offset,
    /// The batch's timestamp.
    pub timestamp: TimestampMs,
    /// It had been appended before by the same (producer, sequence).
    pub deduplicated: bool,
    /// The log's incarnation.
    pub incarnation: Incarnation,
}

/// A log as the state machine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDescription {
    /// Name.
    pub name: LogName,
    /// Incarnation.
    pub incarnation: Incarnation,
    /// First readable offset.
    pub start_offset: Offset,
    /// One past the last record.
    pub next_offset: Offset,
    /// Current writer epoch; `None` until first fenced.
    pub writer_epoch: Option<WriterEpoch>,
    /// When it was created.
    pub created: TimestampMs,
    /// Timestamp of the newest record (0: none yet).
    pub last_timestamp: TimestampMs,
    /// Bytes of batches not wholly below the trim point.
    pub stored_bytes: u64,
    /// Remembered producers.
    pub producers: u64,
    /// What readers get who ask for no level of their own.
    pub read_level: Option<ReadLevel>,
}

/// Why a command was refused. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No log of that name.
    #[error("no log is named {0:?}")]
    LogNotFound(LogName),
    /// The name is taken.
    #[error("a log named {:?} exists", .0.name)]
    LogExists(LogDescription),
    /// Another incarnation has the name now.
    #[error("log {name:?} was deleted and created again: incarnation is {actual}, not {asked}")]
    LogRecreated {
        /// Name.
        name: LogName,
        /// The one the caller meant.
        asked: Incarnation,
        /// The one that has the name.
        actual: Incarnation,
    },
    /// The expected offset is not the next offset.
    #[error("expected offset {expected}, but the next offset of {log:?} is {actual}")]
    OffsetMismatch {
        /// Log.
        log: LogName,
        /// As asked.
        expected: Offset,
        /// As is.
        actual: Offset,
    },
    /// A lower epoch, or none on a fenced log.
    #[error("log {log:?} is fenced at writer epoch {current}")]
    Fenced {
        /// Log.
        log: LogName,
        /// The current epoch.
        current: WriterEpoch,
    },
    /// An epoch that was never granted.
    #[error("writer epoch {asked} of log {log:?} was never granted")]
    EpochNotGranted {
        /// Log.
        log: LogName,
        /// As asked.
        asked: WriterEpoch,
        /// Current epoch, if any.
        current: Option<WriterEpoch>,
    },
    /// The sequence is ahead of the next one.
    #[error("producer sequence {got} of log {log:?} leaves a gap: {expected} is next")]
    SequenceGap {
        /// Log.
        log: LogName,
        /// As asked.
        got: Sequence,
        /// The next one to come.
        expected: Sequence,
    },
    /// Appended, but the offsets are no longer remembered.
    #[error(
        "producer sequence {got} of log {log:?} was appended, but its offsets are forgotten (next is {expected})"
    )]
    SequenceStale {
        /// Log.
        log: LogName,
        /// As asked.
        got: Sequence,
        /// The next one to come.
        expected: Sequence,
    },
    /// The same sequence with other bytes.
    #[error("producer sequence {got} of log {log:?} was appended with other content")]
    SequenceReused {
        /// Log.
        log: LogName,
        /// As asked.
        got: Sequence,
    },
    /// A sequence above 0 of an unknown producer.
    #[error(
        "log {log:?} does not know this producer (never seen, or expired), so sequence {got} can't be checked"
    )]
    ProducerUnknown {
        /// Log.
        log: LogName,
        /// As asked.
        got: Sequence,
    },
    /// The log remembers as many live producers as it may.
    #[error("log {log:?} remembers {limit} live producers, which is the limit")]
    TooManyProducers {
        /// Log.
        log: LogName,
        /// The limit.
        limit: u64,
    },
    /// A trim beyond the end.
    #[error("trim offset {asked} of log {log:?} is beyond its end {next_offset}")]
    TrimBeyondEnd {
        /// Log.
        log: LogName,
        /// As asked.
        asked: Offset,
        /// The log's end.
        next_offset: Offset,
    },
    /// The group holds as many logs as it may.
    #[error("the group holds {limit} logs, which is the limit")]
    TooManyLogs {
        /// The limit.
        limit: u64,
    },
    /// The same log twice in one multi-append.
    #[error("log {0:?} appears twice in one append")]
    DuplicateLog(LogName),
    /// The epoch or offset would overflow.
    #[error("{what} of log {log:?} would exceed its range")]
    Overflow {
        /// Log.
        log: LogName,
        /// Which counter.
        what: &'static str,
    },
    /// The command's bytes could not be decoded (a newer version wrote them, or they are damaged).
    #[error("the command could not be decoded: {0}")]
    Undecodable(String),
}

impl Refused {
    /// A number that stands for the kind of refusal in digests. Never reused.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::LogNotFound(_) => 1,
            Self::LogExists(_) => 2,
            Self::LogRecreated { .. } => 3,
            Self::OffsetMismatch { .. } => 4,
            Self::Fenced { .. } => 5,
            Self::EpochNotGranted { .. } => 6,
            Self::SequenceGap { .. } => 7,
            Self::SequenceStale { .. } => 8,
            Self::SequenceReused { .. } => 9,
            Self::ProducerUnknown { .. } => 10,
            Self::TooManyProducers { .. } => 11,
            Self::TrimBeyondEnd { .. } => 12,
            Self::TooManyLogs { .. } => 13,
            Self::DuplicateLog(_) => 14,
            Self::Overflow { .. } => 15,
            Self::Undecodable(_) => 16,
        }
    }
}
