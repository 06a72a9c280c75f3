//! The called side: checks who calls, and hands frames to the group they are for.
//!
//! Knows nothing of HTTP; [`super::service`] (or a simulation) feeds it frames and carries its
//! replies back.

use std::sync::Arc;

use futures::{Stream, stream::BoxStream};
use quorate_proto::raft::v1 as pb;
use uuid::Uuid;

use super::{
    append_lane::AppendLane,
    book::{BookError, PeerBook},
    control_lane::ControlLane,
    handler::{HandlerError, PeerHandler, PeerHost},
    identity::{LocalIdentity, Mismatch, check, check_addressing},
    options::PeerOptions,
    snapshot_receive::SnapshotReceiver,
    stats::PeerStats,
    wire::WireError,
};
use crate::{raft::types::NodeId, runtime};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct PeerEndpoint {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) me: LocalIdentity,
    pub(super) book: Arc<PeerBook>,
    pub(super) host: Arc<dyn PeerHost>,
    pub(super) options: PeerOptions,
    pub(super) stats: Arc<PeerStats>,
    pub(super) snapshots: SnapshotReceiver,
}

impl PeerEndpoint {
    /// An endpoint for `host`. Snapshots arrive through `snapshots`.
    #[must_use]
    pub fn new(
        me: LocalIdentity,
        book: Arc<PeerBook>,
        host: Arc<dyn PeerHost>,
        snapshots: SnapshotReceiver,
        options: PeerOptions,
        stats: Arc<PeerStats>,
    ) -> Self {
        Self { shared: Arc::new(Shared { me, book, host, options, stats, snapshots }) }
    }

    /// Answers a Hello, and pins the caller's disk if it is the first.
    ///
    /// # Errors
    /// [`BookError::Io`] if the pin could not be made durable. Refusals are not errors: they are in
    /// the response.
    pub async fn hello(&self, request: pb::HelloRequest) -> Result<pb::HelloResponse, BookError> {
        let shared = &self.shared;
        let caller = request.identity.as_ref();
        let (from, known) = match caller {
            Some(identity) => (identity.from, shared.book.known(identity.from)),
            None => (0, None),
        };
        let refused = match self.admit(&request).await {
            Ok(()) => None,
            Err(BookError::Mismatch(mismatch)) => Some(mismatch),
            Err(error) => return Err(error),
        };
        if let Some(mismatch) = &refused {
            tracing::warn!(caller = from, address = %request.peer_address, "refused a Hello: {mismatch}");
            PeerStats::count(&shared.stats.refused_callers);
        }
        Ok(pb::HelloResponse {
            identity: Some(shared.me.frame(from, 0)),
            groups: shared.me.groups,
            fresh: shared.host.fresh(),
            nodes: shared.host.nodes(),
            fresh_groups: shared.host.fresh_groups(),
            client_address: shared.host.client_address(),
            peer_address: shared.host.peer_address(),
            known_uuid: known.map(|uuid| uuid.to_vec().into()).unwrap_or_default(),
            reason: refused.as_ref().and_then(Mismatch::reason).unwrap_or_default().into(),
            refused: refused.map(|m| m.to_string()).unwrap_or_default(),
        })
    }

    async fn admit(&self, request: &pb::HelloRequest) -> Result<(), BookError> {
        let me = &self.shared.me;
        let identity = request.identity.as_ref().ok_or(Mismatch::Malformed("identity"))?;
        let uuid = check_addressing(me, identity)?;
        if request.groups != me.groups {
            return Err(Mismatch::GroupCount {
                theirs: request.groups,
                ours: me.groups,
                me: me.node_id,
            }
            .into());
        }
        pin(&self.shared.book, identity.from, uuid, me.node_id).await
    }

    /// Serves one append lane: one reply a frame, per session in frame order.
    pub fn append(
        &self,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> impl Stream<Item = pb::AppendReplyFrame> + Send + 'static {
        AppendLane::new(self.shared.clone(), frames)
    }

    /// Serves one control lane: one reply a frame, as they get ready.
    pub fn control(
        &self,
        frames: BoxStream<'static, pb::ControlFrame>,
    ) -> impl Stream<Item = pb::ControlReplyFrame> + Send + 'static {
        ControlLane::new(self.shared.clone(), frames)
    }

    /// Serves one snapshot transfer.
    pub fn snapshot(
        &self,
        frames: BoxStream<'static, pb::SnapshotFrame>,
    ) -> impl Stream<Item = pb::SnapshotReplyFrame> + Send + 'static {
        super::snapshot_receive::serve(self.shared.clone(), frames)
    }
}

/// Pins a disk without blocking the runtime on the fsync.
pub(super) async fn pin(
    book: &Arc<PeerBook>,
    node: NodeId,
    uuid: [u8; 16],
    me: NodeId,
) -> Result<(), BookError> {
    match book.known(node) {
        Some(known) if known == uuid => Ok(()),
        Some(known) => Err(Mismatch::ReplacedDisk {
            node,
            known: Uuid::from_bytes(known),
            now: Uuid::from_bytes(uuid),
        }
        .into()),
        None => {
            let book = book.clone();
            runtime::blocking(move || book.pin(node, uuid, me)).await
        }
    }
}

impl Shared {
    /// The sender of a frame and the group it is for, or the error to answer with.
    pub(super) fn route(
        &self,
        identity: Option<&pb::Identity>,
    ) -> Result<(NodeId, Arc<dyn PeerHandler>), pb::PeerError> {
        let from = check(&self.me, &self.book, identity).map_err(|mismatch| {
            if mismatch.reason().is_some() {
                tracing::warn!("refused a frame: {mismatch}");
                PeerStats::count(&self.stats.refused_callers);
            }
            mismatch.to_frame()
        })?;
        let group = identity.map_or(0, |i| i.group);
        match self.host.group(group) {
            Some(handler) => Ok((from, handler)),
            None => Err(error(
                pb::peer_error::Kind::Unavailable,
                format!("group {group} is not running on node {}", self.me.node_id),
            )),
        }
    }
}

/// A leader or candidate speaks for itself only.
pub(super) fn speaks_for_itself(from: NodeId, voted_for: NodeId) -> Result<(), WireError> {
    if from == voted_for {
        return Ok(());
    }
    Err(WireError::Inconsistent(format!("node {from} sent a vote of node {voted_for}")))
}

/// An error frame without an identity reason.
pub(super) fn error(kind: pb::peer_error::Kind, message: impl Into<String>) -> pb::PeerError {
    pb::PeerError { kind: kind.into(), message: message.into(), reason: 0 }
}

impl From<HandlerError> for pb::PeerError {
    fn from(e: HandlerError) -> Self {
        let kind = match &e {
            HandlerError::Fatal(_) => pb::peer_error::Kind::Fatal,
            HandlerError::Unsupported(_) => pb::peer_error::Kind::Unsupported,
        };
        error(kind, e.to_string())
    }
}

impl From<WireError> for pb::PeerError {
    fn from(e: WireError) -> Self {
        error(pb::peer_error::Kind::Malformed, e.to_string())
    }
}
