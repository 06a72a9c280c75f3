//! Notes when a group last heard of its leader: a hint for probes of readiness, and for them only.
//! It is no evidence of freshness (`crate::read::freshness` says why).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};

use super::{
    handler::{HandlerError, PeerHandler, ReadIndex, ReadRefusal, SnapshotVerdict},
    wire::{
        AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest, VoteResponse,
    },
};
use crate::{
    raft::{
        snapshot_data::SnapshotDir,
        types::alias::{SnapshotMeta, Vote},
    },
    runtime,
};

/// The last message of a leader that was accepted.
#[derive(Clone, Debug)]
pub struct Contact {
    /// Milliseconds from `start`, plus one; 0: never.
    last: Arc<AtomicU64>,
    start: runtime::Instant,
}

impl Default for Contact {
    fn default() -> Self {
        Self { last: Arc::default(), start: runtime::now() }
    }
}

impl Contact {
    fn note(&self) {
        let now = self.start.elapsed().as_millis() as u64 + 1;
        self.last.store(now, Ordering::Relaxed);
    }

    /// How long ago; `None`: never.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start.elapsed().saturating_sub(Duration::from_millis(last)))
    }
}

/// A handler whose leader's messages are noted.
pub struct Watched<H> {
    inner: H,
    contact: Contact,
}

impl<H> Watched<H> {
    /// Watches `inner`.
    #[must_use]
    pub fn new(inner: H, contact: Contact) -> Self {
        Self { inner, contact }
    }
}

#[async_trait]
impl<H: PeerHandler> PeerHandler for Watched<H> {
    fn append_stream(
        &self,
        requests: BoxStream<'static, AppendRequest>,
    ) -> BoxStream<'static, Result<AppendResult, HandlerError>> {
        let contact = self.contact.clone();
        let note = move |result: &Result<AppendResult, HandlerError>| {
            if matches!(result, Ok(Ok(_))) {
                contact.note();
            }
        };
        self.inner.append_stream(requests).inspect(note).boxed()
    }

    async fn heartbeat(&self, request: AppendRequest) -> Result<AppendResult, HandlerError> {
        let result = self.inner.heartbeat(request).await?;
        if result.is_ok() {
            self.contact.note();
        }
        Ok(result)
    }

    async fn vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        self.inner.vote(request).await
    }

    async fn pre_vote(&self, request: VoteRequest) -> Result<VoteResponse, HandlerError> {
        self.inner.pre_vote(request).await
    }

    async fn transfer_leader(
        &self,
        request: TransferRequest,
    ) -> Result<TransferResponse, HandlerError> {
        self.inner.transfer_leader(request).await
    }

    async fn read_index(&self) -> Result<Result<ReadIndex, ReadRefusal>, HandlerError> {
        self.inner.read_index().await
    }

    async fn judge_snapshot(
        &self,
        vote: Vote,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotVerdict, HandlerError> {
        self.inner.judge_snapshot(vote, meta).await
    }

    async fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        snapshot: SnapshotDir,
    ) -> Result<Vote, HandlerError> {
        self.inner.install_snapshot(vote, meta, snapshot).await
    }
}
