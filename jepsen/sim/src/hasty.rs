//! A planted fault: a follower that acknowledges before anything is on its disk.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use quorate_raft_node::{
    peer::{
        handler::{HandlerError, PeerHandler, ReadIndex, ReadRefusal, SnapshotVerdict},
        wire::{
            AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest,
            VoteResponse,
        },
    },
    raft::{
        snapshot_data::SnapshotDir,
        types::alias::{SnapshotMeta, Vote},
    },
    runtime,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// See the module.
pub(crate) struct Hasty(pub Arc<dyn PeerHandler>);

#[async_trait]
impl PeerHandler for Hasty {
    fn append_stream(
        &self,
        mut requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, HandlerError>> {
        let (early, results) = mpsc::unbounded_channel();
        let (forward, queue) = mpsc::unbounded_channel();
        let mut late = self.0.append_stream(UnboundedReceiverStream::new(queue).boxed());
        runtime::spawn(async move {
            let mut first = true;
            while let Some(request) = requests.next().await {
                let last = request.entries.last().map(|e| e.log_id).or(request.prev_log_id);
                let _ = forward.send(request);
                // The first tells whether the logs match; from then on it is said in advance.
                let result = if first { late.next().await } else { Some(Ok(Ok(last))) };
                let Some(result) = result else { return };
                first = false;
                let _ = early.send(result);
            }
            while late.next().await.is_some() {}
        });
        UnboundedReceiverStream::new(results).boxed()
    }

    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, HandlerError> {
        self.0.heartbeat(request).await
    }

    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        self.0.vote(request).await
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        self.0.pre_vote(request).await
    }

    async fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> Result<TransferResponse, HandlerError> {
        self.0.transfer_leader(request).await
    }

    async fn read_index(&self) -> Result<Result<ReadIndex, ReadRefusal>, HandlerError> {
        self.0.read_index().await
    }

    async fn judge_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotVerdict, HandlerError> {
        self.0.judge_snapshot(vote, meta).await
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> Result<Vote, HandlerError> {
        self.0.install_snapshot(vote, meta, snapshot).await
    }
}
