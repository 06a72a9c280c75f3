//! How fresh an answer must be.

use std::time::Duration;

use quorate_proto::v1 as wire;

use crate::position::Position;

/// How fresh a read must be, by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Reflects everything acknowledged before the read was sent. Any replica can serve it.
    #[default]
    Linearizable,
    /// Reflects everything acknowledged more than this long before the read was sent. Whole
    /// milliseconds; fractions are cut off.
    Bounded(Duration),
    /// Whatever the asked replica has applied.
    Eventual,
    /// What the log says by itself ([`Client::set_read_level`](crate::Client::set_read_level)),
    /// as the asked replica knows it; [`Level::Linearizable`] where it says nothing.
    OfLog,
}

/// What a replica does when it can't give what was asked right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnmet {
    /// Waits for it, up to the call's deadline.
    #[default]
    Wait,
    /// Refuses with a hint where to go; the client follows it.
    Redirect,
    /// Refuses with [`ErrorKind::TooStale`](crate::ErrorKind::TooStale) and the age that could be
    /// offered.
    Fail,
    /// Asks the leader on the caller's behalf, within the node's budget for that.
    Forward,
    /// Answers all the same; the header says how old the answer may be.
    ServeAndMark,
}

/// How fresh an answer must be, and what if it can't.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consistency {
    level: Level,
    at_least: Vec<Position>,
    on_unmet: OnUnmet,
}

impl Level {
    fn to_wire(self) -> (wire::Level, Option<u64>) {
        match self {
            Self::Linearizable => (wire::Level::Linearizable, None),
            Self::Bounded(bound) => {
                let ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                (wire::Level::Bounded, Some(ms))
            }
            Self::Eventual => (wire::Level::Eventual, None),
            Self::OfLog => (wire::Level::Unspecified, None),
        }
    }

    /// As an answer says it; `None`: a level of a newer version.
    pub(crate) fn from_wire(level: &wire::ReadLevel) -> Option<Self> {
        match (level.level(), level.max_staleness_ms) {
            (wire::Level::Linearizable, _) => Some(Self::Linearizable),
            (wire::Level::Bounded, Some(ms)) => Some(Self::Bounded(Duration::from_millis(ms))),
            (wire::Level::Eventual, _) => Some(Self::Eventual),
            (wire::Level::Bounded | wire::Level::Unspecified, _) => None,
        }
    }

    /// As a log's own level; `None` is none.
    pub(crate) fn to_log(self) -> Option<wire::ReadLevel> {
        let (level, max_staleness_ms) = self.to_wire();
        (self != Self::OfLog).then(|| wire::ReadLevel { level: level.into(), max_staleness_ms })
    }
}

impl Consistency {
    /// Of a level, waiting when it can't be had at once.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self { level, ..Self::default() }
    }

    /// [`Level::Linearizable`].
    #[must_use]
    pub fn linearizable() -> Self {
        Self::new(Level::Linearizable)
    }

    /// [`Level::Bounded`].
    #[must_use]
    pub fn bounded(max_staleness: Duration) -> Self {
        Self::new(Level::Bounded(max_staleness))
    }

    /// [`Level::Eventual`].
    #[must_use]
    pub fn eventual() -> Self {
        Self::new(Level::Eventual)
    }

    /// [`Level::OfLog`].
    #[must_use]
    pub fn of_log() -> Self {
        Self::new(Level::OfLog)
    }

    /// The answer reflects at least `position`, too: read your writes, monotonic reads. May be
    /// given several times (one position a group suffices).
    #[must_use]
    pub fn at_least(mut self, position: Position) -> Self {
        self.at_least.push(position);
        self
    }

    /// What a replica does when it can't give this.
    #[must_use]
    pub fn on_unmet(mut self, on_unmet: OnUnmet) -> Self {
        self.on_unmet = on_unmet;
        self
    }

    pub(crate) fn with_level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// The level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether there is something that the answer must reflect.
    pub(crate) fn has_positions(&self) -> bool {
        !self.at_least.is_empty()
    }

    pub(crate) fn fails_when_unmet(&self) -> bool {
        self.on_unmet == OnUnmet::Fail
    }

    pub(crate) fn to_wire(&self) -> wire::Consistency {
        let (level, max_staleness_ms) = self.level.to_wire();
        let on_unmet = match self.on_unmet {
            OnUnmet::Wait => wire::OnUnmet::Wait,
            OnUnmet::Redirect => wire::OnUnmet::Redirect,
            OnUnmet::Fail => wire::OnUnmet::Fail,
            OnUnmet::Forward => wire::OnUnmet::Forward,
            OnUnmet::ServeAndMark => wire::OnUnmet::ServeAndMark,
        };
        wire::Consistency {
            level: level.into(),
            max_staleness_ms,
            at_least: self.at_least.iter().map(|p| p.as_bytes().clone()).collect(),
            on_unmet: on_unmet.into(),
        }
    }
}
