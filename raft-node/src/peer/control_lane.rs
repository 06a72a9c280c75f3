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
    handler::{HandlerError, PeerHandler, ReadIndex, ReadRefusal},
    probe,
    wire::{
        append_request, append_result_frame, transfer_reply_frame, transfer_request,
        vote_reply_frame, vote_request,
    },
};
use crate::{raft::types::NodeId, runtime};

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
    let me = shared.me.node_id;
    let groups = probe.groups.iter().map(|&group| async move {
        match shared.host.group(group) {
            Some(handler) => group_read_index(group, me, handler.read_index()).await,
            None => refused(group, format!("group {group} is not running here"), None),
        }
    });
    pb::ReadProbeReply { nonce: probe.nonce, groups: join_all(groups).await }
}

/// One group's part of the answer. A group without a quorum is answered for in time as well: the
/// others' proofs wait for it.
async fn group_read_index(
    group: u32,
    me: NodeId,
    round: impl Future<Output = Result<Result<ReadIndex, ReadRefusal>, HandlerError>>,
) -> pb::GroupReadIndex {
    match runtime::timeout(probe::ROUND_WITHIN, round).await {
        Ok(Ok(Ok(confirmed))) => pb::GroupReadIndex {
            group,
            term: confirmed.term,
            read_index: confirmed.read_index,
            refused: String::new(),
            leader: me,
        },
        Ok(Ok(Err(refusal))) => refused(group, refusal.message, refusal.leader),
        Ok(Err(e)) => refused(group, e.to_string(), None),
        Err(_) => refused(
            group,
            format!("no quorum confirmed the leadership within {:?}", probe::ROUND_WITHIN),
            None,
        ),
    }
}

fn refused(group: u32, why: String, leader: Option<NodeId>) -> pb::GroupReadIndex {
    let leader = leader.unwrap_or_default();
    pb::GroupReadIndex { group, refused: why, leader, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_group_without_a_quorum_holds_up_the_others_for_less_than_a_probe_lasts() {
        let begun = runtime::now();
        let confirmed = ReadIndex { term: 3, read_index: 8 };
        let (slow, well) = futures::join!(
            group_read_index(0, 2, pending()),
            group_read_index(1, 2, ready(Ok(Ok(confirmed)))),
        );
        assert!(begun.elapsed() < probe::TIMEOUT, "{:?}", begun.elapsed());
        assert_eq!((well.group, well.term, well.read_index, well.leader), (1, 3, 8, 2));
        assert_eq!(well.refused, "");
        assert_eq!((slow.group, slow.read_index, slow.leader), (0, 0, 0));
        assert_eq!(slow.refused, "no quorum confirmed the leadership within 500ms");
    }
}
