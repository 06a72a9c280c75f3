//! The calling side of one append session: openraft's stream of requests becomes a stream of
//! frames, replies become results, and nothing waits for ever.
//!
//! openraft does not enforce a deadline here, so this does: a request that has no reply within the
//! deadline ends the stream with `Unreachable`, and openraft backs off and starts another.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use openraft::errors::RPCError;
use quorate_proto::raft::v1 as pb;

use super::{
    client::{CallError, PeerClient},
    confirmed::{Confirmed, Lost},
    network::rpc_error,
    options::MAX_FRAME_ENTRY_BYTES,
    stats::PeerStats,
    transport::{PeerAddress, TransportError},
    wire::{
        AppendRefusal, AppendRequest, AppendResult, append_frame, append_result, split_request,
    },
};
use crate::{
    raft::types::TypeConfig,
    runtime::{self, Instant},
};

type SentAt = Instant;

/// When the frames without a reply were taken from openraft, oldest first. Shared between the half
/// that sends and the half that receives; never held across an await.
type InFlight = Arc<Mutex<VecDeque<SentAt>>>;

pub(super) struct AppendStream {
    client: Arc<PeerClient>,
    to: PeerAddress,
    group: u32,
    confirmed: Confirmed,
    replies: BoxStream<'static, Result<pb::AppendReplyFrame, TransportError>>,
    in_flight: InFlight,
    deadline: Duration,
    /// Armed whenever something is in flight. It is not moved with every reply: when it fires, it
    /// is set again for what is then the oldest frame.
    alarm: Option<BoxFuture<'static, ()>>,
    done: bool,
}

impl AppendStream {
    pub(super) fn new<S>(
        client: Arc<PeerClient>,
        to: PeerAddress,
        group: u32,
        confirmed: Confirmed,
        input: S,
    ) -> Self
    where
        S: Stream<Item = AppendRequest> + Send + 'static,
    {
        let in_flight = InFlight::default();
        let (sent, session) = (in_flight.clone(), client.next_session());
        let identity = client.me().frame(to.node_id, group);
        let requests = confirmed.clone();
        let frames = input.flat_map(move |request| {
            requests.request(request.vote.leader_id.term);
            let parts = split_request(request, MAX_FRAME_ENTRY_BYTES);
            let (sent, identity) = (sent.clone(), identity.clone());
            stream::iter(parts.into_iter().map(move |part| {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.push_back(runtime::now());
                append_frame(Some(identity.clone()), session, part)
            }))
        });
        let replies = client.transport().append(&to, group, frames.boxed());
        let deadline = client.options().append_deadline;
        Self {
            client,
            to,
            group,
            confirmed,
            replies,
            in_flight,
            deadline,
            alarm: None,
            done: false,
        }
    }

    fn oldest(&self) -> Option<SentAt> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).front().copied()
    }

    fn result(
        &self,
        reply: Result<pb::AppendReplyFrame, TransportError>,
    ) -> Result<AppendResult, CallError> {
        let reply = reply?;
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        self.client.check_reply(&self.to, reply.identity.as_ref())?;
        match append_result(&reply) {
            Ok(Ok(result)) => self.believe(result),
            Ok(Err(error)) => Err(self.client.remote(&self.to, error)),
            Err(source) => Err(self.client.malformed(&self.to, source)),
        }
    }

    /// A follower confirms for good.
    fn believe(&self, result: AppendResult) -> Result<AppendResult, CallError> {
        match &result {
            Ok(Some(matched)) => self.confirmed.matches(matched.index),
            Err(AppendRefusal::Conflict(at)) => {
                if let Err(lost) = self.confirmed.conflicts(at.index) {
                    return Err(self.forgot(lost, at.index));
                }
            }
            Ok(None) | Err(AppendRefusal::HigherVote(_)) => {}
        }
        Ok(result)
    }

    fn forgot(&self, lost: Lost, conflict: u64) -> CallError {
        let (by, group, confirmed) = (self.to.node_id, self.group, lost.confirmed);
        PeerStats::count(&self.client.stats().lost_confirmed);
        let error = CallError::Forgot { by, group, confirmed, conflict };
        if lost.news {
            tracing::error!(peer = by, address = %self.to.address, "{error}");
        }
        error
    }

    /// Fails if the oldest frame is overdue; otherwise sees to it that `cx` is woken when it is.
    fn check_deadline(&mut self, cx: &mut Context<'_>) -> Result<(), TransportError> {
        loop {
            let Some(oldest) = self.oldest() else {
                self.alarm = None;
                return Ok(());
            };
            let left = self.deadline.saturating_sub(runtime::now() - oldest);
            if left.is_zero() {
                PeerStats::count(&self.client.stats().timeouts);
                return Err(TransportError::Timeout(self.deadline));
            }
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(runtime::sleep(left)));
            if alarm.poll_unpin(cx).is_pending() {
                return Ok(());
            }
            self.alarm = None;
        }
    }
}

impl Stream for AppendStream {
    type Item = Result<AppendResult, RPCError<TypeConfig>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        // Also drives the sending half.
        let result = match self.replies.poll_next_unpin(cx) {
            Poll::Ready(Some(reply)) => self.result(reply),
            Poll::Ready(None) => {
                self.done = true;
                return Poll::Ready(None);
            }
            Poll::Pending => match self.check_deadline(cx) {
                Ok(()) => return Poll::Pending,
                Err(overdue) => Err(overdue.into()),
            },
        };
        // The session ends with the first result that is not a success, on both sides.
        self.done = !matches!(result, Ok(Ok(_)));
        Poll::Ready(Some(result.map_err(|e| rpc_error(&e))))
    }
}
