//! The seam between nodes, joined by the world's network: what `peer::grpc` and `peer::service` do
//! over HTTP/2. Everything above and below it is the real code.
//!
//! One append lane per pair of nodes for all groups and sessions, which breaks as a whole; control
//! requests travel on their own and get lost, late or doubled one by one, which is more than HTTP/2
//! would do to them; a snapshot transfer has a connection of its own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use prost::Message;
use quorate_proto::raft::v1 as pb;
use quorate_raft_node::{
    peer::{
        endpoint::PeerEndpoint,
        transport::{PeerAddress, PeerTransport, TransportError},
    },
    runtime,
};
use quorate_state_machine::planted;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::{
    host,
    world::{self, ConnId, HostId},
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

/// Frames of an append session under way at a time.
const WINDOW: usize = 64;

type AppendAnswer = Result<pb::AppendReplyFrame, TransportError>;

/// The append lane to one peer.
#[derive(Clone)]
struct Lane {
    conn: ConnId,
    state: Arc<Mutex<LaneState>>,
}

#[derive(Default)]
struct LaneState {
    broken: bool,
    next_seq: u64,
    waiters: BTreeMap<u64, mpsc::UnboundedSender<AppendAnswer>>,
}

impl Lane {
    fn state(&self) -> std::sync::MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            && !lane.state().broken
        {
            return lane.clone();
        }
        let lane = Lane { conn: world::open(self.me, to), state: Arc::default() };
        serve_append(lane.clone(), self.me, to);
        lanes.insert(to, lane.clone());
        lane
    }
}

/// Both ends of a new append lane.
fn serve_append(lane: Lane, from: HostId, to: HostId) {
    let conn = lane.conn;
    {
        let lane = lane.clone();
        world::on_break(conn, from, move || {
            let waiters = {
                let mut state = lane.state();
                state.broken = true;
                std::mem::take(&mut state.waiters)
            };
            for waiter in waiters.into_values() {
                // Who waited may be gone.
                let _ = waiter.send(Err(broken()));
            }
        });
    }
    let incoming: Incoming<pb::AppendFrame> = Rc::default();
    {
        let incoming = incoming.clone();
        world::on_break(conn, to, move || drop(incoming.take()));
    }
    world::send(conn, from, move || {
        let Some(endpoint) = endpoint(to) else { return world::close(conn) };
        let (frames, queue) = mpsc::unbounded_channel();
        incoming.replace(Some(frames));
        INCOMING.with_borrow_mut(|all| all.insert(conn, incoming));
        host::spawn(to, async move {
            let mut replies =
                Box::pin(endpoint.append(UnboundedReceiverStream::new(queue).boxed()));
            while let Some(reply) = replies.next().await {
                let lane = lane.clone();
                world::trace(format_args!("n{to}->n{from} append reply {}", reply.seq));
                world::send(conn, to, move || {
                    let waiter = lane.state().waiters.remove(&reply.seq);
                    if let Some(waiter) = waiter {
                        let _ = waiter.send(Ok(reply));
                    }
                });
            }
            // A server that ends a stream ends it for the caller too.
            world::close(conn);
        });
    });
}

/// Where the frames of a connection go at the called end.
type Incoming<T> = Rc<RefCell<Option<mpsc::UnboundedSender<T>>>>;

thread_local! {
    static INCOMING: RefCell<BTreeMap<ConnId, Incoming<pb::AppendFrame>>> =
        const { RefCell::new(BTreeMap::new()) };
}

/// One append session on its lane.
struct Session {
    me: HostId,
    to: HostId,
    lane: Lane,
    /// `None` when there are no more.
    frames: Option<BoxStream<'static, pb::AppendFrame>>,
    reply_to: mpsc::UnboundedSender<AppendAnswer>,
    replies: mpsc::UnboundedReceiver<AppendAnswer>,
    in_flight: usize,
    done: bool,
}

impl Session {
    /// A planted fault: the leader takes its own log for a quorum's.
    fn answer_for_the_follower(&self, frame: &pb::AppendFrame) {
        let waiter = self.lane.state().waiters.remove(&frame.seq);
        let identity = frame.identity.clone().map(|identity| pb::Identity {
            from: identity.target,
            target: identity.from,
            from_uuid: bytes::Bytes::copy_from_slice(&crate::node::uuid_of(identity.target)),
            ..identity
        });
        let last = frame.entries.last();
        let last = last.map(|entry| pb::RaftLogId { term: entry.term, index: entry.index });
        let ok = pb::AppendOk { matched: last.or(frame.prev) };
        let result = Some(pb::append_reply_frame::Result::Ok(ok));
        let reply = pb::AppendReplyFrame { identity, seq: frame.seq, result };
        if let Some(waiter) = waiter {
            let _ = waiter.send(Ok(reply));
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        while self.in_flight < WINDOW {
            let Some(frames) = &mut self.frames else { return Ok(()) };
            let mut frame = match frames.poll_next_unpin(cx) {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => {
                    self.frames = None;
                    return Ok(());
                }
                Poll::Pending => return Ok(()),
            };
            {
                let mut state = self.lane.state();
                if state.broken {
                    return Err(broken());
                }
                frame.seq = state.next_seq;
                state.next_seq += 1;
                state.waiters.insert(frame.seq, self.reply_to.clone());
            }
            self.in_flight += 1;
            if planted::is("apply_before_commit") {
                self.answer_for_the_follower(&frame);
            }
            let conn = self.lane.conn;
            world::trace(format_args!(
                "n{}->n{} append {} ({} bytes)",
                self.me,
                self.to,
                frame.seq,
                frame.encoded_len()
            ));
            world::send(conn, self.me, move || {
                let incoming = INCOMING.with_borrow(|all| all.get(&conn).cloned());
                if let Some(incoming) = incoming
                    && let Some(frames) = &*incoming.borrow()
                {
                    // A lane that has ended answers nothing; the connection is being closed.
                    let _ = frames.send(frame);
                }
            });
        }
        Ok(())
    }
}

impl Stream for Session {
    type Item = AppendAnswer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        if let Err(error) = self.send(cx) {
            self.done = true;
            return Poll::Ready(Some(Err(error)));
        }
        match self.replies.poll_recv(cx) {
            Poll::Ready(Some(answer)) => {
                self.in_flight -= 1;
                self.done = answer.is_err();
                Poll::Ready(Some(answer))
            }
            Poll::Ready(None) => unreachable!("this end holds a sender too"),
            Poll::Pending => {
                let over = self.frames.is_none() && self.in_flight == 0;
                if over { Poll::Ready(None) } else { Poll::Pending }
            }
        }
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
        let (reply_to, replies) = mpsc::unbounded_channel();
        let session = Session {
            me: self.me,
            to: to.node_id,
            lane: self.lane(to.node_id),
            frames: Some(frames),
            reply_to,
            replies,
            in_flight: 0,
            done: false,
        };
        session.boxed()
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
        let transfer = open_snapshot(me, to, opened);
        within(timeout, receiver).await?;
        let conn = transfer.conn;
        runtime::spawn(send_snapshot(me, to, conn, transfer.frames.clone(), frames));
        Ok(transfer.boxed())
    }
}

/// One snapshot transfer, the calling end: yields the replies.
struct Transfer {
    conn: ConnId,
    frames: Arc<Mutex<Option<mpsc::UnboundedSender<pb::SnapshotFrame>>>>,
    replies: mpsc::UnboundedReceiver<Result<pb::SnapshotReplyFrame, TransportError>>,
}

impl Stream for Transfer {
    type Item = Result<pb::SnapshotReplyFrame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.replies.poll_recv(cx)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        world::close(self.conn);
    }
}

fn open_snapshot(
    me: HostId,
    to: HostId,
    opened: oneshot::Sender<Result<(), TransportError>>,
) -> Transfer {
    let conn = world::open(me, to);
    let (reply_to, replies) = mpsc::unbounded_channel();
    let frames: Arc<Mutex<Option<mpsc::UnboundedSender<pb::SnapshotFrame>>>> = Arc::default();
    {
        let reply_to = reply_to.clone();
        world::on_break(conn, me, move || drop(reply_to.send(Err(broken()))));
    }
    {
        let frames = frames.clone();
        world::on_break(conn, to, move || {
            drop(frames.lock().unwrap_or_else(PoisonError::into_inner).take());
        });
    }
    let incoming = frames.clone();
    world::trace(format_args!("n{me}->n{to} snapshot"));
    world::send(conn, me, move || {
        let Some(endpoint) = endpoint(to) else { return world::close(conn) };
        let (frames, queue) = mpsc::unbounded_channel();
        incoming.lock().unwrap_or_else(PoisonError::into_inner).replace(frames);
        world::send(conn, to, move || drop(opened.send(Ok(()))));
        host::spawn(to, async move {
            let mut replies =
                Box::pin(endpoint.snapshot(UnboundedReceiverStream::new(queue).boxed()));
            while let Some(reply) = replies.next().await {
                let reply_to = reply_to.clone();
                world::send(conn, to, move || drop(reply_to.send(Ok(reply))));
            }
            world::send(conn, to, move || world::close(conn));
        });
    });
    Transfer { conn, frames, replies }
}

/// Carries the frames of a transfer to the other end.
async fn send_snapshot(
    me: HostId,
    to: HostId,
    conn: ConnId,
    incoming: Arc<Mutex<Option<mpsc::UnboundedSender<pb::SnapshotFrame>>>>,
    mut frames: BoxStream<'static, pb::SnapshotFrame>,
) {
    while let Some(frame) = frames.next().await {
        let incoming = incoming.clone();
        world::trace(format_args!("n{me}->n{to} snapshot frame ({} bytes)", frame.encoded_len()));
        world::send(conn, me, move || {
            let frames = incoming.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(frames) = &*frames {
                let _ = frames.send(frame);
            }
        });
    }
    // The end of the frames arrives behind the last of them.
    world::send(conn, me, move || {
        drop(incoming.lock().unwrap_or_else(PoisonError::into_inner).take());
    });
}
