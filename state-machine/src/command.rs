//! What clients ask of a group, as carried in a Raft entry. An entry carries many commands (the
//! proposer merges waiting requests), one leader timestamp for all of them, and every batch
//! verbatim.

use crate::types::{
    Batch, Incarnation, LogName, Offset, ProducerId, ReadLevel, Sequence, WriterEpoch,
};

/// One client request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Append one batch to each of one or more logs; all or nothing.
    Append(Vec<AppendPart>),
    /// Create a log.
    CreateLog {
        /// Its name.
        name: LogName,
        /// Answer with the existing log instead of refusing.
        if_absent: bool,
        /// What its readers get who ask for no level of their own; `None`: the cluster's default.
        read_level: Option<ReadLevel>,
    },
    /// Delete a log.
    DeleteLog {
        /// Its name.
        name: LogName,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// Make records below an offset unreadable.
    TrimLog {
        /// The log.
        name: LogName,
        /// First offset to keep.
        before: Offset,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// Raise the writer epoch.
    Fence {
        /// The log.
        name: LogName,
        /// The new epoch is at least this.
        min_epoch: Option<WriterEpoch>,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// Change what readers get who ask for no level of their own.
    SetReadLevel {
        /// The log.
        name: LogName,
        /// `None`: back to the cluster's default.
        read_level: Option<ReadLevel>,
        /// Refuse if the name belongs to another incarnation.
        incarnation: Option<Incarnation>,
    },
    /// Record the digests at this log index, for comparison between replicas.
    MarkDigest,
}

/// One log's share of an [`Command::Append`]. Every condition that is present must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendPart {
    /// The log.
    pub log: LogName,
    /// Must equal the log's next offset.
    pub expected_offset: Option<Offset>,
    /// Must equal the log's writer epoch; required once the log is fenced.
    pub writer_epoch: Option<WriterEpoch>,
    /// Deduplication.
    pub producer: Option<(ProducerId, Sequence)>,
    /// Must equal the log's incarnation.
    pub incarnation: Option<Incarnation>,
    /// The records.
    pub batch: Batch,
}
