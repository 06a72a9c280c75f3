//! A call, its answer, and the three kinds of outcome.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, Incarnation, Moment, Node, Offset, OpId, Process, RecordId, Stamp};

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// An atomic append of these records, in this order.
    Append(Append),
    /// Create a log, or be told of the one that has the name.
    Create {
        /// The log.
        log: String,
    },
    /// Delete a log.
    Delete {
        /// The log.
        log: String,
    },
    /// Raise the writer epoch.
    Fence {
        /// The log.
        log: String,
    },
    /// Make a log begin at an offset.
    Trim {
        /// The log.
        log: String,
        /// Everything before it goes.
        before: Offset,
    },
    /// Read a log from an offset to its end.
    Read {
        /// The log.
        log: String,
        /// The first offset asked for.
        from: Offset,
        /// True for a linearizable read: it must show everything acknowledged before it was sent.
        linearizable: bool,
    },
}

impl Call {
    /// The log the call is about.
    #[must_use]
    pub fn log(&self) -> &str {
        match self {
            Self::Append(append) => &append.log,
            Self::Create { log }
            | Self::Delete { log }
            | Self::Fence { log }
            | Self::Trim { log, .. }
            | Self::Read { log, .. } => log,
        }
    }
}

/// An append's request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The log.
    pub log: String,
    /// The records, in order.
    pub records: Vec<RecordId>,
    /// Only if the log's next offset is this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_offset: Option<Offset>,
    /// Only under this writer epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_epoch: Option<Epoch>,
    /// The exactly-once producer that carried it; its submissions are ordered by invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Appended at these offsets.
    Appended {
        /// Offset of the first record.
        first_offset: Offset,
        /// One past the last record.
        next_offset: Offset,
        /// A retry whose first attempt had been stored: these are the original offsets, while the
        /// stamp is of the retry.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deduplicated: bool,
        /// Where it was decided, when the client was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// The log is there.
    Created {
        /// By this call; otherwise it was there before.
        created: bool,
        /// Its end.
        next_offset: Offset,
        /// Where it was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// The log is gone.
    Deleted {
        /// Where it was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// The epoch was raised.
    Fenced {
        /// The new epoch.
        epoch: Epoch,
        /// The log's end at that moment: nothing of a lower epoch is at or behind it.
        next_offset: Offset,
        /// Where it was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// The log begins there.
    Trimmed {
        /// Its first offset.
        start: Offset,
        /// Where it was decided.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// What a read showed.
    Read {
        /// Whole or clipped batches, in the order received.
        batches: Vec<Batch>,
        /// The log's end as of the state that was read.
        next_offset: Offset,
        /// The state that was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// Failed and certainly changed nothing (effect NONE).
    Refused {
        /// The kind of error, in the protocol's words.
        kind: String,
        /// The log's next offset, when the refusal stated it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_offset: Option<Offset>,
        /// Where it was decided, when the replicated state machine did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
    },
    /// It took effect, but the answer cannot say where any more (effect APPLIED).
    AppliedUnplaced {
        /// The kind of error.
        kind: String,
    },
    /// It may have taken effect, or may still (effect UNKNOWN).
    Unknown {
        /// The kind of error.
        kind: String,
    },
}

impl Answer {
    /// Where it was decided, if it says so.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Appended { stamp, .. }
            | Self::Created { stamp, .. }
            | Self::Deleted { stamp }
            | Self::Fenced { stamp, .. }
            | Self::Trimmed { stamp, .. }
            | Self::Read { stamp, .. }
            | Self::Refused { stamp, .. } => *stamp,
            Self::AppliedUnplaced { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// Records that were stored together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Offset of the first record in `records`.
    pub first_offset: Offset,
    /// Who the records say they are; `None` for bytes that are no intact payload of this test.
    pub records: Vec<Option<RecordId>>,
    /// The timestamp stamped by the leader, milliseconds.
    pub timestamp_ms: u64,
    /// CRC32C of the batch's bytes as received.
    pub crc32c: u32,
    /// The epoch it was written under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_epoch: Option<Epoch>,
    /// Its producer (id in hex) and sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<(String, u64)>,
}

impl Batch {
    /// One past the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.first_offset.plus(self.records.len())
    }
}

/// A call with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its name in the history.
    pub id: OpId,
    /// Who called.
    pub process: Process,
    /// When the call was made.
    pub invoked: Moment,
    /// When the answer came; `None` when none came before the history ended.
    pub returned: Option<Moment>,
    /// What was asked.
    pub call: Call,
    /// The answer; a call without one is `Unknown`.
    pub answer: Answer,
}

/// For which of the logs that have a name one after the other a call was meant, and which answered.
/// Only for logs that are deleted in a run: a name that no call has this for is one log.
///
/// An append that may be sent again must name what it is for: without that, it may be stored once in
/// each of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The call.
    pub op: OpId,
    /// It was for this one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Incarnation>,
    /// This one answered. A deletion's answer names none: what was asked counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Incarnation>,
}

/// To whom a read was sent, and what it demanded: of those that fail nothing else is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The read.
    pub op: OpId,
    /// Who was asked; another node may have answered.
    pub node: Node,
    /// How old the answer might be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_ms: Option<u64>,
    /// Whether the node was to say at once that it cannot, rather than wait or ask another.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_fail: bool,
}

/// What a read was asked to promise beyond its call, and what it promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The read.
    pub op: OpId,
    /// Who answered.
    pub node: Node,
    /// It must show everything acknowledged longer than this before it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_ms: Option<u64>,
    /// It said that it shows everything acknowledged longer than this before it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// When the node had made the answer, if that is known by the history's clock. It was after the
    /// call, so that a stated age then demands more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<Moment>,
    /// Its client had seen the log up to here, and demanded to see as much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Offset>,
}

/// Everything one replica serves of one log after the run, read back record by record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLog {
    /// Whose copy.
    pub node: Node,
    /// Which log.
    pub log: String,
    /// Of this incarnation, if the log is deleted in the run; `None`, and empty, if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// First readable offset (the trim point).
    pub start_offset: Offset,
    /// The end of the log on this replica.
    pub next_offset: Offset,
    /// Everything between, in the order received.
    pub batches: Vec<Batch>,
}

/// A replica's digest over everything it applied up to a log index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaDigest {
    /// Whose.
    pub node: Node,
    /// The Raft group.
    pub group: u32,
    /// Up to which log index.
    pub log_index: u64,
    /// In hex.
    pub digest: String,
}
