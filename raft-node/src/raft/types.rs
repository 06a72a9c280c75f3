//! The types openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use quorate_state_machine::outcome::Outcome;
use serde::{Deserialize, Serialize};

/// Replica id of a node: stable, unique in the cluster, never reused after a disk was lost.
pub type NodeId = u64;

/// What the cluster's membership says about a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// `host:port` for peers.
    pub peer: String,
    /// `host:port` for clients.
    pub client: String,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} client {}", self.peer, self.client)
    }
}

/// A packed Raft entry: encoded once by the proposer, carried verbatim from there on
/// (`quorate_state_machine::entry`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryData(pub Bytes);

impl fmt::Debug for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryData({} bytes)", self.0.len())
    }
}

impl fmt::Display for EntryData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One outcome per command of the entry, in order; empty for blank and membership entries.
///
/// openraft's bounds ask for serde, but outcomes never leave the process: every replica computes
/// its own. So the content is skipped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct EntryOutcomes {
    /// In command order.
    #[serde(skip)]
    pub outcomes: Vec<Outcome>,
}

impl fmt::Display for EntryOutcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} outcomes", self.outcomes.len())
    }
}

openraft::declare_raft_types!(
    /// Our instantiation of openraft. `leader_id_std`: at most one leader per term, so that a term
    /// is a fencing token (the default, `leader_id_adv`, allows two).
    pub TypeConfig:
        D = EntryData,
        R = EntryOutcomes,
        NodeId = NodeId,
        Node = NodeAddress,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

/// openraft's aliases for our types.
pub mod alias {
    use super::TypeConfig;

    /// Term and index.
    pub type RaftLogId = openraft::alias::LogIdOf<TypeConfig>;
    /// Vote.
    pub type Vote = openraft::alias::VoteOf<TypeConfig>;
    /// Log entry.
    pub type Entry = openraft::alias::EntryOf<TypeConfig>;
    /// Membership with the log id that set it.
    pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
    /// Snapshot meta.
    pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
}
