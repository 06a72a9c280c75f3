//! [`PeerHandler`] on openraft's handle.

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    future::{Either, select},
    stream::BoxStream,
};
use openraft::{
    Raft, ReadPolicy, Snapshot,
    async_runtime::WatchReceiver as _,
    errors::{Fatal, LinearizableReadError, RaftError},
    raft::{AppendEntriesResponse, linearizable_read::LinearizerOption},
    storage::RaftStateMachine,
};

use quorate_state_machine::planted;

use super::{
    handler::{HandlerError, PeerHandler, ReadIndex, ReadRefusal, SnapshotVerdict},
    wire::{
        AppendRefusal, AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest,
        VoteResponse,
    },
};
use crate::raft::{
    snapshot_data::SnapshotDir,
    types::{
        TypeConfig,
        alias::{RaftLogId, SnapshotMeta, Vote},
    },
};

impl From<Fatal<TypeConfig>> for HandlerError {
    fn from(fatal: Fatal<TypeConfig>) -> Self {
        Self::Fatal(fatal.to_string())
    }
}

impl From<RaftError<TypeConfig>> for HandlerError {
    fn from(error: RaftError<TypeConfig>) -> Self {
        match error {
            RaftError::APIError(impossible) => match impossible {},
            RaftError::Fatal(fatal) => fatal.into(),
        }
    }
}

#[async_trait]
impl<SM> PeerHandler for Raft<TypeConfig, SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotDir>,
{
    fn append_stream(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, HandlerError>> {
        Raft::stream_append(self, requests).map(|r| r.map_err(HandlerError::from)).boxed()
    }

    /// openraft answers a heartbeat when everything that it took before is durable. A disk that is
    /// busy with what the leader itself sends would then cost the leader its lease, and the group an
    /// election that helps nobody. What a heartbeat confirms is who leads: that is so as soon as the
    /// core has taken it, once something of this leader (and so its vote) is durable here.
    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, HandlerError> {
        let (vote, prev) = (request.vote, request.prev_log_id);
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        let durable = || self.watch_log_progress().get().is_some_and(|done| done.vote == vote);
        let early = request.entries.is_empty() && durable();
        let answer = self.append_entries(request);
        let answer = if early {
            // Behind the request in the core's queue.
            let taken = self.with_raft_state(move |state| {
                let matches = |prev: &RaftLogId| {
                    let committed = state.local_committed();
                    committed.is_some_and(|id| prev.index() <= id.index())
                        || state.log_ids.get(prev.index()) == Some(*prev)
                };
                *state.vote_ref() == vote && prev.as_ref().is_none_or(matches)
            });
            match select(pin!(answer), pin!(taken)).await {
                Either::Left((answer, _)) => answer?,
                Either::Right((Ok(true), _)) => return Ok(Ok(last)),
                Either::Right((_, answer)) => answer.await?,
            }
        } else {
            answer.await?
        };
        Ok(match answer {
            AppendEntriesResponse::Success => Ok(last),
            AppendEntriesResponse::PartialSuccess(matched) => Ok(matched),
            AppendEntriesResponse::HigherVote(vote) => Err(AppendRefusal::HigherVote(vote)),
            AppendEntriesResponse::Conflict => Err(AppendRefusal::Conflict(
                prev.expect("invariant: only a request with a previous log id can conflict"),
            )),
        })
    }

    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        Ok(Raft::vote(self, request).await?)
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        Ok(Raft::pre_vote(self, request).await?)
    }

    async fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> Result<TransferResponse, HandlerError> {
        Ok(self.handle_transfer_leader(request).await?)
    }

    async fn read_index(&self) -> Result<Result<ReadIndex, ReadRefusal>, HandlerError> {
        if planted::is("no_leadership_confirmation") {
            let metrics = self.metrics().borrow_watched().clone();
            if metrics.current_leader == Some(metrics.id) {
                let read_index = metrics.local_committed.map_or(0, |id| id.index);
                return Ok(Ok(ReadIndex { term: metrics.current_term, read_index }));
            }
        }
        let option = LinearizerOption::from(ReadPolicy::ReadIndex)
            .with_wait_timeout(Duration::from_millis(self.config().election_timeout_max));
        Ok(match self.get_read_linearizer(option).await {
            Ok(linearizer) => {
                let id = linearizer.read_log_id().log_id();
                Ok(ReadIndex { term: id.committed_leader_id().term, read_index: id.index() })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => {
                Err(ReadRefusal {
                    message: "this node does not lead the group".to_owned(),
                    leader: f.leader_id,
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadRefusal {
                    message: "no quorum confirmed the leadership".to_owned(),
                    leader: None,
                })
            }
            Err(RaftError::Fatal(fatal)) => return Err(fatal.into()),
        })
    }

    async fn judge_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotVerdict, HandlerError> {
        let Some(last) = meta.last_log_id else {
            return Ok(SnapshotVerdict::Refuse("a snapshot that covers no entry".to_owned()));
        };
        let (mine, committed) = self
            .with_raft_state(|state| (*state.vote_ref(), state.local_committed().copied()))
            .await?;
        if mine > vote {
            return Ok(SnapshotVerdict::Answer(mine));
        }
        let Some(committed) = committed else { return Ok(SnapshotVerdict::Transfer) };
        Ok(if last <= committed {
            // What is committed here contains the snapshot, so the leader may count it as received.
            SnapshotVerdict::Answer(mine)
        } else if last.index <= committed.index {
            SnapshotVerdict::Refuse(format!(
                "a snapshot up to {last} contradicts {committed}, which is committed here"
            ))
        } else {
            SnapshotVerdict::Transfer
        })
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> Result<Vote, HandlerError> {
        Ok(self.install_full_snapshot(vote, Snapshot { meta, snapshot }).await?.vote)
    }
}
