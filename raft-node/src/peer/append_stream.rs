//! The calling side of one append session: openraft's stream of requests becomes a stream of
//! frames, replies become results, and nothing waits for ever.
//!
//! openraft does not enforce a deadline here, so this does: a request that has no reply within the
//! deadline ends the stream with `Unreachable`, and openraft backs off and starts another.
//!
//! And it is told of an acknowledgement only when it can't mistake it for a younger one. openraft
//! counts a result for every request up to its log id: the answer to an old request would also count
//! for an empty one (a new commit index, nothing else) that left long after it and has the same last
//! log id. A leader that was stopped for a while, and then finds an old answer in its socket, would
//! take it for one to what it has just sent, confirm its own leadership with it, and serve a stale
//! linearizable read ([`InFlight::answered`]; the simulation's mutant `old_answer_counts_as_new`).

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
use quorate_state_machine::planted;

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
    raft::types::{TypeConfig, alias::RaftLogId},
    runtime::{self, Instant},
};

/// A frame without a reply.
struct Sent {
    /// When it was taken from openraft.
    at: Instant,
    /// What the peer's log ends with, at least, when it has taken this frame.
    last: Option<RaftLogId>,
}

/// Oldest first. Shared between the half that sends and the half that receives; never held across
/// an await.
#[derive(Clone, Default)]
struct InFlight(Arc<Mutex<VecDeque<Sent>>>);

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, part: &AppendRequest) {
        let last = part.entries.last().map(|entry| entry.log_id).or(part.prev_log_id);
        self.lock().push_back(Sent { at: runtime::now(), last });
    }

    fn oldest(&self) -> Option<Instant> {
        self.lock().front().map(|sent| sent.at)
    }

    /// The oldest frame was answered with `result`. False if openraft must not see the result,
    /// because it would count for the next frame as well; the answer to that one says as much.
    fn answered(&self, result: &AppendResult) -> bool {
        let mut all = self.lock();
        all.pop_front();
        match (result, all.front()) {
            (Ok(matched), Some(next)) => {
                next.last > *matched || planted::is("old_answer_counts_as_new")
            }
            _ => true,
        }
    }

    /// A planted fault: what was sent counts as stored, once a reply has shown that the logs match.
    fn sent_beyond(&self, told: &mut Option<RaftLogId>) -> Option<RaftLogId> {
        let last = self.lock().back().and_then(|sent| sent.last).filter(|_| told.is_some());
        let news = last.filter(|_| last > *told);
        *told = news.or(*told);
        news
    }
}

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
    /// Only of a planted fault: up to where openraft was told that entries are stored.
    told: Option<RaftLogId>,
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
                sent.push(&part);
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
            told: None,
            done: false,
        }
    }

    /// `None` if openraft is not to be told.
    fn result(
        &self,
        reply: Result<pb::AppendReplyFrame, TransportError>,
    ) -> Result<Option<AppendResult>, CallError> {
        let reply = reply?;
        self.client.check_reply(&self.to, reply.identity.as_ref())?;
        match append_result(&reply) {
            Ok(Ok(result)) => {
                let result = self.believe(result)?;
                let counts = self.in_flight.answered(&result);
                if let Ok(matched) = &result
                    && self.told.is_some()
                    && *matched <= self.told
                {
                    return Ok(None);
                }
                Ok(counts.then_some(result))
            }
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
            let Some(oldest) = self.in_flight.oldest() else {
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
        let result = loop {
            // Also drives the sending half.
            match self.replies.poll_next_unpin(cx) {
                Poll::Ready(Some(reply)) => match self.result(reply) {
                    Ok(Some(result)) => {
                        if let Ok(matched) = &result
                            && planted::is("ack_on_send")
                        {
                            self.told = (*matched).max(self.told);
                        }
                        break Ok(result);
                    }
                    Ok(None) => {}
                    Err(error) => break Err(error),
                },
                Poll::Ready(None) => {
                    self.done = true;
                    return Poll::Ready(None);
                }
                Poll::Pending if planted::is("ack_on_send") => {
                    let this = &mut *self;
                    match this.in_flight.sent_beyond(&mut this.told) {
                        Some(sent) => break Ok(Ok(Some(sent))),
                        None => return Poll::Pending,
                    }
                }
                Poll::Pending => match self.check_deadline(cx) {
                    Ok(()) => return Poll::Pending,
                    Err(overdue) => break Err(overdue.into()),
                },
            }
        };
        // The session ends with the first result that is not a success, on both sides.
        self.done = !matches!(result, Ok(Ok(_)));
        Poll::Ready(Some(result.map_err(|e| rpc_error(&e))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log_storage::log_id;

    fn request(prev: u64, entries: std::ops::RangeInclusive<u64>) -> AppendRequest {
        let entry = |index| {
            <openraft::alias::EntryOf<TypeConfig> as openraft::entry::RaftEntry>::new_blank(log_id(
                1, index,
            ))
        };
        AppendRequest {
            vote: openraft::impls::Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, prev)),
            entries: entries.map(entry).collect(),
            leader_commit: None,
        }
    }

    #[expect(clippy::reversed_empty_ranges, reason = "no entries")]
    fn empty(prev: u64) -> AppendRequest {
        request(prev, 1..=0)
    }

    fn matched(index: u64) -> AppendResult {
        Ok(Some(log_id(1, index)))
    }

    #[test]
    fn an_old_answer_never_counts_for_a_younger_request() {
        let in_flight = InFlight::default();
        in_flight.push(&request(4, 5..=7));
        in_flight.push(&empty(7));
        in_flight.push(&empty(7));
        in_flight.push(&request(7, 8..=9));
        assert!(!in_flight.answered(&matched(7)), "it would count for the empty one behind it");
        assert!(!in_flight.answered(&matched(7)), "and so would this one");
        assert!(in_flight.answered(&matched(7)), "the last that ends there says it all");
        assert!(in_flight.answered(&matched(9)));
        assert_eq!(in_flight.oldest(), None);
    }

    #[test]
    fn what_ends_a_session_is_told_at_once() {
        let in_flight = InFlight::default();
        in_flight.push(&request(4, 5..=7));
        in_flight.push(&empty(7));
        in_flight.push(&empty(7));
        assert!(!in_flight.answered(&matched(7)));
        let vote = openraft::impls::Vote::new_committed(2, 2);
        assert!(in_flight.answered(&Err(AppendRefusal::HigherVote(vote))));
        assert!(in_flight.answered(&Err(AppendRefusal::Conflict(log_id(1, 7)))));
    }
}
