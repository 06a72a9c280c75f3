//! When what is done, drawn from the seed before the start.

use quorate_jepsen_core::seed::Seed;
use serde::{Deserialize, Serialize};

use super::{
    fault::{Fault, Kind, Target},
    members::{Change, Meanwhile},
    shape::Shape,
};
use crate::network::Gate;

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// After the start of the load.
    pub at_ms: u64,
    /// Until it is healed.
    pub for_ms: u64,
    /// What is done.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A whole run's faults, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// In order, not overlapping.
    pub windows: Vec<Window>,
}

/// What a schedule is drawn for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What may happen; each kind at least once if there is time.
    pub kinds: Vec<Kind>,
    /// Load altogether.
    pub time_limit_ms: u64,
    /// From the begin of one fault to that of the next, on average.
    pub interval_ms: u64,
}

/// Load before the first fault and after the last, at least: a run must begin and end healthy.
const QUIET_MS: u64 = 2_000;

impl Schedule {
    /// Draws a schedule. The kinds take turns, in an order of their own each round, and so do the
    /// variants of a kind: a short run has the most different faults that fit.
    #[must_use]
    pub fn draw(seed: &Seed, plan: &Plan) -> Self {
        let mut seed = seed.fork("schedule");
        let mut windows = Vec::new();
        if plan.kinds.is_empty() {
            return Self { windows };
        }
        let mut round: Vec<Kind> = Vec::new();
        let mut newcomers = 0;
        let mut done = vec![0_usize; Kind::ALL.len()];
        let first_variant = seed.below(1 << 16) as usize;
        let mut at_ms = QUIET_MS;
        loop {
            // Faults last half of the interval: as long sick as healthy.
            let for_ms = plan.interval_ms / 4 + seed.below(plan.interval_ms / 2 + 1);
            if at_ms + for_ms + QUIET_MS > plan.time_limit_ms {
                break;
            }
            if round.is_empty() {
                round.clone_from(&plan.kinds);
                // Ids are never used again, and a cluster is laid out for so many.
                round.retain(|kind| *kind != Kind::Member || newcomers < NEWCOMERS);
                seed.shuffle(&mut round);
            }
            let Some(kind) = round.pop() else { break };
            // Kinds side by side begin with different variants: if one hits the leader first, the
            // next one hits a follower.
            let beside = plan.kinds.iter().position(|other| *other == kind).unwrap_or_default();
            let turn = &mut done[kind as usize];
            let variant = match kind {
                // Changes go in pairs, which must not be begun in the middle.
                Kind::Member => *turn + 2 * first_variant,
                _ => *turn + beside + first_variant,
            };
            let fault = fault(kind, variant, &mut seed);
            newcomers += usize::from(fault.takes_newcomer());
            *turn += 1;
            windows.push(Window { at_ms, for_ms, fault });
            at_ms += for_ms + plan.interval_ms / 4 + seed.below(plan.interval_ms / 2 + 1);
        }
        Self { windows }
    }

    /// How many nodes join.
    #[must_use]
    pub fn newcomers(&self) -> usize {
        self.windows.iter().filter(|window| window.fault.takes_newcomer()).count()
    }

    /// The kinds in it.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<_> = self.windows.iter().map(|window| window.fault.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// As many nodes as drawn schedules let join.
pub const NEWCOMERS: usize = 12;

/// Changes of members, one after the other: a cluster that grows shrinks again. From wherever it
/// begins, none removes a node from a cluster that has lost one.
const CHANGES: [[Change; 2]; 3] = [
    [Change::Add, Change::Remove(Target::Leader)],
    [Change::Replace(Target::Follower(0)), Change::Replace(Target::Leader)],
    [Change::Add, Change::Remove(Target::Follower(0))],
];

/// The `turn`-th change of members; twice as many turns as there are pairs go around once.
fn member(turn: usize, seed: &mut Seed) -> Fault {
    let change = CHANGES[turn / 2 % CHANGES.len()][turn % 2];
    let mut all = vec![
        Meanwhile::Nothing,
        Meanwhile::KillLeader,
        Meanwhile::PauseLeader,
        Meanwhile::LeaderAlone,
    ];
    if change.takes_newcomer() {
        all.push(Meanwhile::KillNewcomer);
    }
    let change = match change {
        Change::Remove(Target::Follower(_)) => Change::Remove(Target::Follower(follower(seed))),
        Change::Replace(Target::Follower(_)) => Change::Replace(Target::Follower(follower(seed))),
        other => other,
    };
    let (meanwhile, after_ms) = (*seed.pick(&all), *seed.pick(&[0, 1, 3, 10, 30]));
    Fault::Member { change, meanwhile, after_ms }
}

fn follower(seed: &mut Seed) -> usize {
    seed.below(16) as usize
}

/// The `turn`-th variant of a kind. Leader and follower take turns, because a run that hit only
/// followers shows little.
fn fault(kind: Kind, turn: usize, seed: &mut Seed) -> Fault {
    let some = seed.below(16) as usize;
    let target = match turn % 2 {
        0 => Target::Leader,
        _ => *seed.pick(&[Target::Follower(some), Target::Minority(some)]),
    };
    let one = if turn.is_multiple_of(2) { Target::Leader } else { Target::Follower(some) };
    match kind {
        Kind::Partition => {
            let shapes = [Shape::LeaderAlone, Shape::Halves, Shape::Bridge, Shape::MajoritiesRing];
            let gate = if seed.one_in(3) { Gate::Reset } else { Gate::Hold };
            Fault::Partition { shape: shapes[turn % shapes.len()], gate }
        }
        Kind::OneWay => {
            let shapes = [Shape::LeaderMute, Shape::LeaderDeaf];
            Fault::Partition { shape: shapes[turn % shapes.len()], gate: Gate::Hold }
        }
        Kind::Aside => {
            let shapes = [Shape::OldLeaderAside, Shape::AsideMute];
            Fault::Partition { shape: shapes[turn % shapes.len()], gate: Gate::Hold }
        }
        Kind::StallApply => Fault::StallApply { target },
        Kind::ClockJump => {
            let seconds = *seed.pick(&[-3600, -60, 60, 3600]);
            Fault::ClockJump { target, seconds }
        }
        Kind::FastClock => Fault::FastClock { target, percent: *seed.pick(&[110, 150, 200]) },
        Kind::FallBehind => Fault::FallBehind { follower: some },
        Kind::Kill => Fault::Kill { target },
        Kind::Pause => Fault::Pause { target, delay_ms: 0 },
        // Mostly the answers of a leader to its clients: the best source of open operations.
        Kind::ReplyLoss => match turn % 3 {
            0 => Fault::ReplyLoss { target: Target::Leader, clients: true },
            1 => Fault::ReplyLoss { target: Target::Minority(some), clients: false },
            _ => Fault::ReplyLoss { target: Target::All, clients: true },
        },
        Kind::Delay => {
            let delay_ms = *seed.pick(&[5, 20, 60, 150]);
            Fault::Delay { delay_ms, jitter_ms: delay_ms / 2 }
        }
        Kind::SlowLink => Fault::SlowLink { bytes_per_s: *seed.pick(&[16_384, 131_072]) },
        Kind::KillAll => Fault::KillAll,
        Kind::PowerAll => Fault::PowerAll,
        Kind::RollingRestart => Fault::RollingRestart,
        Kind::Transfer => Fault::Transfer,
        Kind::SlowDisk => Fault::SlowDisk { target, stall_ms: *seed.pick(&[5, 50, 300]) },
        // Only as many as may fail: the rest must go on.
        Kind::StallDisk => Fault::StallDisk { target },
        Kind::DiskFull => Fault::DiskFull { target: one },
        Kind::BitFlip => Fault::BitFlip { target: one },
        Kind::SyncError => Fault::SyncError { target: one },
        Kind::BitRot => Fault::BitRot { target: one },
        Kind::QuickRestart => {
            Fault::QuickRestart { target: one, stall_ms: *seed.pick(&[20, 100, 300]) }
        }
        Kind::Snapshot => Fault::Snapshot,
        Kind::Member => member(turn, seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { kinds: Kind::ALL.to_vec(), time_limit_ms: 120_000, interval_ms: 4_000 }
    }

    #[test]
    fn a_seed_draws_the_same_schedule_and_it_survives_its_file() {
        let schedule = Schedule::draw(&Seed::new(7), &plan());
        assert_eq!(schedule, Schedule::draw(&Seed::new(7), &plan()));
        assert_ne!(schedule, Schedule::draw(&Seed::new(8), &plan()));
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
    }

    #[test]
    fn faults_take_turns_within_the_time_and_never_overlap() {
        for number in 0..50 {
            let schedule = Schedule::draw(&Seed::new(number), &plan());
            assert_eq!(schedule.kinds(), Kind::ALL, "seed {number}");
            let mut free_from = QUIET_MS;
            for window in &schedule.windows {
                assert!(window.at_ms >= free_from && window.for_ms > 0, "seed {number}");
                free_from = window.at_ms + window.for_ms;
            }
            assert!(free_from + QUIET_MS <= 120_000);
        }
    }

    #[test]
    fn a_cluster_that_changes_never_has_fewer_nodes_than_at_first() {
        for number in 0..50 {
            let plan =
                Plan { kinds: vec![Kind::Member], time_limit_ms: 300_000, interval_ms: 4_000 };
            let schedule = Schedule::draw(&Seed::new(number), &plan);
            assert_eq!(schedule.newcomers(), NEWCOMERS, "seed {number}: its time would be enough");
            let mut more = 0;
            for window in &schedule.windows {
                let Fault::Member { change, meanwhile, .. } = &window.fault else { panic!() };
                match change {
                    Change::Add => more += 1,
                    Change::Remove(_) => more -= 1,
                    Change::Replace(_) => {}
                }
                assert!((0..=1).contains(&more), "seed {number}: {schedule:?}");
                assert!(*meanwhile != Meanwhile::KillNewcomer || change.takes_newcomer());
            }
        }
    }

    #[test]
    fn a_leader_is_among_the_first_two_killed_or_another_node_is() {
        for number in 0..50 {
            let plan = Plan { kinds: vec![Kind::Kill], time_limit_ms: 25_000, interval_ms: 5_000 };
            let schedule = Schedule::draw(&Seed::new(number), &plan);
            let leader = |w: &Window| w.fault == Fault::Kill { target: Target::Leader };
            assert!(schedule.windows.len() >= 3, "seed {number}: {schedule:?}");
            assert!(schedule.windows.iter().take(3).any(leader), "seed {number}");
            assert!(!schedule.windows.iter().take(3).all(leader), "seed {number}");
        }
    }
}
