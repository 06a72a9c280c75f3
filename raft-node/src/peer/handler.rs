//! What the transport asks of the node behind it. The only trait an implementation of a group has
//! to satisfy to be reachable by its peers; [`super::raft_handler`] is the real one.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::wire::{
    AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest, VoteResponse,
};
use crate::raft::{
    snapshot_data::SnapshotDir,
    types::{
        NodeId,
        alias::{SnapshotMeta, Vote},
    },
};

/// A request could not be answered at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The group's core has stopped.
    #[error("the group has stopped: {0}")]
    Fatal(String),
    /// This version does not do that.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}

/// What to do with a snapshot that a leader offers, judged before a byte of it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotVerdict {
    /// It is needed.
    Transfer,
    /// Nothing to send: this replica already has committed all of it, or follows a later leader.
    /// Answer with its vote.
    Answer(Vote),
    /// No correct leader could have sent it.
    Refuse(String),
}

/// A confirmed read index (DESIGN, proven age).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// The leader's term.
    pub term: u64,
    /// Everything acknowledged before the probe was sent is at or below this log index.
    pub read_index: u64,
}

/// Why there is no read index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRefusal {
    /// For people.
    pub message: String,
    /// Who may know better.
    pub leader: Option<NodeId>,
}

/// One group of this node, as its peers reach it.
#[async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// Takes a stream of AppendEntries and yields one result each, in order, when it is durable.
    /// Ends after the first result that is not a success.
    fn append_stream(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, HandlerError>>;

    /// A heartbeat, or a single AppendEntries.
    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, HandlerError>;

    /// A candidate asks for a vote.
    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError>;

    /// A candidate asks whether it would get one.
    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError>;

    /// The leader asks this node to take over.
    async fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> Result<TransferResponse, HandlerError>;

    /// A follower asks for a read index confirmed by a quorum after the request arrived.
    async fn read_index(&self) -> Result<Result<ReadIndex, ReadRefusal>, HandlerError> {
        Err(HandlerError::Unsupported("read probes"))
    }

    /// Judges an offered snapshot. `meta` is consistent in itself and with `vote`.
    async fn judge_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotVerdict, HandlerError>;

    /// Installs a snapshot that arrived complete, and answers with this replica's vote. The files
    /// are the handler's to rename or link; what is left is removed afterwards.
    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> Result<Vote, HandlerError>;
}

/// The node, as its peers see it.
pub trait PeerHost: Send + Sync + 'static {
    /// A group, or `None` while it is not running.
    fn group(&self, group: u32) -> Option<Arc<dyn PeerHandler>>;
    /// True while the disk holds neither vote nor entry of any group.
    fn fresh(&self) -> bool;
    /// The groups of which the disk holds neither vote nor entry. None of them while that is not
    /// known: then nobody creates a group with this node.
    fn fresh_groups(&self) -> Vec<u32> {
        Vec::new()
    }
    /// The node ids of the first membership as configured here, told to peers. Empty if it is not
    /// known, and then nobody creates a cluster with this node.
    fn nodes(&self) -> Vec<NodeId> {
        Vec::new()
    }
    /// `host:port` for clients, told to peers.
    fn client_address(&self) -> String;
    /// `host:port` for peers, told to peers.
    fn peer_address(&self) -> String;
}
