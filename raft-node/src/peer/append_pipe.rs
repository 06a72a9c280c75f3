//! One append session on its lane: takes frames while the group's window has room, and yields the
//! replies in order. A plain `Stream` without a task of its own, so dropping it is all it takes to
//! stop; the permits of what is under way come back with the replies, or when the lane breaks.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use quorate_proto::raft::v1 as pb;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::PollSemaphore;

use super::{
    grpc::AppendKind,
    lane::{Answer, Lane, Waiter},
    stats::PeerStats,
    transport::TransportError,
    wire::frame_bytes,
};

pub(super) struct AppendPipe {
    lane: Arc<Lane<AppendKind>>,
    stats: Arc<PeerStats>,
    /// `None` when there are no more.
    frames: Option<BoxStream<'static, pb::AppendFrame>>,
    /// Taken, but there is no room yet.
    held: Option<(pb::AppendFrame, u32)>,
    window: PollSemaphore,
    window_bytes: usize,
    reply_to: mpsc::UnboundedSender<Answer<pb::AppendReplyFrame>>,
    replies: mpsc::UnboundedReceiver<Answer<pb::AppendReplyFrame>>,
    in_flight: usize,
    done: bool,
}

impl AppendPipe {
    pub(super) fn new(
        lane: Arc<Lane<AppendKind>>,
        stats: Arc<PeerStats>,
        frames: BoxStream<'static, pb::AppendFrame>,
        window: Arc<Semaphore>,
        window_bytes: usize,
    ) -> Self {
        let (reply_to, replies) = mpsc::unbounded_channel();
        Self {
            lane,
            stats,
            frames: Some(frames),
            held: None,
            window: PollSemaphore::new(window),
            window_bytes,
            reply_to,
            replies,
            in_flight: 0,
            done: false,
        }
    }

    /// Sends what there is and what fits.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        loop {
            if self.held.is_none() {
                let Some(frames) = &mut self.frames else { return Ok(()) };
                match frames.poll_next_unpin(cx) {
                    Poll::Ready(Some(frame)) => {
                        // A frame larger than the window takes all of it.
                        let cost = frame_bytes(&frame).min(self.window_bytes);
                        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
                        self.held = Some((frame, cost));
                    }
                    Poll::Ready(None) => self.frames = None,
                    Poll::Pending => return Ok(()),
                }
            }
            let Some((_, cost)) = &self.held else { continue };
            let permit = match self.window.poll_acquire_many(cx, *cost) {
                Poll::Ready(Some(permit)) => permit,
                Poll::Ready(None) => unreachable!("invariant: windows are never closed"),
                Poll::Pending => return Ok(()),
            };
            let Some((frame, cost)) = self.held.take() else { continue };
            self.lane.send(frame, Waiter::Stream(self.reply_to.clone(), permit))?;
            self.in_flight += 1;
            PeerStats::count(&self.stats.append_frames);
            PeerStats::add(&self.stats.append_bytes, u64::from(cost));
        }
    }
}

impl Stream for AppendPipe {
    type Item = Answer<pb::AppendReplyFrame>;

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
            Poll::Ready(None) => unreachable!("invariant: this end holds a sender too"),
            Poll::Pending => {
                let over = self.frames.is_none() && self.held.is_none() && self.in_flight == 0;
                if over { Poll::Ready(None) } else { Poll::Pending }
            }
        }
    }
}
