//! [`PeerHandler`] on openraft's handle.

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use openraft::{
    Raft, Snapshot,
    errors::{Fatal, RaftError},
    raft::AppendEntriesResponse,
    storage::RaftStateMachine,
};

use super::{
    handler::{HandlerError, PeerHandler, SnapshotVerdict},
    wire::{
        AppendRefusal, AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest,
        VoteResponse,
    },
};
use crate::raft::{
    snapshot_data::SnapshotDir,
    types::{
        TypeConfig,
        alias::{SnapshotMeta, Vote},
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

    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, HandlerError> {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|e| e.log_id).or(prev);
        Ok(match self.append_entries(request).await? {
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
