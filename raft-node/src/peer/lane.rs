//! The calling side of one lane: one connection, one bidirectional stream, many callers.
//!
//! A frame gets a sequence number and a waiter; replies find their waiter by it. When the stream
//! breaks, every waiter hears of it at once, and the next caller opens a new stream, after a pause
//! that grows with each failure in a row.
//!
//! The queue of frames has no bound of its own: whoever sends holds a permit ([`Waiter`]) until the
//! reply is there, so the permits bound it, stalled connections included.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{options::PeerOptions, stats::PeerStats, transport::TransportError};
use crate::runtime::{self, Instant};

/// What differs between the lanes.
pub(super) trait LaneKind: Send + Sync + 'static {
    /// What is sent.
    type Frame: Send + 'static;
    /// What comes back.
    type Reply: Send + 'static;
    /// For the log.
    const NAME: &'static str;
    /// Numbers a frame.
    fn number(frame: &mut Self::Frame, seq: u64);
    /// The number a reply is for.
    fn seq(reply: &Self::Reply) -> u64;
    /// Opens the stream.
    fn open(
        channel: Channel,
        frames: UnboundedReceiverStream<Self::Frame>,
    ) -> BoxFuture<'static, Result<Streaming<Self::Reply>, Status>>;
}

/// An answer, or why there is none.
pub(super) type Answer<R> = Result<R, TransportError>;

/// Who gets the reply to a frame.
pub(super) enum Waiter<R> {
    /// One caller with one request.
    One(oneshot::Sender<Answer<R>>),
    /// A stream of requests; the permit is its share of the window, given back with the reply.
    Stream(mpsc::UnboundedSender<Answer<R>>, OwnedSemaphorePermit),
}

impl<R> Waiter<R> {
    /// A caller that has gone away does not mind.
    fn answer(self, answer: Answer<R>) {
        match self {
            Self::One(caller) => drop(caller.send(answer)),
            Self::Stream(caller, permit) => {
                drop(permit);
                drop(caller.send(answer));
            }
        }
    }
}

/// A lane to one peer. Dropping it closes the connection.
pub(super) struct Lane<K: LaneKind> {
    shared: Arc<Shared<K>>,
    closed: CancellationToken,
}

struct Shared<K: LaneKind> {
    endpoint: Endpoint,
    options: PeerOptions,
    stats: Arc<PeerStats>,
    link: Mutex<Link<K>>,
}

/// The connection's state. Moved by callers that find it down and by its task when it breaks.
struct Link<K: LaneKind> {
    state: State<K>,
    /// Rises for ever, so that a reply of an earlier connection fits no waiter of a later one.
    next_seq: u64,
    /// Attempts since the last reply.
    failures: u32,
}

enum State<K: LaneKind> {
    /// No connection, and none is tried before `retry_at`.
    Down { retry_at: Option<Instant>, error: String },
    /// Connected, or connecting: frames queue up meanwhile.
    Open { frames: mpsc::UnboundedSender<K::Frame>, waiters: HashMap<u64, Waiter<K::Reply>> },
}

impl<K: LaneKind> Lane<K> {
    pub(super) fn new(endpoint: Endpoint, options: PeerOptions, stats: Arc<PeerStats>) -> Self {
        let state = State::Down { retry_at: None, error: String::new() };
        let link = Mutex::new(Link { state, next_seq: 1, failures: 0 });
        let shared = Arc::new(Shared { endpoint, options, stats, link });
        Self { shared, closed: CancellationToken::new() }
    }

    /// Queues a frame and returns its number. Connects first if need be. While the lane is down and
    /// pausing, fails at once.
    pub(super) fn send(
        &self,
        mut frame: K::Frame,
        waiter: Waiter<K::Reply>,
    ) -> Result<u64, TransportError> {
        let mut link = self.shared.link();
        if let State::Down { retry_at, error } = &link.state {
            if retry_at.is_some_and(|at| runtime::now() < at) {
                return Err(TransportError::Unreachable(error.clone()));
            }
            let (frames, queue) = mpsc::unbounded_channel();
            link.state = State::Open { frames, waiters: HashMap::new() };
            let (shared, closed) = (self.shared.clone(), self.closed.clone());
            runtime::spawn(async move {
                tokio::select! {
                    () = closed.cancelled() => shared.down("the lane was closed".to_owned(), false),
                    error = shared.connect_and_read(queue) => shared.down(error, true),
                }
            });
        }
        let seq = link.next_seq;
        link.next_seq += 1;
        let State::Open { frames, waiters } = &mut link.state else {
            unreachable!("invariant: the link was opened above");
        };
        K::number(&mut frame, seq);
        if frames.send(frame).is_err() {
            // The stream's sending half is gone already; its task is about to say why.
            return Err(TransportError::Unreachable("the connection is closing".to_owned()));
        }
        waiters.insert(seq, waiter);
        Ok(seq)
    }

    /// The caller no longer waits for this reply.
    pub(super) fn forget(&self, seq: u64) {
        if let State::Open { waiters, .. } = &mut self.shared.link().state {
            waiters.remove(&seq);
        }
    }

    /// Frames without a reply.
    pub(super) fn in_flight(&self) -> usize {
        match &self.shared.link().state {
            State::Open { waiters, .. } => waiters.len(),
            State::Down { .. } => 0,
        }
    }
}

impl<K: LaneKind> Drop for Lane<K> {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl<K: LaneKind> Shared<K> {
    fn link(&self) -> MutexGuard<'_, Link<K>> {
        // Held for a few map operations only; a panic there is a bug that ends the process.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what ended the connection.
    async fn connect_and_read(&self, queue: mpsc::UnboundedReceiver<K::Frame>) -> String {
        let opening = async {
            let channel = self.endpoint.connect().await.map_err(|e| describe(&e))?;
            let frames = UnboundedReceiverStream::new(queue);
            K::open(channel, frames).await.map_err(|status| status.to_string())
        };
        let timeout = self.options.connect_timeout;
        let mut replies = match runtime::timeout(timeout, opening).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(error)) => return error,
            Err(_) => return format!("could not connect within {timeout:?}"),
        };
        PeerStats::count(&self.stats.connected);
        tracing::debug!(lane = K::NAME, peer = %self.endpoint.uri(), "connected");
        loop {
            match replies.next().await {
                Some(Ok(reply)) => self.deliver(reply),
                Some(Err(status)) => return status.to_string(),
                None => return "the peer closed the connection".to_owned(),
            }
        }
    }

    fn deliver(&self, reply: K::Reply) {
        let waiter = {
            let mut link = self.link();
            link.failures = 0;
            match &mut link.state {
                State::Open { waiters, .. } => waiters.remove(&K::seq(&reply)),
                State::Down { .. } => None,
            }
        };
        if let Some(waiter) = waiter {
            waiter.answer(Ok(reply));
        }
    }

    /// Takes the link down and tells everyone who waits.
    fn down(&self, error: String, pause: bool) {
        let waiters = {
            let mut link = self.link();
            let retry_at = pause.then(|| runtime::now() + self.pause(link.failures));
            link.failures = link.failures.saturating_add(1);
            match std::mem::replace(&mut link.state, State::Down { retry_at, error: error.clone() })
            {
                State::Open { waiters, .. } => waiters,
                State::Down { .. } => HashMap::new(),
            }
        };
        PeerStats::count(&self.stats.broken);
        tracing::debug!(lane = K::NAME, peer = %self.endpoint.uri(), waiting = waiters.len(),
            "connection lost: {error}");
        for waiter in waiters.into_values() {
            waiter.answer(Err(TransportError::Unreachable(error.clone())));
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let (first, longest) = self.options.reconnect_backoff;
        first.saturating_mul(1 << failures.min(10)).min(longest)
    }
}

/// tonic's "transport error" alone says nothing; the cause is in the chain.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
