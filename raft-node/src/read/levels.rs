//! Consistency levels, what a read asks for, and what its answer rests on.

use std::time::Duration;

use quorate_state_machine::{
    store::ReadView,
    types::{Incarnation, LogIndex, LogPoint, ReadLevel},
};

use crate::clock::BootInstant;

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Reflects everything acknowledged before the read arrived.
    Linearizable,
    /// Reflects everything acknowledged more than this long before the read arrived.
    Bounded(Duration),
    /// What is applied here.
    Eventual,
}

impl From<ReadLevel> for Level {
    fn from(level: ReadLevel) -> Self {
        match level {
            ReadLevel::Linearizable => Self::Linearizable,
            ReadLevel::Bounded { max_staleness_ms } => {
                Self::Bounded(Duration::from_millis(max_staleness_ms))
            }
            ReadLevel::Eventual => Self::Eventual,
        }
    }
}

impl Level {
    /// The stricter of two: what satisfies it satisfies both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Linearizable, _) | (_, Self::Linearizable) => Self::Linearizable,
            (Self::Bounded(a), Self::Bounded(b)) => Self::Bounded(a.min(b)),
            (bounded @ Self::Bounded(_), Self::Eventual)
            | (Self::Eventual, bounded @ Self::Bounded(_)) => bounded,
            (Self::Eventual, Self::Eventual) => Self::Eventual,
        }
    }

    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Bounded(_) => "bounded",
            Self::Eventual => "eventual",
        }
    }
}

/// What to do when this replica can't give the level right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnmet {
    /// Wait for it, until the caller's deadline.
    #[default]
    Wait,
    /// Fail with a hint where to go: at once where only the leader could answer at once.
    Redirect,
    /// Fail with the age that could have been offered.
    Fail,
    /// Answer all the same; the header says how old the answer may be.
    ServeAndMark,
}

/// A point that the answer must reflect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtLeast {
    /// Term and index.
    pub at: LogPoint,
    /// The log it came from (0: none in particular).
    pub incarnation: Incarnation,
}

/// What a read asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The level.
    pub level: Level,
    /// Points of this group that the answer must reflect, besides.
    pub at_least: Vec<AtLeast>,
    /// Points of other groups that were named, too: nothing is said about them.
    pub elsewhere: u32,
    /// What to do when the level can't be had.
    pub on_unmet: OnUnmet,
    /// When the read arrived.
    pub arrived: BootInstant,
    /// Not even [`OnUnmet::ServeAndMark`] goes below it. [`Self::level`] is never below it.
    pub floor: Level,
}

/// What proves the answer's freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A read index confirmed by a quorum after the read arrived.
    ReadIndex,
    /// A probe of this node's that a quorum confirmed.
    Probe,
    /// Nothing was asked for.
    None,
}

/// An asked level, satisfied by every state that has applied what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Satisfied {
    /// What proves it.
    pub(super) evidence: Evidence,
    /// What was asked for, unless it is served in spite of that.
    pub given: Level,
    /// What its evidence asks for is applied up to here, and has to be shown.
    pub(super) needs: LogIndex,
    /// One of the points is not applied; only where that was allowed.
    pub position_unmet: bool,
    /// See [`Ask::elsewhere`].
    pub(super) elsewhere: u32,
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// What is applied in the state that it shows.
    pub applied: LogPoint,
    /// What proves it.
    pub evidence: Evidence,
    /// The level that it satisfies.
    pub given: Level,
    /// One of the points may not be in it; only where that was allowed.
    pub position_unmet: bool,
    /// See [`Ask::elsewhere`].
    pub elsewhere: u32,
}

/// A view that satisfies the asked level.
pub struct Served {
    /// The applied state, frozen.
    pub view: ReadView,
    /// Why it may be served.
    pub basis: Basis,
}

impl Satisfied {
    /// What an answer rests on that shows the state `applied`.
    pub(super) fn basis(self, applied: LogPoint) -> Basis {
        let Self { evidence, given, position_unmet, elsewhere, .. } = self;
        Basis { applied, evidence, given, position_unmet, elsewhere }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_of_two_levels() {
        let bounded = |ms| Level::Bounded(Duration::from_millis(ms));
        // From the strictest on.
        let levels = [Level::Linearizable, bounded(0), bounded(5), bounded(9), Level::Eventual];
        for (n, one) in levels.into_iter().enumerate() {
            for (m, other) in levels.into_iter().enumerate() {
                assert_eq!(one.and(other), levels[n.min(m)], "{one:?} and {other:?}");
            }
        }
    }
}
