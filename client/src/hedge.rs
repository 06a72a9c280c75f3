//! A second try before the first has failed: reads that take unusually long are asked of another
//! replica, too, and the first answer counts. Pure.
//!
//! It cuts the slow end of a distribution at the price of more load, and load is what makes answers
//! slow: so it is off by default, and a budget keeps it a small part of all reads, also when every
//! one of them is slow.

use std::time::Duration;

/// Settings of hedged reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedging {
    after: Duration,
    percent: u8,
}

impl Hedging {
    /// Asks a second replica when there is no answer after this long; a good value is what 95 of
    /// 100 reads stay below. At most 5 of 100 reads are asked twice.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self { after: delay, percent: 5 }
    }

    /// At most so many of 100 reads are asked twice.
    #[must_use]
    pub fn at_most_percent(mut self, percent: u8) -> Self {
        self.percent = percent.min(100);
        self
    }
}

/// Second tries that may be saved up: a short stall is bridged at once.
const BURST: f64 = 10.0;

#[derive(Debug)]
pub(crate) struct Budget {
    settings: Hedging,
    /// Second tries earned and not used.
    saved: f64,
}

impl Budget {
    pub(crate) fn new(settings: Hedging) -> Self {
        Self { settings, saved: 0.0 }
    }

    /// A read begins, which earns its part of a second try. After how long to ask for it.
    pub(crate) fn earn(&mut self) -> Duration {
        self.saved = (self.saved + f64::from(self.settings.percent) / 100.0).min(BURST);
        self.settings.after
    }

    /// Whether a second try may be made now.
    pub(crate) fn spend(&mut self) -> bool {
        // Twenty times 5 % is one, but not in binary.
        let affordable = self.saved > 1.0 - 1e-9;
        if affordable {
            self.saved -= 1.0;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_tries_are_a_small_part() {
        let mut budget = Budget::new(Hedging::after(Duration::from_millis(7)));
        let mut twice = 0;
        for read in 1..=10_000 {
            assert_eq!(budget.earn(), Duration::from_millis(7));
            twice += i32::from(budget.spend());
            assert!(twice * 20 <= read, "{twice} of {read}");
        }
        assert_eq!(twice, 500);
    }

    #[test]
    fn savings_are_bounded() {
        let mut budget = Budget::new(Hedging::after(Duration::ZERO).at_most_percent(50));
        (0..10_000).for_each(|_| _ = budget.earn());
        assert_eq!((0..100).filter(|_| budget.spend()).count(), BURST as usize);
        let mut never = Budget::new(Hedging::after(Duration::ZERO).at_most_percent(0));
        never.earn();
        assert!(!never.spend());
    }
}
