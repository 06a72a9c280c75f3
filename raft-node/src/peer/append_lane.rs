//! The called side of an append lane: one stream of frames for all groups, one openraft append
//! stream per (group, session).
//!
//! Nothing here waits for a group: frames go into the session's queue at once, and replies are
//! picked up as the groups finish. The queues are bounded by the caller's window per group; a
//! caller that ignores its window is read no further until answers have gone out.
//!
//! The whole lane is one `Stream`, so it lives and dies with its connection and needs no task.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use quorate_proto::raft::v1::{self as pb, append_reply_frame::Result as Reply, peer_error::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    endpoint::{Shared, error, speaks_for_itself},
    handler::{HandlerError, PeerHandler},
    options::MAX_MESSAGE_BYTES,
    wire::{AppendRequest, AppendResult, append_request, append_result_frame, frame_bytes},
};
use crate::raft::types::NodeId;

/// Group and session number.
type Key = (u32, u64);
/// What a session's stream yields; `None` when it has ended.
type Step = (Key, Option<Result<AppendResult, HandlerError>>);

struct Session {
    /// Who is answered.
    caller: NodeId,
    /// Dropped when a newer session of the group starts or the lane closes.
    requests: Option<mpsc::UnboundedSender<AppendRequest>>,
    /// Sequence number and bytes of what was handed over and is not answered yet, in order.
    waiting: VecDeque<(u64, usize)>,
}

pub(super) struct AppendLane {
    shared: Arc<Shared>,
    /// `None` once the caller is gone.
    frames: Option<BoxStream<'static, pb::AppendFrame>>,
    /// The newest session of each group. It only rises.
    newest: HashMap<u32, u64>,
    /// Sessions that still yield results.
    sessions: HashMap<Key, Session>,
    results: SelectAll<BoxStream<'static, Step>>,
    /// Replies that can go out.
    ready: VecDeque<pb::AppendReplyFrame>,
    /// Sum of all sessions' waiting bytes.
    waiting_bytes: usize,
    /// Above this, no more frames are read.
    limit_bytes: usize,
}

impl AppendLane {
    pub(super) fn new(shared: Arc<Shared>, frames: BoxStream<'static, pb::AppendFrame>) -> Self {
        let groups = shared.me.groups;
        // What a caller with the same settings may have in flight, and an oversized frame.
        let limit_bytes =
            shared.options.group_window_bytes(groups) * groups as usize + MAX_MESSAGE_BYTES;
        Self {
            shared,
            frames: Some(frames),
            newest: HashMap::new(),
            sessions: HashMap::new(),
            results: SelectAll::new(),
            ready: VecDeque::new(),
            waiting_bytes: 0,
            limit_bytes,
        }
    }

    /// Hands a frame to its session, or queues the error to answer it with.
    fn accept(&mut self, frame: pb::AppendFrame) {
        let (caller, group) = frame.identity.as_ref().map_or((0, 0), |i| (i.from, i.group));
        let seq = frame.seq;
        if let Err(error) = self.try_accept(frame) {
            let identity = self.shared.me.frame(caller, group);
            self.ready.push_back(error_reply(identity, seq, error));
        }
    }

    fn try_accept(&mut self, frame: pb::AppendFrame) -> Result<(), pb::PeerError> {
        let (from, handler) = self.shared.route(frame.identity.as_ref())?;
        let group = frame.identity.as_ref().map_or(0, |i| i.group);
        let (seq, bytes, number) = (frame.seq, frame_bytes(&frame), frame.session);
        let request = append_request(frame)?;
        speaks_for_itself(from, request.vote.leader_id.voted_for)?;
        self.start_if_new((group, number), from, handler.as_ref());
        let session = self.sessions.get_mut(&(group, number)).ok_or_else(|| ended(number))?;
        let requests = session.requests.as_ref().ok_or_else(|| ended(number))?;
        requests.send(request).map_err(|_| ended(number))?;
        session.waiting.push_back((seq, bytes));
        self.waiting_bytes += bytes;
        Ok(())
    }

    fn start_if_new(&mut self, key: Key, caller: NodeId, handler: &dyn PeerHandler) {
        let (group, number) = key;
        match self.newest.get(&group) {
            Some(newest) if *newest >= number => return,
            // What the older session still waits for is answered; more it does not get.
            Some(older) => {
                if let Some(session) = self.sessions.get_mut(&(group, *older)) {
                    session.requests = None;
                }
            }
            None => {}
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let results = handler.append_stream(UnboundedReceiverStream::new(queue).boxed());
        self.results.push(
            results
                .map(move |r| (key, Some(r)))
                .chain(stream::once(std::future::ready((key, None))))
                .boxed(),
        );
        self.newest.insert(group, number);
        let session = Session { caller, requests: Some(requests), waiting: VecDeque::new() };
        self.sessions.insert(key, session);
    }

    fn finish(&mut self, (key, result): Step) {
        let Some(result) = result else { return self.close(key) };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some((seq, bytes)) = session.waiting.pop_front() else {
            tracing::error!(group = key.0, "a group answered an append that nobody sent");
            return;
        };
        self.waiting_bytes -= bytes;
        let identity = self.shared.me.frame(session.caller, key.0);
        self.ready.push_back(match result {
            Ok(result) => append_result_frame(Some(identity), seq, &result),
            Err(e) => error_reply(identity, seq, e.into()),
        });
    }

    /// A session's results have ended: nothing behind its last result was looked at.
    fn close(&mut self, key: Key) {
        let Some(session) = self.sessions.remove(&key) else { return };
        for (seq, bytes) in session.waiting {
            self.waiting_bytes -= bytes;
            let identity = self.shared.me.frame(session.caller, key.0);
            self.ready.push_back(error_reply(identity, seq, ended(key.1)));
        }
    }
}

fn ended(session: u64) -> pb::PeerError {
    error(Kind::SessionEnded, format!("append session {session} has ended"))
}

fn error_reply(identity: pb::Identity, seq: u64, error: pb::PeerError) -> pb::AppendReplyFrame {
    pb::AppendReplyFrame { identity: Some(identity), seq, result: Some(Reply::Error(error)) }
}

impl Stream for AppendLane {
    type Item = pb::AppendReplyFrame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lane = &mut *self;
        loop {
            if let Some(reply) = lane.ready.pop_front() {
                return Poll::Ready(Some(reply));
            }
            if let Poll::Ready(Some(step)) = lane.results.poll_next_unpin(cx) {
                lane.finish(step);
                continue;
            }
            // Answers first: they free the room that the next frame takes.
            if lane.waiting_bytes > lane.limit_bytes {
                return Poll::Pending;
            }
            let Some(frames) = &mut lane.frames else {
                let done = lane.results.is_empty();
                return if done { Poll::Ready(None) } else { Poll::Pending };
            };
            match frames.poll_next_unpin(cx) {
                Poll::Ready(Some(frame)) => lane.accept(frame),
                Poll::Ready(None) => {
                    lane.frames = None;
                    for session in lane.sessions.values_mut() {
                        session.requests = None;
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
