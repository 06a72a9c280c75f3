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

/// Our instantiation of openraft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = EntryData;
    type R = EntryOutcomes;
    type NodeId = NodeId;
    type Node = NodeAddress;
    type Term = u64;
    /// At most one leader per term, so that a term is a fencing token (openraft's default,
    /// `leader_id_adv`, allows two).
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<EntryData, NodeId, NodeAddress>;
    type Entry = openraft::Entry<openraft::alias::CommittedLeaderIdOf<Self>, Self::Payload>;
    type Responder<T>
        = Completion<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What openraft does with the result of a write: calls this, from the task that applied the entry.
/// Waking the waiting requests right there saves a task and a wake-up per entry. Dropped without a
/// call when the group's core stops: the waiters see their channel closed.
pub struct Completion<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Completion<T> {
    /// Wraps `done`, which must not block.
    pub fn new(done: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(done))
    }
}

impl<T: openraft::OptionalSend + 'static> openraft::raft::responder::Responder<TypeConfig, T>
    for Completion<T>
{
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

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
