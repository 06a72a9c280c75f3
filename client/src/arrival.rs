//! Since when a message may have been lying in buffers on this machine before its reader came for
//! it. What a header says about an age holds for the moment at which the node wrote it; time behind
//! that belongs to the age, and no clock of the node's can tell it.
//!
//! A stream that has nothing to offer shows that nothing lies there. One such look proves little: a
//! process that was stopped, or a runtime that was held up, finds its stream empty at first,
//! because nobody has read the socket yet. So a look counts when the next one has come in time.

use std::time::Duration;

use crate::runtime::{self, Moment};

/// A reader that waits looks this often.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A look that comes later after the one before says that something held us up.
const IN_TIME: Duration = Duration::from_millis(150);

/// One stream's looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Nothing lay there then.
    since: Moment,
    last_look: Moment,
}

impl Arrival {
    /// A stream that was asked for at `asked`.
    pub(crate) fn new(asked: Moment) -> Self {
        Self { since: asked, last_look: asked }
    }

    /// The stream had nothing to offer.
    pub(crate) fn nothing(&mut self) {
        let now = Moment::now();
        if self.last_look.until(&now) <= IN_TIME {
            self.since = self.last_look;
        }
        self.last_look = now;
    }

    /// What comes next has come after this.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }
}

/// `stream`'s next item, or `None` after `limit`. Nothing is lost when it is dropped while it waits.
pub(crate) async fn next<S>(
    stream: &mut S,
    arrival: &mut Arrival,
    limit: Duration,
) -> Option<Option<S::Item>>
where
    S: futures::Stream + Unpin,
{
    use futures::StreamExt;
    let deadline = runtime::now() + limit;
    loop {
        if let Some(item) = runtime::at_once(stream.next()) {
            return Some(item);
        }
        arrival.nothing();
        let left = deadline.saturating_duration_since(runtime::now());
        if left.is_zero() {
            return None;
        }
        if let Some(item) = runtime::timeout(left.min(LOOK_EVERY), stream.next()).await {
            return Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wait(ms: u64) {
        runtime::sleep(Duration::from_millis(ms)).await;
    }

    fn age_ms(arrival: &Arrival) -> u128 {
        // The wall clock counts, too, and is not paused: only long times can be told apart.
        arrival.since().until(&Moment::now()).as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn looks_in_time_tell_since_when() {
        let mut arrival = Arrival::new(Moment::now());
        for _ in 0..10 {
            wait(50).await;
            arrival.nothing();
        }
        let age = age_ms(&arrival);
        assert!((50..2_000).contains(&age), "{age}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_after_a_pause_proves_nothing_by_itself() {
        let mut arrival = Arrival::new(Moment::now());
        wait(50).await;
        arrival.nothing();
        wait(8_000).await;
        assert!(age_ms(&arrival) >= 8_000, "a busy reader");
        arrival.nothing();
        assert!(age_ms(&arrival) >= 8_000, "the socket may not have been read yet");
        wait(8_000).await;
        arrival.nothing();
        assert!(age_ms(&arrival) >= 16_000, "nor was it before the next pause");
        wait(50).await;
        arrival.nothing();
        let age = age_ms(&arrival);
        assert!((50..2_000).contains(&age), "{age}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_at_its_limit() {
        let mut arrival = Arrival::new(Moment::now());
        let mut nothing = futures::stream::pending::<()>();
        let began = runtime::now();
        assert!(next(&mut nothing, &mut arrival, Duration::from_millis(9_990)).await.is_none());
        assert_eq!(began.elapsed(), Duration::from_millis(9_990));
        assert!(age_ms(&arrival) < 2_000, "it was looked at all the time");
    }
}
