//! Every metric of a node, declared once: name, type, unit, labels, help. The exposition, the page
//! `docs/metrics.md` and the tests follow this table; a value for a metric that is not in it can't
//! be written.

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of observations by size.
    Histogram,
    /// Always 1; the labels are the information.
    Info,
}

impl Kind {
    /// As written in the docs and in the exposition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// The unit of a metric's values; part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count, an index, a number of something.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// As it is appended to the name; empty for none.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Without the suffixes for unit and kind.
    pub base: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// Of its values.
    pub unit: Unit,
    /// Names of its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// One line for the operator.
    pub help: &'static str,
}

impl Declared {
    /// The name as it is scraped. A histogram's series add `_bucket`, `_sum` and `_count`.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.base.to_owned();
        if self.unit != Unit::None {
            name = name + "_" + self.unit.name();
        }
        match self.kind {
            Kind::Counter => name + "_total",
            Kind::Info => name + "_info",
            Kind::Gauge | Kind::Histogram => name,
        }
    }
}

macro_rules! table {
    ($($id:ident: $kind:ident $base:literal $unit:ident [$($label:literal)*] $help:literal;)*) => {
        /// The metrics; each is the index of its row in [`TABLE`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Name {
            $(#[doc = $help] $id,)*
        }

        /// The rows, in the order of the exposition and of the docs.
        pub const TABLE: &[Declared] = &[$(Declared {
            base: $base,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        },)*];
    };
}

table! {
    AppendDuration: Histogram "quorate_append_duration" Seconds ["outcome"]
        "Appends answered by this node, from admission to the answer; _count is the number of appends";
    AppendRecords: Counter "quorate_append_records" None ["outcome"]
        "Records in these appends";
    AppendBytes: Counter "quorate_append" Bytes ["outcome"]
        "Bytes of these records, as the client sent them";
    AdmissionInFlight: Gauge "quorate_admission_in_flight" Bytes []
        "Bytes of commands admitted and not yet answered";
    AdmissionLimit: Gauge "quorate_admission_limit" Bytes []
        "Bound on the bytes in flight (limits.inflight_mb); commands beyond it are refused";
    AdmissionRefused: Counter "quorate_admission_refused" None []
        "Commands refused because the bound was reached; they had no effect";
    ProposedEntryBytes: Histogram "quorate_proposed_entry" Bytes ["group"]
        "Raft entries this node proposed, by size; _count is the number of entries";
    ProposedEntryCommands: Histogram "quorate_proposed_entry_commands" None ["group"]
        "Commands that went into one entry; _sum is the number of commands";
    ApplyDuration: Histogram "quorate_apply_duration" Seconds ["group"]
        "Applying one batch of committed entries, until its writes are in the state";
    ApplyBatchEntries: Histogram "quorate_apply_batch_entries" None ["group"]
        "Committed entries in one apply batch; _sum is the number of entries";
    ReadDuration: Histogram "quorate_read_duration" Seconds ["level" "outcome"]
        "Reads by consistency level, waiting for freshness included; outcome is ok, marked (served older than asked), or why not: too_stale, not_leader, deadline, bad_position, unavailable, failed";
    ReadBatches: Counter "quorate_read_batches" None ["source"]
        "Batches handed to readers and tails; source is memory (recently applied ones) or disk";
    RecentBytes: Gauge "quorate_read_recent" Bytes ["group"]
        "Recently applied batches kept in memory for tails and reads near the end";
    ReadForwarded: Counter "quorate_read_forwarded" None ["outcome"]
        "Reads that this replica could not serve and asked the leader for; outcome is answered or failed, or why not: budget, open (the breaker)";
    ReadForwardInFlight: Gauge "quorate_read_forward_in_flight" None []
        "Such reads on their way";
    ReadForwardLimit: Gauge "quorate_read_forward_limit" None []
        "Bound on them; further ones are refused";
    ReadForwardOpen: Gauge "quorate_read_forward_breaker_open" None []
        "1 while none is forwarded to some leader because the last ones failed";
    ReadRounds: Histogram "quorate_read_index_round_readers" None ["group"]
        "Linearizable reads and probes that shared one round of this leader's quorum; _count is the number of rounds";
    ReadAge: Gauge "quorate_read_age" Seconds ["group"]
        "Proven upper bound on the age of this replica's state, proven anew for the scrape; absent: unknown";
    ReadAgeWorst: Gauge "quorate_read_age_worst" Seconds ["group"]
        "Worst age that an answer of the last minute stated; absent: none stated one";
    ReadProbe: Gauge "quorate_read_probe_duration" Seconds ["group"]
        "Round trip of the last read probe that a quorum confirmed";
    TailSubscribers: Gauge "quorate_tail_subscribers" None []
        "Clients that are following a log on this node";
    TailStarted: Counter "quorate_tail_started" None []
        "Follows that were started";
    SnapshotDuration: Histogram "quorate_snapshot_duration" Seconds ["group" "action"]
        "Snapshots built here and installed from a leader; action is built or installed";
    SnapshotBytes: Counter "quorate_snapshot" Bytes ["group" "action"]
        "Bytes of these snapshots";
    RaftTerm: Gauge "quorate_raft_term" None ["group"]
        "Current term";
    RaftRole: Gauge "quorate_raft_role" None ["group" "role"]
        "1 for the role this node has, 0 for the others; leader only with a fresh quorum acknowledgement";
    RaftLeaderId: Gauge "quorate_raft_leader_id" None ["group"]
        "Node id of the leader this node knows, 0 when it knows none";
    RaftLeaderChanges: Counter "quorate_raft_leader_changes" None ["group"]
        "Times that this node learned of another leader or term of a leader";
    RaftQuorumAckAge: Gauge "quorate_raft_quorum_ack_age" Seconds ["group"]
        "Time since a quorum last acknowledged this node's leadership; only where it claims to lead";
    RaftLastLogIndex: Gauge "quorate_raft_last_log_index" None ["group"]
        "Last index in the local Raft log";
    RaftCommitIndex: Gauge "quorate_raft_commit_index" None ["group"]
        "Commit index known here";
    RaftAppliedIndex: Gauge "quorate_raft_applied_index" None ["group"]
        "Last index applied to the state here";
    RaftPurgedIndex: Gauge "quorate_raft_purged_index" None ["group"]
        "Everything up to this index is gone from the local Raft log";
    RaftSnapshotIndex: Gauge "quorate_raft_snapshot_index" None ["group"]
        "Index of the newest local snapshot, 0 when there is none";
    RaftMatchedIndex: Gauge "quorate_raft_matched_index" None ["group" "node"]
        "How far another replica's log is known to match; only where this node claims to lead";
    LogStoreSyncDuration: Histogram "quorate_log_store_sync_duration" Seconds []
        "Making one batch of Raft log writes durable; _count is the number of syncs";
    LogStoreWritten: Counter "quorate_log_store_written" Bytes []
        "Bytes written to the Raft log, padding included";
    LogStorePayload: Counter "quorate_log_store_payload" Bytes []
        "Bytes of entries in these writes";
    LogStoreEntries: Counter "quorate_log_store_entries" None []
        "Entries appended to the Raft log";
    LogStoreQueueDepth: Gauge "quorate_log_store_queue_depth" None []
        "Operations waiting for the log's thread";
    LogStoreDisk: Gauge "quorate_log_store_disk" Bytes []
        "Disk space held by the Raft log";
    LogStoreSegments: Gauge "quorate_log_store_segments" None []
        "Segments in use";
    LogStoreRecycled: Counter "quorate_log_store_segments_recycled" None []
        "Segments that were used again";
    LogStoreUnprepared: Counter "quorate_log_store_segments_unprepared" None []
        "Segments that had to be made while an append waited; should stay near 0";
    PeerConnected: Counter "quorate_peer_connected" None []
        "Connections to other nodes that came up, all lanes and peers together";
    PeerBroken: Counter "quorate_peer_broken" None []
        "Connections to other nodes that broke or could not be made";
    PeerAppendFrames: Counter "quorate_peer_append_frames" None []
        "Append frames sent to followers";
    PeerAppendBytes: Counter "quorate_peer_append" Bytes []
        "Bytes of these frames";
    PeerControlRequests: Counter "quorate_peer_control_requests" None []
        "Votes, heartbeats and other control requests sent";
    PeerTimeouts: Counter "quorate_peer_timeouts" None []
        "Requests to other nodes without an answer in time";
    PeerRefusedCallers: Counter "quorate_peer_refused_callers" None []
        "Callers refused for their identity (other cluster, replaced disk, unknown node)";
    PeerLostConfirmed: Counter "quorate_peer_lost_confirmed" None []
        "Attempts to replicate to a node that lacks entries which it had confirmed: its disk lost them; must stay 0";
    PeerSnapshotSent: Counter "quorate_peer_snapshot_sent" Bytes []
        "Bytes of snapshot files sent";
    PeerSnapshotReceived: Counter "quorate_peer_snapshot_received" Bytes []
        "Bytes of snapshot files received and written";
    StateStore: Gauge "quorate_state_store" Bytes ["group" "kind"]
        "Memory and disk of the state machine's RocksDB, by kind";
    ProcessCpu: Counter "process_cpu" Seconds []
        "Processor time of this process, user and system";
    ProcessMemory: Gauge "process_resident_memory" Bytes []
        "Resident memory of this process";
    ProcessOpenFds: Gauge "process_open_fds" None []
        "Open file descriptors of this process";
    Build: Info "quorate_build" None ["version"]
        "What is running";
}

impl Name {
    /// Its row.
    #[must_use]
    pub fn declared(self) -> &'static Declared {
        &TABLE[self as usize]
    }
}
