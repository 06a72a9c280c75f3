//! The append lane between two nodes: all groups and sessions, one after the other; it breaks as a whole.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use prost::Message;
use quorate_proto::raft::v1 as pb;
use quorate_raft_node::peer::transport::TransportError;
use quorate_state_machine::planted;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{broken, endpoint};
use crate::{
    host,
    world::{self, ConnId, HostId},
};

/// Frames of an append session under way at a time.
const WINDOW: usize = 64;

pub(super) type AppendAnswer = Result<pb::AppendReplyFrame, TransportError>;

/// The append lane to one peer.
#[derive(Clone)]
pub(super) struct Lane {
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
    /// A new one, with both its ends.
    pub(super) fn open(from: HostId, to: HostId) -> Self {
        let lane = Self { conn: world::open(from, to), state: Arc::default() };
        serve_append(lane.clone(), from, to);
        lane
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state().broken
    }

    fn state(&self) -> std::sync::MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) struct Session {
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
    pub(super) fn new(
        me: HostId,
        to: HostId,
        lane: Lane,
        frames: BoxStream<'static, pb::AppendFrame>,
    ) -> Self {
        let (reply_to, replies) = mpsc::unbounded_channel();
        let frames = Some(frames);
        Self { me, to, lane, frames, reply_to, replies, in_flight: 0, done: false }
    }

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
