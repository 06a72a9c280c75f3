//! [`PeerTransport`] over HTTP/2: per peer one connection a lane, so that bulk in one never delays
//! another, not even inside the kernel's socket buffers.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use quorate_proto::raft::v1 as pb;
use tokio::sync::{Semaphore, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{
    append_pipe::AppendPipe,
    channel::{client, endpoint},
    lane::{Lane, LaneKind, Waiter},
    options::PeerOptions,
    stats::PeerStats,
    transport::{PeerAddress, PeerTransport, TransportError},
};
use crate::{raft::types::NodeId, runtime};

pub(super) struct AppendKind;

impl LaneKind for AppendKind {
    type Frame = pb::AppendFrame;
    type Reply = pb::AppendReplyFrame;
    const NAME: &'static str = "append";

    fn number(frame: &mut Self::Frame, seq: u64) {
        frame.seq = seq;
    }

    fn seq(reply: &Self::Reply) -> u64 {
        reply.seq
    }

    fn open(
        channel: Channel,
        frames: UnboundedReceiverStream<Self::Frame>,
    ) -> BoxFuture<'static, Result<Streaming<Self::Reply>, Status>> {
        async move { Ok(client(channel).append(frames).await?.into_inner()) }.boxed()
    }
}

struct ControlKind;

impl LaneKind for ControlKind {
    type Frame = pb::ControlFrame;
    type Reply = pb::ControlReplyFrame;
    const NAME: &'static str = "control";

    fn number(frame: &mut Self::Frame, seq: u64) {
        frame.seq = seq;
    }

    fn seq(reply: &Self::Reply) -> u64 {
        reply.seq
    }

    fn open(
        channel: Channel,
        frames: UnboundedReceiverStream<Self::Frame>,
    ) -> BoxFuture<'static, Result<Streaming<Self::Reply>, Status>> {
        async move { Ok(client(channel).control(frames).await?.into_inner()) }.boxed()
    }
}

/// The lanes to one peer at one address.
struct Links {
    address: String,
    endpoint: Endpoint,
    append: Arc<Lane<AppendKind>>,
    control: Arc<Lane<ControlKind>>,
    /// Each group's share of the append window.
    windows: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

/// See the module.
pub struct GrpcTransport {
    options: PeerOptions,
    stats: Arc<PeerStats>,
    group_window_bytes: usize,
    /// By node: a peer that moves to another address gets new connections, the old ones close.
    links: Mutex<HashMap<NodeId, Arc<Links>>>,
}

impl GrpcTransport {
    /// A transport for a node with `groups` groups. Connects when something is to be sent.
    #[must_use]
    pub fn new(options: PeerOptions, groups: u32, stats: Arc<PeerStats>) -> Self {
        let group_window_bytes = options.group_window_bytes(groups);
        Self { options, stats, group_window_bytes, links: Mutex::default() }
    }

    fn links(&self, to: &PeerAddress) -> Result<Arc<Links>, TransportError> {
        let mut all = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(links) = all.get(&to.node_id)
            && links.address == to.address
        {
            return Ok(links.clone());
        }
        let endpoint = endpoint(&to.address, &self.options)?;
        let links = Arc::new(Links {
            address: to.address.clone(),
            append: Arc::new(Lane::new(endpoint.clone(), self.options.clone(), self.stats.clone())),
            control: Arc::new(Lane::new(
                endpoint.clone(),
                self.options.clone(),
                self.stats.clone(),
            )),
            endpoint,
            windows: Mutex::default(),
        });
        all.insert(to.node_id, links.clone());
        Ok(links)
    }
}

/// Takes the waiter out of the lane when its caller has gone away.
struct Forget<'a>(&'a Lane<ControlKind>, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.forget(self.1);
    }
}

#[async_trait]
impl PeerTransport for GrpcTransport {
    async fn hello(
        &self,
        to: &PeerAddress,
        request: pb::HelloRequest,
        timeout: Duration,
    ) -> Result<pb::HelloResponse, TransportError> {
        let endpoint = self.links(to)?.endpoint.clone();
        let call = async {
            // Once in the life of a process and peer: a connection of its own is simplest.
            let channel = connect(&endpoint).await?;
            client(channel).hello(request).await.map_err(broken)
        };
        Ok(within(timeout, call).await?.into_inner())
    }

    async fn control(
        &self,
        to: &PeerAddress,
        frame: pb::ControlFrame,
        timeout: Duration,
    ) -> Result<pb::ControlReplyFrame, TransportError> {
        let links = self.links(to)?;
        if links.control.in_flight() >= self.options.control_in_flight {
            return Err(TransportError::Overloaded(self.options.control_in_flight));
        }
        let (waiter, reply) = oneshot::channel();
        let seq = links.control.send(frame, Waiter::One(waiter))?;
        let _forget = Forget(&links.control, seq);
        PeerStats::count(&self.stats.control_requests);
        let reply = async {
            reply.await.unwrap_or_else(|_| {
                Err(TransportError::Unreachable("the lane was closed".to_owned()))
            })
        };
        within(timeout, reply).await
    }

    fn append(
        &self,
        to: &PeerAddress,
        group: u32,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> BoxStream<'static, Result<pb::AppendReplyFrame, TransportError>> {
        let links = match self.links(to) {
            Ok(links) => links,
            Err(error) => return stream::once(std::future::ready(Err(error))).boxed(),
        };
        let window = links
            .windows
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(group)
            .or_insert_with(|| Arc::new(Semaphore::new(self.group_window_bytes)))
            .clone();
        let (lane, stats) = (links.append.clone(), self.stats.clone());
        AppendPipe::new(lane, stats, frames, window, self.group_window_bytes).boxed()
    }

    async fn snapshot(
        &self,
        to: &PeerAddress,
        frames: BoxStream<'static, pb::SnapshotFrame>,
        timeout: Duration,
    ) -> Result<BoxStream<'static, Result<pb::SnapshotReplyFrame, TransportError>>, TransportError>
    {
        let endpoint = self.links(to)?.endpoint.clone();
        let replies = within(timeout, open_snapshot(endpoint, frames)).await?;
        Ok(replies.map(|r| r.map_err(broken)).boxed())
    }
}

/// A named type, because the compiler cannot prove the call `Send` with the boxed stream itself.
struct SnapshotFrames(BoxStream<'static, pb::SnapshotFrame>);

impl Stream for SnapshotFrames {
    type Item = pb::SnapshotFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

fn open_snapshot(
    endpoint: Endpoint,
    frames: BoxStream<'static, pb::SnapshotFrame>,
) -> BoxFuture<'static, Result<Streaming<pb::SnapshotReplyFrame>, TransportError>> {
    async move {
        let channel = connect(&endpoint).await?;
        Ok(client(channel).snapshot(SnapshotFrames(frames)).await.map_err(broken)?.into_inner())
    }
    .boxed()
}

async fn connect(endpoint: &Endpoint) -> Result<Channel, TransportError> {
    endpoint.connect().await.map_err(|e| TransportError::Unreachable(super::lane::describe(&e)))
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function argument of map_err")]
fn broken(status: Status) -> TransportError {
    TransportError::Unreachable(status.to_string())
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, TransportError>> + Send,
) -> Result<T, TransportError> {
    match runtime::timeout(timeout, call).await {
        Ok(result) => result,
        Err(_) => Err(TransportError::Timeout(timeout)),
    }
}
