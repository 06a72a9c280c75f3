//! Says once that a peer does not answer, reminds now and then, and says when it is back. Without
//! this a dead peer costs as many lines a second as it is called.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::runtime::{self, Instant};

/// Shorter silences are not worth a line: a pause of either machine, a lost heartbeat.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// A peer that was not called for so long was not silent meanwhile, for all that is known: a follower
/// calls the others only when it asks for votes.
const NOT_CALLED: Duration = Duration::from_secs(5);

/// How often a silence that lasts is mentioned again.
const REMIND: Duration = Duration::from_secs(60);

/// Since when calls of one peer have failed without an answer in between.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Unanswered>>);

#[derive(Clone, Copy, Debug)]
struct Unanswered {
    since: Instant,
    /// The last call that failed.
    last: Instant,
    /// When it was last mentioned.
    said: Option<Instant>,
}

impl Silence {
    /// A call failed. If that is worth a line: how long the peer has been silent.
    pub fn failed(&self) -> Option<Duration> {
        let now = runtime::now();
        let mut silence = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Unanswered { since: now, last: now, said: None };
        let unanswered = silence.get_or_insert(new);
        if now.duration_since(unanswered.last) > NOT_CALLED {
            *unanswered = new;
        }
        unanswered.last = now;
        let lasted = now.duration_since(unanswered.since);
        let due = match unanswered.said {
            None => lasted >= WORTH_A_LINE,
            Some(said) => now.duration_since(said) >= REMIND,
        };
        due.then(|| {
            unanswered.said = Some(now);
            lasted
        })
    }

    /// Whether the last call failed.
    pub fn lasts(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// It answered. If its silence was mentioned: how long that lasted.
    pub fn answered(&self) -> Option<Duration> {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        ended.said.map(|_| runtime::now().duration_since(ended.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn for_seconds(silence: &Silence, seconds: u64) -> Vec<u64> {
        let mut lines = Vec::new();
        for _ in 0..seconds * 10 {
            lines.extend(silence.failed().map(|lasted| lasted.as_secs()));
            runtime::sleep(Duration::from_millis(100)).await;
        }
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_is_mentioned_once_and_then_every_minute() {
        let silence = Silence::default();
        assert_eq!(for_seconds(&silence, 130).await, [1, 61, 121]);
        assert_eq!(silence.answered(), Some(Duration::from_secs(130)));
        assert_eq!(silence.answered(), None, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_nobody_called_was_not_silent() {
        let silence = Silence::default();
        assert_eq!(silence.failed(), None);
        runtime::sleep(NOT_CALLED * 2).await;
        assert_eq!(silence.failed(), None, "two votes that failed are no silence of ten seconds");
        assert_eq!(for_seconds(&silence, 3).await, [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_too_short_to_mention_ends_without_a_word() {
        let silence = Silence::default();
        for _ in 0..3 {
            silence.failed();
            assert!(silence.lasts());
            runtime::sleep(WORTH_A_LINE * 9 / 10).await;
            assert_eq!(silence.failed(), None);
            assert_eq!(silence.answered(), None);
            assert!(!silence.lasts());
        }
        assert_eq!(for_seconds(&silence, 2).await, [1], "counted from its own beginning");
    }
}
