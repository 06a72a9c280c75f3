//! When to try again, where, and after how long. Pure: the clock and the dice come in as arguments.

use std::time::Duration;

use crate::errors::{Effect, Error, ErrorKind};

/// How patient a client is with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Bound of the first pause.
    pub initial_backoff: Duration,
    /// Bound of every pause; bounds double up to here.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            // About a round trip and an fsync: shorter only finds the same state again.
            initial_backoff: Duration::from_millis(20),
            // An election takes some of these; a longer pause would lengthen the outage after it.
            max_backoff: Duration::from_millis(100),
        }
    }
}

/// Whether a call may run twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Twice is as good as once: reads, monotonic changes, appends with a producer sequence.
    Repeatable,
    /// Only a call that had no effect may be repeated.
    Once,
}

/// Where to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The same node.
    Same,
    /// The leader that the error names.
    Leader,
    /// Another node: this one can't be reached, or can't help.
    Next,
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try there, after this pause.
    Retry(Target, Duration),
    /// The error is the answer.
    GiveUp,
}

/// Which hints to a leader are worth following at once: those that name a later term than any
/// before. Each election gives at most one of them, so that nodes that point at each other are
/// still asked with pauses; but who finds the new leader does not wait before he goes there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hints {
    term: u64,
}

impl Hints {
    /// A leader of this term is known.
    pub(crate) fn saw(&mut self, term: u64) {
        self.term = self.term.max(term);
    }

    /// Does the error name a later leader than any that was known? After this, it is known.
    pub(crate) fn is_news(&mut self, error: &Error) -> bool {
        let Some(hint) = error.leader() else { return false };
        let news = hint.term > self.term;
        self.saw(hint.term);
        news
    }
}

impl RetryPolicy {
    /// What to do about `error`, the outcome of attempt number `attempt` (from 0), with `left`
    /// until the call's deadline. `news`: it names a leader that was not known. `dice` is uniform
    /// in 0..1.
    #[must_use]
    pub fn decide(
        &self,
        attempt: u32,
        news: bool,
        error: &Error,
        safety: Safety,
        left: Duration,
        dice: f64,
    ) -> Decision {
        let safe = safety == Safety::Repeatable || error.effect() == Effect::None;
        if !error.is_retryable() || error.effect() == Effect::Applied || !safe {
            return Decision::GiveUp;
        }
        let target = target(error);
        let pause = match target {
            // The first hop to the leader need not wait, nor one to a new leader; others mean that
            // nobody knows better.
            Target::Leader if attempt == 0 || news => Duration::ZERO,
            _ => self.backoff(attempt, dice),
        };
        let pause = pause.max(error.retry_after());
        if pause >= left {
            return Decision::GiveUp;
        }
        Decision::Retry(target, pause)
    }

    /// Full jitter (Brooker, "Exponential Backoff And Jitter"): uniform up to a bound that
    /// doubles, so that callers who failed together do not come back together.
    #[must_use]
    pub fn backoff(&self, attempt: u32, dice: f64) -> Duration {
        let doubled =
            self.initial_backoff.saturating_mul(1_u32.checked_shl(attempt).unwrap_or(u32::MAX));
        doubled.min(self.max_backoff).mul_f64(dice.clamp(0.0, 1.0))
    }
}

/// Where a retry of `error` has the best chance.
#[must_use]
pub fn target(error: &Error) -> Target {
    match error.kind() {
        _ if error.leader().is_some() => Target::Leader,
        // The node is fine, only busy; another one could not take its writes.
        ErrorKind::ResourceExhausted => Target::Same,
        _ => Target::Next,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_proto::v1::{self as wire, ErrorKind as K};

    use super::*;

    const LEFT: Duration = Duration::from_secs(5);

    fn error(kind: K, retryable: bool, effect: wire::Effect, hint: bool, after_ms: u64) -> Error {
        Error::from_detail(wire::ErrorDetail {
            kind: kind.into(),
            retryable,
            effect: effect.into(),
            leader: hint.then(|| wire::LeaderHint {
                node_id: 1,
                address: "http://l".to_owned(),
                term: 1,
            }),
            retry_after_ms: after_ms,
            ..Default::default()
        })
    }

    #[test]
    fn table() {
        use Decision::{GiveUp, Retry};
        use Safety::{Once, Repeatable};
        use Target::{Leader, Next, Same};
        use wire::Effect::{Applied, None, Unknown};
        let ms = Duration::from_millis;
        let table = [
            // A hint is followed at once, the first time.
            (K::NotLeader, true, None, true, 0, 0, Once, Retry(Leader, ms(0))),
            (K::NotLeader, true, None, true, 0, 1, Once, Retry(Leader, ms(40))),
            // No hint: the next node, not before the node's wish.
            (K::NotLeader, true, None, false, 50, 0, Once, Retry(Next, ms(50))),
            // A lost write is not repeated unless that is safe.
            (K::NotLeader, true, Unknown, true, 0, 0, Once, GiveUp),
            (K::NotLeader, true, Unknown, true, 0, 0, Repeatable, Retry(Leader, ms(0))),
            (K::Unavailable, true, Unknown, false, 0, 0, Once, GiveUp),
            (K::Unavailable, true, Unknown, false, 0, 0, Repeatable, Retry(Next, ms(20))),
            (K::Deadline, true, Unknown, false, 0, 0, Once, GiveUp),
            // Overload: the same node, after its wish.
            (K::ResourceExhausted, true, None, false, 30, 0, Once, Retry(Same, ms(30))),
            (K::ResourceExhausted, true, None, false, 30, 2, Once, Retry(Same, ms(80))),
            // Pauses grow up to their bound.
            (K::ResourceExhausted, true, None, false, 30, 9, Once, Retry(Same, ms(100))),
            // Final answers.
            (K::Fenced, false, None, false, 0, 0, Repeatable, GiveUp),
            (K::TooManyProducers, false, None, false, 0, 0, Repeatable, GiveUp),
            (K::SequenceStale, true, Applied, false, 0, 0, Repeatable, GiveUp),
            // No time left for the pause.
            (K::ShuttingDown, true, None, false, 5000, 0, Once, GiveUp),
        ];
        let policy = RetryPolicy::default();
        for (kind, retryable, effect, hint, after, attempt, safety, expected) in table {
            let error = error(kind, retryable, effect, hint, after);
            let decided = policy.decide(attempt, false, &error, safety, LEFT, 1.0);
            assert_eq!(decided, expected, "{kind:?} attempt {attempt} {safety:?}");
        }
    }

    proptest! {
        #[test]
        fn pauses_stay_within_their_bound(attempt in 0..100_u32, dice in 0.0..1.0_f64) {
            let policy = RetryPolicy::default();
            let pause = policy.backoff(attempt, dice);
            prop_assert!(pause <= policy.max_backoff);
            prop_assert!(pause <= policy.initial_backoff.saturating_mul(1 << attempt.min(20)));
            prop_assert!(policy.backoff(attempt, 0.0).is_zero());
        }

        /// The rule that everything else rests on.
        #[test]
        fn never_twice_after_unknown_or_applied(
            kind in 1..26_i32, retryable: bool, effect in 0..4_i32, attempt in 0..50_u32,
            dice in 0.0..1.0_f64,
        ) {
            let error = Error::from_detail(wire::ErrorDetail {
                kind, retryable, effect, ..Default::default()
            });
            let decided = RetryPolicy::default().decide(attempt, false, &error, Safety::Once, LEFT, dice);
            if error.effect() != Effect::None || !retryable {
                prop_assert_eq!(decided, Decision::GiveUp);
            }
        }
    }

    #[test]
    fn a_hint_is_news_once_a_term() {
        let hint = |term| {
            let leader = wire::LeaderHint { node_id: 1, address: "http://l".to_owned(), term };
            Error::from_detail(wire::ErrorDetail {
                kind: K::NotLeader.into(),
                leader: Some(leader),
                ..Default::default()
            })
        };
        let mut hints = Hints::default();
        hints.saw(3);
        let news: Vec<bool> =
            [3, 4, 4, 2, 6, 5].into_iter().map(|term| hints.is_news(&hint(term))).collect();
        assert_eq!(news, [false, true, false, false, true, false]);
        assert!(!hints.is_news(&error(K::Unavailable, true, wire::Effect::None, false, 0)));
    }
}
