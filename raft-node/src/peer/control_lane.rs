//! The called side of a control lane: every request is answered on its own, as soon as its group
//! has decided, so a slow group delays nobody's heartbeat or vote.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::{BoxFuture, join_all},
    stream::{BoxStream, FuturesUnordered},
};
use quorate_proto::raft::v1::{
    self as pb, control_frame::Request, control_reply_frame::Reply, peer_error::Kind,
};

use super::{
    endpoint::{Shared, error, speaks_for_itself},
    handler::PeerHandler,
    wire::{
        append_request, append_result_frame, transfer_reply_frame, transfer_request,
        vote_reply_frame, vote_request,
    },
};
use crate::raft::types::NodeId;

pub(super) struct ControlLane {
    shared: Arc<Shared>,
    /// `None` once the caller is gone.
    frames: Option<BoxStream<'static, pb::ControlFrame>>,
    /// At most `options.control_in_flight`; beyond that no more frames are read.
    pending: FuturesUnordered<BoxFuture<'static, pb::ControlReplyFrame>>,
}

impl ControlLane {
    pub(super) fn new(shared: Arc<Shared>, frames: BoxStream<'static, pb::ControlFrame>) -> Self {
        Self { shared, frames: Some(frames), pending: FuturesUnordered::new() }
    }
}

impl Stream for ControlLane {
    type Item = pb::ControlReplyFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lane = &mut *self;
        loop {
            if let Poll::Ready(Some(reply)) = lane.pending.poll_next_unpin(cx) {
                return Poll::Ready(Some(reply));
            }
            if lane.pending.len() >= lane.shared.options.control_in_flight {
                return Poll::Pending;
            }
            let Some(frames) = &mut lane.frames else {
                let done = lane.pending.is_empty();
                return if done { Poll::Ready(None) } else { Poll::Pending };
            };
            match frames.poll_next_unpin(cx) {
                Poll::Ready(Some(frame)) => {
                    lane.pending.push(answer(lane.shared.clone(), frame).boxed());
                }
                Poll::Ready(None) => lane.frames = None,
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

async fn answer(shared: Arc<Shared>, frame: pb::ControlFrame) -> pb::ControlReplyFrame {
    let (caller, group) = frame.identity.as_ref().map_or((0, 0), |i| (i.from, i.group));
    let (seq, identity) = (frame.seq, shared.me.frame(caller, group));
    let reply = decide(&shared, frame).await.unwrap_or_else(Reply::Error);
    pb::ControlReplyFrame { identity: Some(identity), seq, reply: Some(reply) }
}

async fn decide(shared: &Shared, frame: pb::ControlFrame) -> Result<Reply, pb::PeerError> {
    let (from, handler) = shared.route(frame.identity.as_ref())?;
    match frame.request {
        Some(Request::Heartbeat(heartbeat)) => answer_heartbeat(from, &*handler, heartbeat).await,
        Some(Request::Vote(request)) => {
            let request = vote_request(&request)?;
            speaks_for_itself(from, request.vote.leader_id.voted_for)?;
            Ok(Reply::Vote(vote_reply_frame(&handler.vote(request).await?)))
        }
        Some(Request::PreVote(request)) => {
            let request = vote_request(&request)?;
            speaks_for_itself(from, request.vote.leader_id.voted_for)?;
            Ok(Reply::Vote(vote_reply_frame(&handler.pre_vote(request).await?)))
        }
        Some(Request::TransferLeader(request)) => {
            let request = transfer_request(&request)?;
            speaks_for_itself(from, request.from_leader().leader_id.voted_for)?;
            let answer = handler.transfer_leader(request).await?;
            Ok(Reply::TransferLeader(transfer_reply_frame(&answer)))
        }
        Some(Request::ReadProbe(probe)) => {
            if probe.groups.len() > shared.me.groups as usize {
                return Err(error(Kind::Malformed, "a read probe for more groups than there are"));
            }
            Ok(Reply::ReadProbe(answer_probe(shared, probe).await))
        }
        None => Err(error(Kind::Unsupported, "a control request of an unknown kind")),
    }
}

async fn answer_heartbeat(
    from: NodeId,
    handler: &dyn PeerHandler,
    frame: pb::AppendFrame,
) -> Result<Reply, pb::PeerError> {
    let seq = frame.seq;
    let request = append_request(frame)?;
    speaks_for_itself(from, request.vote.leader_id.voted_for)?;
    let result = handler.heartbeat(request).await?;
    // The outer frame names both ends.
    Ok(Reply::Heartbeat(append_result_frame(None, seq, &result)))
}

/// Asks every group at once: each answer costs a round of the group's leader to its quorum.
async fn answer_probe(shared: &Shared, probe: pb::ReadProbe) -> pb::ReadProbeReply {
    let groups = probe.groups.iter().map(|&group| async move {
        let refused = |refused: String, leader| pb::GroupReadIndex {
            group,
            refused,
            leader,
            ..Default::default()
        };
        let Some(handler) = shared.host.group(group) else {
            return refused(format!("group {group} is not running here"), 0);
        };
        match handler.read_index().await {
            Ok(Ok(confirmed)) => pb::GroupReadIndex {
                group,
                term: confirmed.term,
                read_index: confirmed.read_index,
                refused: String::new(),
                leader: shared.me.node_id,
            },
            Ok(Err(refusal)) => refused(refusal.message, refusal.leader.unwrap_or(0)),
            Err(e) => refused(e.to_string(), 0),
        }
    });
    pb::ReadProbeReply { nonce: probe.nonce, groups: join_all(groups).await }
}
