//! THE SEAM: how frames get from one node to another, and nothing else.
//!
//! Everything above (identity, sessions, deadlines, openraft's network traits) is written against
//! [`PeerTransport`] on the calling side and [`super::endpoint::PeerEndpoint`] on the called side.
//! [`super::grpc`] joins the two over HTTP/2; a simulation joins them with a seeded network.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use quorate_proto::raft::v1 as pb;

use crate::raft::types::NodeId;

/// Whom to call, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Replica id.
    pub node_id: NodeId,
    /// `host:port`.
    pub address: String,
}

/// A frame could not be delivered, or no answer came. Whether it took effect is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection, or it broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Too many requests without an answer are under way to this peer.
    #[error("{0} requests are waiting for this peer already")]
    Overloaded(usize),
}

/// Delivers frames. Cancelling (dropping) a call or stream forgets the answer, nothing more.
#[async_trait]
pub trait PeerTransport: Send + Sync + 'static {
    /// Introduces this node.
    async fn hello(
        &self,
        to: &PeerAddress,
        request: pb::HelloRequest,
        timeout: Duration,
    ) -> Result<pb::HelloResponse, TransportError>;

    /// One request and its answer on the control lane, never behind bulk data. `seq` is the
    /// transport's to set.
    async fn control(
        &self,
        to: &PeerAddress,
        frame: pb::ControlFrame,
        timeout: Duration,
    ) -> Result<pb::ControlReplyFrame, TransportError>;

    /// Sends the frames of one session of `group` in order, several at a time, and yields their
    /// replies in the same order. Takes a frame from `frames` only when there is room for it in the
    /// group's window. Ends after the last reply, or with the first error. `seq` is the
    /// transport's to set. Has no deadline of its own.
    fn append(
        &self,
        to: &PeerAddress,
        group: u32,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> BoxStream<'static, Result<pb::AppendReplyFrame, TransportError>>;

    /// Opens one snapshot transfer. The reply stream ends after the first error.
    async fn snapshot(
        &self,
        to: &PeerAddress,
        frames: BoxStream<'static, pb::SnapshotFrame>,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<pb::SnapshotReplyFrame, TransportError>>, TransportError>;
}
