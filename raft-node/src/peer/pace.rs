//! When the next request of an append session is made.
//!
//! openraft makes a request when it is asked for one, out of all that is there by then: entries,
//! and the commit index. As soon as a quorum has an entry, it has something to say again: the new
//! commit index alone. Asked at once, it would send every entry's commit index in a message of its
//! own, before the leader answers its client: half of all messages between nodes, and a third of a
//! sequential append's processor time. So this does not ask while there are no new entries, for
//! [`COMMIT_LINGER`] at most; mostly the next entry takes the commit index along.
//!
//! To openraft this is a peer that reads slowly, and nothing is made that isn't sent. Nobody waits
//! for a commit index that comes later: the leader answers its clients when it has applied, and a
//! linearizable read of a follower gets the commit index with the heartbeats of its own round.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures::{Stream, StreamExt, task::AtomicWaker};

use super::wire::AppendRequest;
use crate::runtime::{self, Alarm, Instant};

/// How long a commit index may wait for an entry to travel with; the timer adds up to a
/// millisecond. What followers show to eventual readers and to tails is older by this much at
/// most, and only while appends are rare.
const COMMIT_LINGER: Duration = Duration::from_millis(1);

/// The index of the last entry that this node's log has for the group.
pub(super) type LastAppended = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Notes that the requests' stream has something, apart from all else that polls the session.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    session: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.session.wake();
    }
}

/// A session's requests, asked for as the module says.
pub(super) struct Paced<S> {
    input: S,
    last_appended: LastAppended,
    /// Where the log ends with all that was taken.
    taken: u64,
    bell: Arc<Bell>,
    waker: Waker,
    /// The input had nothing when it was last asked: it rings when that changes.
    resting: bool,
    /// Until when it is not asked for a commit index alone.
    linger: Option<Instant>,
    /// Kept from one linger to the next, which mostly begins before the one before would end: so
    /// it is put off, and hardly ever rings while appends are frequent.
    alarm: Alarm,
}

impl<S> Paced<S> {
    pub(super) fn new(input: S, last_appended: LastAppended) -> Self {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        Self {
            input,
            last_appended,
            taken: 0,
            bell,
            waker,
            resting: false,
            linger: None,
            alarm: Alarm::default(),
        }
    }

    /// Whether the input is to be asked now.
    fn is_time(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.resting {
            return true;
        }
        if !self.bell.rung.load(Ordering::Acquire) {
            return false;
        }
        if (self.last_appended)() > self.taken {
            return true;
        }
        let until = *self.linger.get_or_insert_with(|| runtime::now() + COMMIT_LINGER);
        self.alarm.poll_until(until, cx).is_ready()
    }
}

impl<S: Stream<Item = AppendRequest> + Unpin> Stream for Paced<S> {
    type Item = AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AppendRequest>> {
        let this = &mut *self;
        // Before the bell is looked at: one that rings later wakes this task.
        this.bell.session.register(cx.waker());
        if !this.is_time(cx) {
            return Poll::Pending;
        }
        this.linger = None;
        this.bell.rung.store(false, Ordering::Release);
        let next = this.input.poll_next_unpin(&mut Context::from_waker(&this.waker));
        this.resting = next.is_pending();
        if let Poll::Ready(Some(request)) = &next {
            let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
            this.taken = last.map_or(0, |last| last.index);
        }
        next
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
