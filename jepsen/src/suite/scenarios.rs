//! Runs that have a name: what is done when is fixed, because it tells a story that chance would
//! seldom tell. All ask for reads of a bounded age from five nodes while it happens.

use anyhow::{Context as _, Result};

use super::options::{Options, Workload};
use crate::nemesis::schedule::Schedule;

/// A named run.
#[derive(Debug)]
pub struct Scenario {
    /// As given to `--scenario`.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    schedule: &'static str,
}

macro_rules! scenarios {
    ($($name:literal: $what:literal,)*) => {
        /// All of them.
        pub const ALL: &[Scenario] = &[$(Scenario {
            name: $name,
            what: $what,
            schedule: include_str!(concat!("../../scenarios/", $name, ".json")),
        },)*];
    };
}

scenarios! {
    "aside": "The old leader and a follower are cut off from the majority, one way more than the other.",
    "stopped": "A follower, then the leader, is stopped for ten seconds, between a probe and its answer.",
    "killed": "kill -9 of the leader, of a minority, of all.",
    "apply-stalled": "Consensus and apply of a node stand still while it goes on answering readers.",
    "snapshot-installed": "A follower falls behind what the log keeps, and installs a snapshot under reads.",
    "clocks": "Wall clocks jump by an hour, forward and back; then all clocks of a node run fast.",
}

impl Scenario {
    /// The one of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        ALL.iter().find(|scenario| scenario.name == name).with_context(|| {
            let names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
            format!("no scenario is called {name:?}; there are: {}", names.join(", "))
        })
    }

    /// What is done when.
    ///
    /// # Errors
    /// Its file is no schedule.
    pub fn schedule(&self) -> Result<Schedule> {
        serde_json::from_str(self.schedule)
            .with_context(|| format!("scenario {} is no schedule", self.name))
    }

    /// A run of it, with everything else as in `common`.
    #[must_use]
    pub fn options(&self, common: &Options) -> Options {
        Options {
            workload: Workload::FollowerRead,
            scenario: Some(self.name.to_owned()),
            nodes: 5,
            time_limit: 25,
            rate: 200,
            ..common.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Load after the last fault, at least, as in schedules that are drawn.
    const QUIET_MS: u64 = 2_000;

    #[test]
    fn each_is_a_schedule_within_its_time() {
        for scenario in ALL {
            let windows = scenario.schedule().unwrap().windows;
            assert!(!windows.is_empty(), "{}", scenario.name);
            let time = scenario.options(&Options::default()).time_limit * 1000;
            let mut free_from = 0;
            for window in windows {
                assert!(window.at_ms > free_from, "{}: faults overlap", scenario.name);
                free_from = window.at_ms + window.for_ms;
            }
            assert!(free_from + QUIET_MS <= time, "{}: too long", scenario.name);
        }
        assert!(Scenario::named("aside").is_ok() && Scenario::named("earthquake").is_err());
    }
}
