//! The worst of something in the last seconds. Pure: the clock is passed in.

use std::time::Duration;

use crate::clock::BootInstant;

/// Seconds remembered; more than any window that is asked for.
const SECONDS: usize = 64;

/// Longest window that [`Worst::over`] can answer for.
pub const MAX_WINDOW: Duration = Duration::from_secs(60);

const _: () = assert!(MAX_WINDOW.as_secs() < SECONDS as u64 - 1, "a window is remembered whole");

/// One maximum for each of the last seconds.
#[derive(Debug)]
pub struct Worst {
    /// By second modulo [`SECONDS`]: which second, and its maximum.
    seconds: [Option<(u64, Duration)>; SECONDS],
}

impl Default for Worst {
    fn default() -> Self {
        Self { seconds: [None; SECONDS] }
    }
}

fn second(at: BootInstant) -> u64 {
    at.since(BootInstant::default()).as_secs()
}

impl Worst {
    /// It was `value` at `now`.
    pub fn observe(&mut self, now: BootInstant, value: Duration) {
        let second = second(now);
        let slot = &mut self.seconds[(second % SECONDS as u64) as usize];
        match slot {
            Some((of, worst)) if *of == second => *worst = value.max(*worst),
            _ => *slot = Some((second, value)),
        }
    }

    /// The maximum of what was observed in the `window` before `now`, and up to a second longer.
    /// `None`: nothing was.
    #[must_use]
    pub fn over(&self, now: BootInstant, window: Duration) -> Option<Duration> {
        let window = window.min(MAX_WINDOW);
        let (from, to) = (second(now.before(window)), second(now));
        let inside = self.seconds.iter().flatten().filter(|(of, _)| (from..=to).contains(of));
        inside.map(|(_, worst)| *worst).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootInstant {
        BootInstant::at(Duration::from_millis(ms))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_maximum_of_the_window_and_nothing_older() {
        let mut worst = Worst::default();
        assert_eq!(worst.over(at(0), MAX_WINDOW), None);
        worst.observe(at(1_500), ms(900));
        worst.observe(at(1_600), ms(20));
        worst.observe(at(4_000), ms(30));
        assert_eq!(worst.over(at(4_100), ms(60_000)), Some(ms(900)));
        assert_eq!(worst.over(at(4_100), ms(2_600)), Some(ms(900)), "the window begins within it");
        assert_eq!(worst.over(at(4_100), ms(1_000)), Some(ms(30)));
        assert_eq!(worst.over(at(61_900), MAX_WINDOW), Some(ms(900)));
        assert_eq!(worst.over(at(63_000), MAX_WINDOW), Some(ms(30)));
        assert_eq!(worst.over(at(70_000), MAX_WINDOW), None);
    }

    #[test]
    fn an_old_second_makes_room_for_a_new_one() {
        let mut worst = Worst::default();
        for second in 0..1_000 {
            worst.observe(at(second * 1_000), ms(second));
            assert_eq!(worst.over(at(second * 1_000), MAX_WINDOW), Some(ms(second)));
        }
        // Fewer than were remembered, and each in its window only.
        assert_eq!(worst.over(at(1_058_500), MAX_WINDOW), Some(ms(999)));
        assert_eq!(worst.over(at(1_060_500), MAX_WINDOW), None);
    }
}
