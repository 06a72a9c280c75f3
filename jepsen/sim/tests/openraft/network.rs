//! A network in memory whose messages are late for as long as a test wants. None is ever lost, and
//! none overtakes another on its stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::{
    AnyError, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2,
    alias::{SnapshotOf, VoteOf},
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    impls::BasicNode,
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        VoteRequest, VoteResponse,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::store::{Machine, Plain};

pub type Node = Raft<Plain, Machine>;

/// One way between two nodes.
pub type Way = (u64, u64);

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<u64, Node>,
    /// Requests that were sent on appends' streams, by way.
    appends: BTreeMap<Way, u64>,
    /// Heartbeats that were sent, by way.
    heartbeats: BTreeMap<Way, u64>,
}

/// Messages that are late, from one node to another.
#[derive(Clone, Default, PartialEq, Eq)]
struct Late {
    /// Calls of the first node to the second.
    calls: BTreeSet<Way>,
    /// Answers of the first node to the second's calls.
    answers: BTreeSet<Way>,
}

/// The network.
#[derive(Clone)]
pub struct Network {
    wires: Arc<Mutex<Wires>>,
    late: watch::Sender<Late>,
}

impl Network {
    pub fn new() -> Self {
        Self { wires: Arc::default(), late: watch::Sender::new(Late::default()) }
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn plug(&self, id: u64, node: Node) {
        self.wires().nodes.insert(id, node);
    }

    pub fn unplug(&self, id: u64) {
        self.wires().nodes.remove(&id);
    }

    /// Calls on this way arrive only when this is taken back.
    pub fn delay_calls(&self, way: Way) {
        self.late.send_if_modified(|late| late.calls.insert(way));
    }

    /// Answers on this way arrive only when this is taken back.
    pub fn delay_answers(&self, way: Way) {
        self.late.send_if_modified(|late| late.answers.insert(way));
    }

    /// Answers on this way arrive now.
    pub fn deliver_answers(&self, way: Way) {
        self.late.send_if_modified(|late| late.answers.remove(&way));
    }

    /// Requests that were sent on streams of appends.
    pub fn appends(&self, way: Way) -> u64 {
        self.wires().appends.get(&way).copied().unwrap_or(0)
    }

    /// Heartbeats that were sent.
    pub fn heartbeats(&self, way: Way) -> u64 {
        self.wires().heartbeats.get(&way).copied().unwrap_or(0)
    }

    async fn once(&self, late: impl Fn(&Late) -> bool) {
        let in_time = self.late.subscribe().wait_for(|state| !late(state)).await.is_ok();
        assert!(in_time, "the network is there as long as it is waited for");
    }

    async fn called(&self, way: Way) {
        self.once(move |late| late.calls.contains(&way)).await;
    }

    async fn answered(&self, way: Way) {
        self.once(move |late| late.answers.contains(&way)).await;
    }

    fn node(&self, id: u64) -> Result<Node, RPCError<Plain>> {
        self.wires().nodes.get(&id).cloned().ok_or_else(|| unreachable(&"it is down"))
    }
}

fn unreachable(why: &impl ToString) -> RPCError<Plain> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why.to_string())))
}

/// The network as one node has it.
pub struct Socket {
    pub network: Network,
    pub id: u64,
}

/// The calls of one node to another.
pub struct Calls {
    network: Network,
    from: u64,
    to: u64,
    heartbeats: bool,
}

impl RaftNetworkFactory<Plain> for Socket {
    type Network = Calls;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Calls {
        Calls { network: self.network.clone(), from: self.id, to, heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, to: u64, _: &BasicNode) -> Calls {
        Calls { network: self.network.clone(), from: self.id, to, heartbeats: true }
    }
}

impl Calls {
    fn count(&self) {
        let mut wires = self.network.wires();
        let counts = if self.heartbeats { &mut wires.heartbeats } else { &mut wires.appends };
        *counts.entry((self.from, self.to)).or_default() += 1;
    }
}

type Answer = Result<StreamAppendResult<Plain>, RPCError<Plain>>;

impl RaftNetworkV2<Plain> for Calls {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Plain>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Plain>, RPCError<Plain>> {
        Err(unreachable(&"appends are sent on streams"))
    }

    /// What is sent leaves at once, whatever was answered of what left before: a pipeline.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Answer>, RPCError<Plain>>>
    where
        S: Stream<Item = AppendEntriesRequest<Plain>> + OptionalSend + Unpin + 'static,
    {
        let (network, from, to, heartbeats) =
            (self.network.clone(), self.from, self.to, self.heartbeats);
        async move {
            let (sent, sending) = mpsc::unbounded_channel();
            let me = Self { network: network.clone(), from, to, heartbeats };
            tokio::spawn(async move {
                let mut input = input;
                while let Some(request) = input.next().await {
                    me.count();
                    if sent.send(request).is_err() {
                        return;
                    }
                }
            });
            let arriving = {
                let network = network.clone();
                UnboundedReceiverStream::new(sending).then(move |request| {
                    let network = network.clone();
                    async move {
                        network.called((from, to)).await;
                        request
                    }
                })
            };
            let answers: BoxStream<'static, Answer> = match network.node(to) {
                Ok(node) => node
                    .stream_append(arriving)
                    .map(|done| done.map_err(|e| unreachable(&e)))
                    .boxed(),
                Err(down) => stream::once(async move { Err(down) }).boxed(),
            };
            let answers = answers.then(move |answer| {
                let network = network.clone();
                async move {
                    network.answered((to, from)).await;
                    answer
                }
            });
            Ok(answers.boxed())
        }
        .boxed()
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Plain>,
        _: RPCOption,
    ) -> Result<VoteResponse<Plain>, RPCError<Plain>> {
        self.network.called((self.from, self.to)).await;
        let answer = self.network.node(self.to)?.vote(request).await.map_err(|e| unreachable(&e));
        self.network.answered((self.to, self.from)).await;
        answer
    }

    async fn full_snapshot(
        &mut self,
        _: VoteOf<Plain>,
        _: SnapshotOf<Plain, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Plain>, StreamingError<Plain>> {
        Err(StreamingError::Unreachable(Unreachable::new(&AnyError::error(
            "there are no snapshots here",
        ))))
    }
}
