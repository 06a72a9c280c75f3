//! The faults of a run, drawn from its seed before it starts, so that the seed replays them and a
//! failing run can be tried again with fewer of them.

mod fault;
mod theme;

use std::fmt;

use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::crash;

use crate::{cluster::Shape, world::HostId};
pub use fault::{Fault, Who};
use theme::KINDS;
pub use theme::Theme;

/// Those of the log's own files and threads: a simulated node keeps its log in other hands.
const NOT_HERE: [&str; 2] = ["log.append.synced", "log.segment.rolled"];

/// Crash points that a simulated node comes by: all there are but a few.
#[must_use]
pub fn points() -> Vec<&'static str> {
    crash::POINTS.iter().copied().filter(|point| !NOT_HERE.contains(point)).collect()
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at: u64,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} {}", self.at, self.fault)
    }
}

/// Clocks run wrong by at most this.
pub const MAX_DRIFT_PPM: i64 = 50_000;

/// Draws the faults of a run between two ticks; the theme too, if it is not given.
#[must_use]
pub fn draw(seed: &Seed, shape: &Shape, theme: Option<Theme>, from: u64, to: u64) -> Vec<Planned> {
    let mut seed = seed.fork("schedule");
    let drawn = Theme::draw(&mut seed);
    let kinds = theme.unwrap_or(drawn).draw_kinds(&mut seed);
    let mut planned = Vec::new();
    let mut at = from;
    loop {
        at += 20 + seed.below(600);
        if at >= to {
            return planned;
        }
        let kind = *seed.pick(&kinds);
        let fault = draw_fault(&mut seed, shape, kind);
        debug_assert_eq!(fault.name(), KINDS[kind], "kinds are counted by their names");
        planned.push(Planned { at, fault });
        if let Some(Planned { fault: Fault::DieAfterVote { who }, .. }) = planned.last() {
            // Nobody votes while there is a leader, and a vote matters when candidates who don't
            // hear of each other ask for it.
            let who = *who;
            let ticks = 1000 + seed.below(1500);
            planned.push(Planned { at, fault: Fault::Bridge { middle: who, ticks } });
            // The one who wins is slow to say so.
            let slow = match who {
                Who::Leader(group) => Who::Follower(group, seed.next_u64() % 1000),
                other => other,
            };
            let most = 60 + seed.below(100);
            planned.push(Planned { at, fault: Fault::SlowLink { who: slow, most, ticks } });
            let down = 50 + seed.below(300);
            planned.push(Planned { at, fault: Fault::Kill { who, down } });
        }
    }
}

fn draw_who(seed: &mut Seed, shape: &Shape) -> Who {
    let group = seed.below(u64::from(shape.groups)) as u32;
    match seed.below(4) {
        0 => Who::Node(1 + seed.below(shape.nodes)),
        1 | 2 => Who::Leader(group),
        _ => Who::Follower(group, seed.next_u64() % 1000),
    }
}

fn draw_fault(seed: &mut Seed, shape: &Shape, kind: usize) -> Fault {
    let who = draw_who(seed, shape);
    let down = 1 + seed.below(800);
    // Over before anybody notices, or long enough for an election.
    let ticks = if seed.one_in(3) { 20 + seed.below(300) } else { 600 + seed.below(1500) };
    match kind {
        0 => Fault::Kill { who, down },
        1 => Fault::PowerLoss { who, down },
        2 => Fault::PowerLossOfAll { down },
        3 => {
            let point = *seed.pick(&points());
            Fault::DieAt { who, point, after: seed.below(4) as u32 }
        }
        4 => Fault::Pause { who, ticks },
        5 => Fault::Isolate { who, clients: seed.one_in(3), ticks },
        6 => {
            let mut nodes: Vec<HostId> = shape.ids().collect();
            seed.shuffle(&mut nodes);
            nodes.truncate(nodes.len() / 2);
            Fault::Split { minority: nodes, ticks }
        }
        7 => Fault::OneWay { from: who, to: draw_who(seed, shape), ticks },
        8 => Fault::ReplyLoss { who, ticks },
        9 => Fault::BadNetwork {
            most: 2 + seed.below(150),
            loss_per_mille: seed.below(150),
            twice_per_mille: seed.below(200),
            ticks,
        },
        10 => Fault::SlowLink { who, most: 10 + seed.below(200), ticks },
        11 => Fault::SlowDisk { who, most: 10 + seed.below(150), ticks },
        12 => {
            let most = MAX_DRIFT_PPM as u64;
            let ppm = i64::try_from(seed.below(2 * most + 1)).expect("small") - MAX_DRIFT_PPM;
            Fault::Drift { who, ppm }
        }
        13 => {
            let ms = i64::try_from(seed.below(20_001)).expect("small") - 10_000;
            Fault::WallClock { who, ms }
        }
        14 => Fault::Transfer {
            group: seed.below(u64::from(shape.groups)) as u32,
            to: 1 + seed.below(shape.nodes),
        },
        16 => {
            let group = seed.below(u64::from(shape.groups)) as u32;
            Fault::DieAfterVote { who: Who::Leader(group) }
        }
        17 => Fault::Bridge { middle: who, ticks },
        15 => Fault::ReadFlips { who, ticks: ticks / 4 },
        18 => Fault::SnapshotAndPurge { who },
        19 => Fault::AddNode,
        20 => Fault::RemoveNode { who },
        21 => Fault::LoseDisk { who },
        22 => Fault::RemoveAfterLoss { who, lost: draw_who(seed, shape) },
        _ => unreachable!("kinds are numbered from 0 to {}", KINDS.len() - 1),
    }
}
