//! openraft's network traits on top of [`PeerClient`]: which message takes which lane, with which
//! deadline, and what openraft is told when it fails.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use openraft::{
    OptionalSend, RPCTypes,
    errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{
        Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
        RaftNetworkFactory,
    },
    raft::SnapshotResponse,
};
use quorate_proto::raft::v1::{control_frame::Request, control_reply_frame::Reply};

use super::{
    append_stream::AppendStream,
    client::{CallError, PeerClient},
    confirmed::Confirmed,
    pace::{LastAppended, Paced},
    snapshot_send,
    transport::{PeerAddress, TransportError},
    wire::{
        self, AppendRequest, AppendResult, TransferRequest, TransferResponse, VoteRequest,
        VoteResponse, WireError,
    },
};
use crate::raft::{
    catching_up::CatchingUp,
    snapshot_data::SnapshotDir,
    types::{NodeAddress, NodeId, TypeConfig, alias::Vote},
};

/// Makes one group's connections.
#[derive(Clone)]
pub struct NetworkFactory {
    client: Arc<PeerClient>,
    group: u32,
    catching_up: CatchingUp,
    /// Outlives the connections, as a peer may lose its disk between two of them.
    confirmed: Arc<Mutex<BTreeMap<NodeId, Confirmed>>>,
    last_appended: LastAppended,
}

impl NetworkFactory {
    /// For the group numbered `group`, calling through `client`. `last_appended` tells the index of
    /// the last entry in this node's log of the group, at once.
    #[must_use]
    pub fn new(
        client: Arc<PeerClient>,
        group: u32,
        last_appended: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            client,
            group,
            catching_up: CatchingUp::default(),
            confirmed: Arc::default(),
            last_appended: Arc::new(last_appended),
        }
    }

    /// Which replicas are being sent a snapshot.
    #[must_use]
    pub fn catching_up(&self) -> &CatchingUp {
        &self.catching_up
    }

    fn network(&self, target: NodeId, node: &NodeAddress, heartbeats: bool) -> Network {
        let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        Network {
            client: self.client.clone(),
            group: self.group,
            to: PeerAddress { node_id: target, address: node.peer.clone() },
            catching_up: self.catching_up.clone(),
            confirmed: confirmed.entry(target).or_default().clone(),
            last_appended: self.last_appended.clone(),
            heartbeats,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: NodeId, node: &NodeAddress) -> Network {
        self.network(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &NodeAddress) -> Network {
        self.network(target, node, true)
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &NodeAddress) -> Network {
        // Snapshots have a lane of their own in any case (`full_snapshot`).
        self.network(target, node, false)
    }
}

/// One group's way to one peer. Cheap: the connections belong to the transport.
pub struct Network {
    client: Arc<PeerClient>,
    group: u32,
    to: PeerAddress,
    /// AppendEntries of this client are heartbeats: they take the control lane.
    heartbeats: bool,
    catching_up: CatchingUp,
    confirmed: Confirmed,
    last_appended: LastAppended,
}

impl Network {
    async fn control(&self, request: Request, timeout: Duration) -> Result<Reply, CallError> {
        self.client.control(&self.to, self.group, request, timeout).await
    }

    async fn heartbeat(
        &self,
        request: AppendRequest,
        timeout: Duration,
    ) -> Result<AppendResult, CallError> {
        let frame = wire::append_frame(None, 0, request);
        match self.control(Request::Heartbeat(frame), timeout).await? {
            Reply::Heartbeat(reply) => wire::append_result(&reply)
                .map_err(|e| self.client.malformed(&self.to, e))?
                .map_err(|error| self.client.remote(&self.to, error)),
            _ => Err(self.wrong_reply()),
        }
    }

    async fn ask_vote(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<VoteResponse, CallError> {
        match self.control(request, timeout).await? {
            Reply::Vote(reply) => {
                wire::vote_reply(&reply).map_err(|e| self.client.malformed(&self.to, e))
            }
            _ => Err(self.wrong_reply()),
        }
    }

    fn wrong_reply(&self) -> CallError {
        let what = "the reply answers another kind of request".to_owned();
        self.client.malformed(&self.to, WireError::Inconsistent(what))
    }

    /// Only votes and transfers tell openraft of a timeout as such: their caller just gives up.
    fn timed_out(&self, action: RPCTypes, e: &CallError) -> RPCError<TypeConfig> {
        match e {
            CallError::Transport(TransportError::Timeout(timeout)) => Timeout {
                action,
                id: self.client.me().node_id,
                target: self.to.node_id,
                timeout: *timeout,
            }
            .into(),
            other => rpc_error(other),
        }
    }
}

/// On the replication path every failure means: back off, then try again. Timeouts too, since the
/// deadline is long and whatever made the peer miss it is not over at once.
pub(super) fn rpc_error(e: &CallError) -> RPCError<TypeConfig> {
    Unreachable::from_string(e).into()
}

impl NetBackoff<TypeConfig> for Network {
    fn backoff(&self) -> Option<Backoff> {
        // `Config::backoff` (raft/settings) says it in one place.
        None
    }
}

impl NetStreamAppend<TypeConfig> for Network {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<AppendResult, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            // One at a time, each bounded by openraft's own (hard) limit: an acknowledgement that
            // arrives within it still counts.
            let (this, timeout) = (&*self, option.hard_ttl());
            let beats = input.then(move |request| async move {
                this.heartbeat(request, timeout).await.map_err(|e| rpc_error(&e))
            });
            return Box::pin(async move { Ok(beats.boxed()) });
        }
        Box::pin(async move {
            let (client, to) = (self.client.clone(), self.to.clone());
            let timeout = client.options().connect_timeout;
            client.greet(&to, timeout).await.map_err(|e| rpc_error(&e))?;
            let requests = Paced::new(input, self.last_appended.clone());
            Ok(AppendStream::new(client, to, self.group, self.confirmed.clone(), requests).boxed())
        })
    }
}

impl NetVote<TypeConfig> for Network {
    async fn vote(
        &mut self,
        rpc: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        let request = Request::Vote(wire::vote_frame(&rpc));
        let answer = self.ask_vote(request, option.soft_ttl()).await;
        answer.map_err(|e| self.timed_out(RPCTypes::Vote, &e))
    }

    /// An unreachable peer is an error: a made-up grant would let an isolated node inflate its term.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest,
        option: RPCOption,
    ) -> Result<VoteResponse, RPCError<TypeConfig>> {
        let request = Request::PreVote(wire::vote_frame(&rpc));
        let answer = self.ask_vote(request, option.soft_ttl()).await;
        answer.map_err(|e| self.timed_out(RPCTypes::Vote, &e))
    }
}

impl NetTransferLeader<TypeConfig> for Network {
    async fn transfer_leader(
        &mut self,
        req: TransferRequest,
        option: RPCOption,
    ) -> Result<TransferResponse, RPCError<TypeConfig>> {
        let request = Request::TransferLeader(wire::transfer_frame(&req));
        let answer = match self.control(request, option.soft_ttl()).await {
            Ok(Reply::TransferLeader(reply)) => {
                wire::transfer_reply(&reply).map_err(|e| self.client.malformed(&self.to, e))
            }
            Ok(_) => Err(self.wrong_reply()),
            Err(e) => Err(e),
        };
        answer.map_err(|e| self.timed_out(RPCTypes::TransferLeader, &e))
    }
}

impl NetSnapshot<TypeConfig> for Network {
    type SnapshotData = SnapshotDir;

    /// The option's time limit is on the whole transfer and not used: a transfer may take as long
    /// as it makes progress (`PeerOptions::snapshot_stall`).
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let index = snapshot.meta.last_log_id.map_or(0, |last| last.index);
        let _on_its_way = self.catching_up.begin(self.to.node_id, index);
        let transfer = snapshot_send::send(&self.client, &self.to, self.group, vote, snapshot);
        tokio::select! {
            biased;
            closed = cancel => Err(closed.into()),
            result = transfer => result.map(SnapshotResponse::new),
        }
    }
}
