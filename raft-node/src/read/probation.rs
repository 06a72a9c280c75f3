//! Whether a replica has kept up for a while, for those who send it readers. Pure: the clock is
//! passed in.
//!
//! What cuts a replica off usually cuts off those who ask after it, too. So one who asks makes the
//! node look by itself from then on ([`Probation::watched`]), and time in which nobody looked counts
//! against the replica: how far behind it was is not known.

use std::time::Duration;

use super::worst::Worst;
use crate::clock::BootInstant;

/// Between looks while somebody cares: one probe each, where no reader causes more.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A replica is looked at for this long after somebody asked: longer than any load balancer's
/// interval.
pub const WATCH_FOR: Duration = Duration::from_secs(120);

/// A longer time without a look is one of which nothing is known: two looks that did not come, as
/// the process or the machine was stopped, or nobody had asked yet.
const LONGEST_SILENCE: Duration = Duration::from_secs(3);

const _: () = assert!(
    LONGEST_SILENCE.as_millis() > 2 * LOOK_EVERY.as_millis(),
    "a look that comes late on a busy machine is no silence"
);

/// One replica of one group.
#[derive(Debug)]
pub struct Probation {
    /// What looks found; [`Duration::MAX`] where unknown.
    lags: Worst,
    last_look: BootInstant,
    /// The tightest bound that somebody asked for, and until when it counts.
    asked: Option<(Duration, BootInstant)>,
}

impl Probation {
    /// A replica that has just started has to show first that it keeps up.
    #[must_use]
    pub fn new(now: BootInstant) -> Self {
        let mut lags = Worst::default();
        lags.observe(now, Duration::MAX);
        Self { lags, last_look: now, asked: None }
    }

    /// Somebody asks whether it keeps within `bound`. What looks find must be fit for the tightest
    /// bound that anybody asks for: that one is returned.
    pub fn ask(&mut self, now: BootInstant, bound: Duration) -> Duration {
        let tightest = self.watched(now).map_or(bound, |known| known.min(bound));
        self.asked = Some((tightest, now.after(WATCH_FOR)));
        tightest
    }

    /// The bound to be looked for; `None` while nobody cares.
    #[must_use]
    pub fn watched(&self, now: BootInstant) -> Option<Duration> {
        self.asked.filter(|(_, until)| now < *until).map(|(bound, _)| bound)
    }

    /// A look found it so far behind; `None`: unknown.
    pub fn look(&mut self, now: BootInstant, lag: Option<Duration>) {
        let lag = match now.since(self.last_look) > LONGEST_SILENCE {
            true => None,
            false => lag,
        };
        self.lags.observe(now, lag.unwrap_or(Duration::MAX));
        self.last_look = now;
    }

    /// The worst in the time of `probation`; `None`: it was unknown once.
    #[must_use]
    pub fn worst(&self, now: BootInstant, probation: Duration) -> Option<Duration> {
        self.lags.over(now, probation).filter(|worst| *worst < Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> BootInstant {
        BootInstant::at(Duration::from_millis(ms))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn looks(probation: &mut Probation, from_s: u64, to_s: u64) {
        (from_s..to_s).for_each(|s| probation.look(at(s * 1000), Some(ms(20))));
    }

    #[test]
    fn it_begins_with_a_start_and_ends_when_nothing_worse_was_seen_for_a_while() {
        let mut probation = Probation::new(at(0));
        looks(&mut probation, 1, 6);
        assert_eq!(probation.worst(at(5_900), WINDOW), None);
        looks(&mut probation, 6, 8);
        assert_eq!(probation.worst(at(7_100), WINDOW), Some(ms(20)));
        probation.look(at(7_500), Some(ms(900)));
        assert_eq!(probation.worst(at(7_600), WINDOW), Some(ms(900)));
        probation.look(at(8_000), None);
        assert_eq!(probation.worst(at(8_100), WINDOW), None);
    }

    #[test]
    fn time_that_nobody_saw_counts_against_it() {
        // Stopped, or cut off together with who asks: the first look after it finds all well.
        for (silence, proven) in [(2_900, true), (3_100, false), (15_000, false)] {
            let mut probation = Probation::new(at(0));
            looks(&mut probation, 1, 20);
            let back = 19_000 + silence;
            probation.look(at(back), Some(ms(20)));
            assert_eq!(probation.worst(at(back), WINDOW).is_some(), proven, "{silence} ms");
        }
    }

    #[test]
    fn who_asks_makes_it_be_watched_at_the_tightest_bound() {
        let mut probation = Probation::new(at(0));
        assert_eq!(probation.watched(at(0)), None);
        assert_eq!(probation.ask(at(0), ms(500)), ms(500));
        assert_eq!(probation.ask(at(10), ms(5_000)), ms(500), "fit for both");
        assert_eq!(probation.ask(at(20), ms(200)), ms(200));
        let end = 20 + WATCH_FOR.as_millis() as u64;
        assert_eq!(probation.watched(at(end - 1)), Some(ms(200)));
        assert_eq!(probation.watched(at(end)), None, "nobody cares any more");
        assert_eq!(probation.ask(at(end), ms(5_000)), ms(5_000));
    }
}
