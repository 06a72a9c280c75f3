//! The seam between nodes, joined by the world's network: what `peer::grpc` and `peer::service` do
//! over HTTP/2. Everything above and below it is the real code.
//!
//! One append lane per pair of nodes for all groups and sessions, which breaks as a whole; control
//! requests travel on their own and get lost, late or doubled one by one, which is more than HTTP/2
//! would do to them; a snapshot transfer has a connection of its own.

mod lane;
mod transfer;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use lane::{AppendAnswer, Lane, Session};
use quorate_proto::raft::v1 as pb;
use quorate_raft_node::{
    peer::{
        endpoint::PeerEndpoint,
        transport::{PeerAddress, PeerTransport, TransportError},
    },
    runtime,
};
use quorate_state_machine::planted;
use tokio::sync::oneshot;
use transfer::Transfer;

use crate::{
    host,
    world::{self, HostId},
};

thread_local! {
    static ENDPOINTS: RefCell<BTreeMap<HostId, PeerEndpoint>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// Makes a node reachable, or (`None`) unreachable.
pub fn set_endpoint(node: HostId, endpoint: Option<PeerEndpoint>) {
    let old = ENDPOINTS.with_borrow_mut(|all| match endpoint {
        Some(endpoint) => all.insert(node, endpoint),
        None => all.remove(&node),
    });
    drop(old);
}

fn endpoint(node: HostId) -> Option<PeerEndpoint> {
    ENDPOINTS.with_borrow(|all| all.get(&node).cloned())
}

/// One node's calls to its peers.
pub struct SimTransport {
    me: HostId,
    lanes: Mutex<BTreeMap<HostId, Lane>>,
}

fn broken() -> TransportError {
    TransportError::Unreachable("the connection broke".to_owned())
}

impl SimTransport {
    /// The calls of `me`.
    #[must_use]
    pub fn new(me: HostId) -> Self {
        Self { me, lanes: Mutex::default() }
    }

    fn lane(&self, to: HostId) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&to)
            && !lane.is_broken()
        {
            return lane.clone();
        }
        let lane = Lane::open(self.me, to);
        lanes.insert(to, lane.clone());
        lane
    }
}

async fn within<T>(
    limit: Duration,
    answer: oneshot::Receiver<Result<T, TransportError>>,
) -> Result<T, TransportError> {
    let answered = async {
        match answer.await {
            Ok(answer) => answer,
            // Lost on the way: nobody says so.
            Err(_) => std::future::pending().await,
        }
    };
    match runtime::timeout(limit, answered).await {
        Ok(answer) => answer,
        Err(_) => Err(TransportError::Timeout(limit)),
    }
}

/// The kind of a control request, for the trace.
fn kind(frame: &pb::ControlFrame) -> &'static str {
    use pb::control_frame::Request as R;
    match &frame.request {
        Some(R::Heartbeat(_)) => "heartbeat",
        Some(R::Vote(_)) => "vote",
        Some(R::PreVote(_)) => "pre-vote",
        Some(R::TransferLeader(_)) => "transfer",
        Some(R::ReadProbe(_)) => "probe",
        None => "nothing",
    }
}

#[async_trait]
impl PeerTransport for SimTransport {
    async fn hello(
        &self,
        to: &PeerAddress,
        request: pb::HelloRequest,
        timeout: Duration,
    ) -> Result<pb::HelloResponse, TransportError> {
        let (me, to) = (self.me, to.node_id);
        let (answer, receiver) = oneshot::channel();
        world::trace(format_args!("n{me}->n{to} hello"));
        world::post(me, to, move || {
            let Some(endpoint) = endpoint(to) else { return };
            host::spawn(to, async move {
                let response = endpoint.hello(request).await;
                let response = response.map_err(|e| TransportError::Unreachable(e.to_string()));
                world::post(to, me, move || drop(answer.send(response)));
            });
        });
        within(timeout, receiver).await
    }

    async fn control(
        &self,
        to: &PeerAddress,
        frame: pb::ControlFrame,
        timeout: Duration,
    ) -> Result<pb::ControlReplyFrame, TransportError> {
        let (me, to) = (self.me, to.node_id);
        let (answer, receiver) = oneshot::channel();
        world::trace(format_args!("n{me}->n{to} {}", kind(&frame)));
        let answer = Arc::new(Mutex::new(Some(answer)));
        let times = if world::twice(me, to) { 2 } else { 1 };
        for _ in 0..times {
            let (frame, answer) = (frame.clone(), answer.clone());
            world::post(me, to, move || {
                let Some(endpoint) = endpoint(to) else { return };
                host::spawn(to, async move {
                    let frames = stream::once(std::future::ready(frame)).boxed();
                    let mut replies = Box::pin(endpoint.control(frames));
                    let Some(reply) = replies.next().await else { return };
                    world::trace(format_args!("n{to}->n{me} control reply"));
                    world::post(to, me, move || {
                        let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
                        if let Some(answer) = answer {
                            // Who waited may be gone.
                            let _ = answer.send(Ok(reply));
                        }
                    });
                });
            });
        }
        within(timeout, receiver).await
    }

    fn append(
        &self,
        to: &PeerAddress,
        _group: u32,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> BoxStream<'static, AppendAnswer> {
        Session::new(self.me, to.node_id, self.lane(to.node_id), frames).boxed()
    }

    async fn snapshot(
        &self,
        to: &PeerAddress,
        frames: BoxStream<'static, pb::SnapshotFrame>,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<pb::SnapshotReplyFrame, TransportError>>, TransportError>
    {
        let (me, to) = (self.me, to.node_id);
        if planted::is("snapshots_never_arrive") {
            return Err(broken());
        }
        let (opened, receiver) = oneshot::channel();
        let transfer = Transfer::open(me, to, opened);
        within(timeout, receiver).await?;
        runtime::spawn(transfer.carry(me, to, frames));
        Ok(transfer.boxed())
    }
}
