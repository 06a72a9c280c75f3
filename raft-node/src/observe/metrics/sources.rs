//! Values that exist anyway and are only asked for when somebody scrapes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use quorate_state_machine::types::{GroupId, LogIndex, Term};

use super::{histogram::HistogramSample, process::ProcessSample, scrape::Scrape, table::Name};
use crate::{
    log_store::{LogStore, SYNC_BUCKETS_US},
    peer::stats::PeerStats,
    raft::{
        group::{self, Vitals},
        types::NodeId,
    },
};

/// Where a scrape finds the values that nobody counts on a hot path. Called off the event loop:
/// an implementation may block for a moment, never for the network.
pub trait Sources: Send + Sync + 'static {
    /// Vital signs of every group this node has.
    fn groups(&self) -> Vec<GroupSample>;
    /// Backpressure at the edge.
    fn admission(&self) -> AdmissionSample;
    /// The Raft log on disk.
    fn log_store(&self) -> LogStoreSample;
    /// Reads that are forwarded.
    fn forward(&self) -> ForwardSample;
    /// The transport between nodes.
    fn peers(&self) -> &PeerStats;
}

/// What a node is in a group, as metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads, with a fresh quorum acknowledgement.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Replicates without a vote.
    Learner,
    /// The group's core has stopped.
    Stopped,
}

impl Role {
    const ALL: [Self; 5] =
        [Self::Leader, Self::Follower, Self::Candidate, Self::Learner, Self::Stopped];

    /// A stopped core's last role means nothing any more.
    #[must_use]
    pub fn of(vitals: &Vitals) -> Self {
        match vitals.role {
            _ if vitals.stopped.is_some() => Self::Stopped,
            group::Role::Leader => Self::Leader,
            group::Role::Follower => Self::Follower,
            group::Role::Candidate => Self::Candidate,
            group::Role::Learner => Self::Learner,
        }
    }

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }
}

/// One group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupSample {
    /// Which.
    pub group: GroupId,
    /// By evidence.
    pub role: Role,
    /// Current term.
    pub term: Term,
    /// The leader this node knows.
    pub leader: Option<NodeId>,
    /// How often that changed since the start.
    pub leader_changes: u64,
    /// Since a quorum last acknowledged this node; `None` where it does not claim to lead.
    pub quorum_ack_age: Option<Duration>,
    /// Last index in the local Raft log.
    pub last_log_index: LogIndex,
    /// Commit index known here.
    pub commit_index: LogIndex,
    /// Applied here.
    pub applied_index: LogIndex,
    /// Purged up to here.
    pub purged_index: LogIndex,
    /// Newest local snapshot.
    pub snapshot_index: LogIndex,
    /// On a leader: how far the other replicas' logs match.
    pub matched: Vec<(NodeId, LogIndex)>,
    /// What is proven about the age of this replica's state.
    pub reads: ReadSample,
    /// Bytes of the state's RocksDB by kind: `sst` (disk), `memtable`, `block_cache`, ...
    pub store_bytes: Vec<(&'static str, u64)>,
}

impl GroupSample {
    /// From a group's vital signs; what they don't hold is given beside them.
    #[must_use]
    pub fn of(
        group: GroupId,
        vitals: Vitals,
        leader_changes: u64,
        reads: ReadSample,
        store_bytes: Vec<(&'static str, u64)>,
    ) -> Self {
        Self {
            group,
            role: Role::of(&vitals),
            term: vitals.term,
            leader: vitals.leader.map(|leader| leader.id),
            leader_changes,
            quorum_ack_age: vitals.quorum_ack_age,
            last_log_index: vitals.last_log_index,
            commit_index: vitals.commit_index,
            applied_index: vitals.applied_index,
            purged_index: vitals.purged_index,
            snapshot_index: vitals.snapshot_index,
            matched: vitals.matched.into_iter().collect(),
            reads,
            store_bytes,
        }
    }
}

/// What is proven about the age of a replica's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSample {
    /// Upper bound; `None`: unknown.
    pub age: Option<Duration>,
    /// The worst that an answer of the last minute stated.
    pub worst_age: Option<Duration>,
    /// Round trip of the last confirmed probe.
    pub probe: Option<Duration>,
    /// Bytes of recently applied batches in memory.
    pub recent_bytes: u64,
}

/// Reads that are being forwarded.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardSample {
    /// On their way.
    pub in_flight: u64,
    /// Their bound.
    pub limit: u64,
    /// None is forwarded for now.
    pub breaker_open: bool,
}

/// Admission.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmissionSample {
    /// Bytes admitted and not yet answered.
    pub in_flight_bytes: u64,
    /// Their bound.
    pub limit_bytes: u64,
}

/// The Raft log. Counters rise from the start of the process.
#[derive(Clone, Debug, Default)]
pub struct LogStoreSample {
    /// Durations of syncs, in seconds.
    pub sync_seconds: HistogramSample,
    /// Bytes written, padding included.
    pub written_bytes: u64,
    /// Bytes of entries in them.
    pub payload_bytes: u64,
    /// Entries appended.
    pub entries: u64,
    /// Operations waiting for the log's thread.
    pub queue_depth: u64,
    /// Disk space held.
    pub disk_bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Segments used again.
    pub recycled: u64,
    /// Segments that had to be made while an append waited.
    pub unprepared: u64,
}

impl LogStoreSample {
    /// Of a running log.
    #[must_use]
    pub fn of(log: &LogStore) -> Self {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = log.counters();
        let bounds = SYNC_BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        Self {
            sync_seconds: HistogramSample {
                buckets: bounds.zip(counters.sync_buckets.iter().map(load)).collect(),
                sum: load(&counters.sync_us) as f64 / 1e6,
            },
            written_bytes: load(&counters.written_bytes),
            payload_bytes: load(&counters.payload_bytes),
            entries: load(&counters.entries),
            queue_depth: log.queue_depth(),
            disk_bytes: log.disk_bytes(),
            segments: log.segments(),
            recycled: load(&counters.recycled),
            unprepared: load(&counters.unprepared),
        }
    }
}

pub(super) fn collect(sources: &dyn Sources, scrape: &mut Scrape) {
    for group in sources.groups() {
        collect_group(&group, scrape);
    }
    let admission = sources.admission();
    scrape.whole(Name::AdmissionInFlight, &[], admission.in_flight_bytes);
    scrape.whole(Name::AdmissionLimit, &[], admission.limit_bytes);
    let forward = sources.forward();
    scrape.whole(Name::ReadForwardInFlight, &[], forward.in_flight);
    scrape.whole(Name::ReadForwardLimit, &[], forward.limit);
    scrape.whole(Name::ReadForwardOpen, &[], u64::from(forward.breaker_open));
    collect_log_store(sources.log_store(), scrape);
    collect_peers(sources.peers(), scrape);
}

fn collect_group(g: &GroupSample, scrape: &mut Scrape) {
    let id = g.group.0.to_string();
    let label = [id.as_str()];
    scrape.whole(Name::RaftTerm, &label, g.term.0);
    for role in Role::ALL {
        scrape.whole(Name::RaftRole, &[&id, role.name()], u64::from(role == g.role));
    }
    scrape.whole(Name::RaftLeaderId, &label, g.leader.unwrap_or(0));
    scrape.whole(Name::RaftLeaderChanges, &label, g.leader_changes);
    if let Some(age) = g.quorum_ack_age {
        scrape.real(Name::RaftQuorumAckAge, &label, age.as_secs_f64());
    }
    scrape.whole(Name::RaftLastLogIndex, &label, g.last_log_index.0);
    scrape.whole(Name::RaftCommitIndex, &label, g.commit_index.0);
    scrape.whole(Name::RaftAppliedIndex, &label, g.applied_index.0);
    scrape.whole(Name::RaftPurgedIndex, &label, g.purged_index.0);
    scrape.whole(Name::RaftSnapshotIndex, &label, g.snapshot_index.0);
    for (node, matched) in &g.matched {
        scrape.whole(Name::RaftMatchedIndex, &[&id, &node.to_string()], matched.0);
    }
    for (name, duration) in [
        (Name::ReadAge, g.reads.age),
        (Name::ReadAgeWorst, g.reads.worst_age),
        (Name::ReadProbe, g.reads.probe),
    ] {
        if let Some(duration) = duration {
            scrape.real(name, &label, duration.as_secs_f64());
        }
    }
    scrape.whole(Name::RecentBytes, &label, g.reads.recent_bytes);
    for (kind, bytes) in &g.store_bytes {
        scrape.whole(Name::StateStore, &[&id, kind], *bytes);
    }
}

fn collect_log_store(log: LogStoreSample, scrape: &mut Scrape) {
    scrape.histogram(Name::LogStoreSyncDuration, &[], log.sync_seconds);
    scrape.whole(Name::LogStoreWritten, &[], log.written_bytes);
    scrape.whole(Name::LogStorePayload, &[], log.payload_bytes);
    scrape.whole(Name::LogStoreEntries, &[], log.entries);
    scrape.whole(Name::LogStoreQueueDepth, &[], log.queue_depth);
    scrape.whole(Name::LogStoreDisk, &[], log.disk_bytes);
    scrape.whole(Name::LogStoreSegments, &[], log.segments);
    scrape.whole(Name::LogStoreRecycled, &[], log.recycled);
    scrape.whole(Name::LogStoreUnprepared, &[], log.unprepared);
}

fn collect_peers(peers: &PeerStats, scrape: &mut Scrape) {
    for (name, counter) in [
        (Name::PeerConnected, &peers.connected),
        (Name::PeerBroken, &peers.broken),
        (Name::PeerAppendFrames, &peers.append_frames),
        (Name::PeerAppendBytes, &peers.append_bytes),
        (Name::PeerControlRequests, &peers.control_requests),
        (Name::PeerTimeouts, &peers.timeouts),
        (Name::PeerRefusedCallers, &peers.refused_callers),
        (Name::PeerLostConfirmed, &peers.lost_confirmed),
        (Name::PeerSnapshotSent, &peers.snapshot_bytes_sent),
        (Name::PeerSnapshotReceived, &peers.snapshot_bytes_received),
    ] {
        scrape.whole(name, &[], counter.load(Ordering::Relaxed));
    }
}

pub(super) fn collect_process(process: &ProcessSample, scrape: &mut Scrape) {
    if let Some(seconds) = process.cpu_seconds {
        scrape.real(Name::ProcessCpu, &[], seconds);
    }
    if let Some(bytes) = process.resident_bytes {
        scrape.whole(Name::ProcessMemory, &[], bytes);
    }
    if let Some(open) = process.open_fds {
        scrape.whole(Name::ProcessOpenFds, &[], open);
    }
}
