//! Faults planted in the code under test, and the property by which each must be caught. A suite
//! that can't fail proves nothing.

use std::time::{Duration, Instant};

use quorate_jepsen_core::check::Verdict;

use crate::{
    invariants::leaders,
    many,
    run::{Outcome, Plan},
    schedule::Theme,
    settle,
};

/// A planted fault.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The properties that it breaks.
    pub breaks: &'static str,
    /// What it takes.
    pub theme: Theme,
    /// The names under which it may be caught. Others may be found besides.
    pub caught_as: &'static [&'static str],
}

/// An acknowledged append is gone, or is another.
const LOST: &[&str] = &["lost-append", "moved-append"];

/// A linearizable answer is older than one before it.
const STALE: &[&str] = &["stale-read", "position-backwards"];

/// All of them.
pub const ALL: &[Mutant] = &[
    Mutant { name: "skip_log_fsync", breaks: "P3", theme: Theme::Power, caught_as: LOST },
    Mutant {
        name: "skip_vote_fsync",
        breaks: "P3, P12",
        theme: Theme::Vote,
        caught_as: &[leaders::TWO, "lost-append", "moved-append"],
    },
    Mutant { name: "ack_before_quorum", breaks: "P3, P6", theme: Theme::Power, caught_as: LOST },
    Mutant {
        name: "apply_before_commit",
        breaks: "P1, P5",
        theme: Theme::Partition,
        caught_as: &["digests-differ"],
    },
    Mutant { name: "stale_leader_read", breaks: "P6", theme: Theme::Partition, caught_as: STALE },
    Mutant { name: "lease_ignores_pause", breaks: "P6", theme: Theme::Time, caught_as: STALE },
    Mutant {
        // What openraft would do with the answers if it were told of each.
        name: "old_answer_counts_as_new",
        breaks: "P6, P10",
        theme: Theme::Time,
        caught_as: &["stale-read", "position-backwards", "stale-beyond-bound"],
    },
    Mutant {
        // Who lacks what was purged never catches up.
        name: "snapshots_never_arrive",
        breaks: "P15",
        theme: Theme::Snapshot,
        caught_as: &[settle::NO_PROGRESS],
    },
    Mutant {
        name: "leader_restore",
        breaks: "P6",
        theme: Theme::Power,
        caught_as: &["stale-read", "position-backwards", "lost-append", "moved-append"],
    },
    Mutant {
        name: "no_dedupe",
        breaks: "P4",
        theme: Theme::Network,
        caught_as: &["duplicate-record", "sequence-broken"],
    },
    Mutant {
        name: "dedupe_lost_in_snapshot",
        // The replica that lost it decides otherwise than the others, long before it answers a
        // client wrongly.
        breaks: "P1, P4",
        theme: Theme::Snapshot,
        caught_as: &["duplicate-record", "sequence-broken", "digests-differ"],
    },
    Mutant {
        name: "ignore_fence",
        breaks: "P8",
        theme: Theme::Mixed,
        caught_as: &["stale-epoch", "fenced-append"],
    },
    Mutant {
        name: "fence_not_persisted",
        breaks: "P8",
        theme: Theme::Power,
        caught_as: &["epoch-granted-twice", "epoch-backwards", "stale-epoch", "fenced-append"],
    },
    Mutant {
        name: "expected_offset_by_leader",
        breaks: "P7",
        theme: Theme::Mixed,
        caught_as: &["expected-offset-ignored"],
    },
    Mutant {
        name: "age_from_receive_time",
        breaks: "P10",
        theme: Theme::Network,
        caught_as: &["stale-beyond-bound"],
    },
    Mutant {
        name: "no_leadership_confirmation",
        breaks: "P10",
        theme: Theme::Partition,
        caught_as: &["stale-beyond-bound"],
    },
    Mutant {
        name: "no_wait_for_apply",
        breaks: "P10",
        theme: Theme::Network,
        caught_as: &["stale-beyond-bound"],
    },
    Mutant {
        name: "token_ignored",
        breaks: "P11",
        theme: Theme::Network,
        caught_as: &["session-broken"],
    },
    Mutant {
        // The members are changed counting on who was heard of just before that was asked.
        name: "quorum_by_old_answers",
        breaks: "P15",
        theme: Theme::Members,
        caught_as: &[settle::NO_PROGRESS],
    },
    Mutant {
        // A node's memory of recent records keeps those of a log that is gone, and its name.
        name: "delete_forgets_recent",
        breaks: "P13",
        theme: Theme::Mixed,
        caught_as: &["deleted-log-answers", "incarnations-mixed", "deleted-record-back"],
    },
    Mutant {
        // A log that is created again is taken for the one before.
        name: "identity_by_name",
        breaks: "P13",
        theme: Theme::Mixed,
        caught_as: &["incarnation-reused", "incarnations-mixed"],
    },
    Mutant {
        name: "no_checksum_check",
        breaks: "P14",
        theme: Theme::Flips,
        caught_as: &["read-rewritten", "damaged-record"],
    },
    Mutant {
        name: "batch_split_on_retry",
        breaks: "P2, P3",
        theme: Theme::Network,
        caught_as: &["torn-batch"],
    },
];

/// How a mutant was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// Wall-clock time until then.
    pub took: Duration,
    /// Runs until then, this one included.
    pub runs: u64,
    /// The run.
    pub outcome: Outcome,
    /// The right names among those that it found.
    pub by: Vec<String>,
}

impl Mutant {
    /// The mutant of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|mutant| mutant.name == name)
    }

    /// The name of its theme.
    #[must_use]
    pub fn theme_name(&self) -> Option<String> {
        let named = Theme::ALL.iter().find(|(_, theme)| *theme == self.theme);
        named.map(|(name, _)| (*name).to_owned())
    }

    /// Whether it takes logs that are deleted. All others are found sooner without: more writers
    /// leave a group less often without anything to do.
    #[must_use]
    pub fn recreated(&self) -> bool {
        self.breaks.contains("P13")
    }

    /// Its own kinds of faults and logs, where the plan does not say which.
    fn plan(&self, plan: &Plan) -> Plan {
        Plan {
            theme: plan.theme.or(Some(self.theme)),
            recreated: plan.recreated.or(Some(self.recreated())),
            ..plan.clone()
        }
    }

    /// Runs seeds from `first` on until it is caught, at most `count`.
    #[must_use]
    pub fn hunt(&self, plan: &Plan, first: u64, count: u64, jobs: usize) -> Option<Caught> {
        let plan = Plan { mutant: Some(self.name), ..self.plan(plan) };
        let began = Instant::now();
        let (mut caught, mut runs) = (None, 0);
        many::run_many(&plan, first, count, jobs, |outcome| {
            runs += 1;
            let found = outcome.properties();
            let by: Vec<String> = found
                .into_iter()
                .filter(|name| self.caught_as.contains(name))
                .map(ToOwned::to_owned)
                .collect();
            if !by.is_empty() && caught.is_none() {
                caught = Some(Caught { took: began.elapsed(), runs, outcome, by });
            }
            caught.is_none()
        });
        caught
    }

    /// Runs the same seeds without the fault; the first that is not valid.
    #[must_use]
    pub fn clean(&self, plan: &Plan, first: u64, count: u64, jobs: usize) -> Option<Outcome> {
        let plan = Plan { mutant: None, ..self.plan(plan) };
        let mut failed = None;
        many::run_many(&plan, first, count, jobs, |outcome| {
            let valid = outcome.verdict() == Verdict::Valid;
            failed = (!valid).then_some(outcome);
            valid
        });
        failed
    }
}
