//! The faults of a run, drawn from its seed before it starts, so that the seed replays them and a
//! failing run can be tried again with fewer of them.

use std::{collections::BTreeSet, fmt};

use quorate_jepsen_core::seed::Seed;

use crate::{cluster::Shape, world::HostId};

/// Crash points that a simulated node comes by.
pub const POINTS: &[&str] = &[
    "log.append.queued",
    "log.append.written",
    "log.vote.synced",
    "log.truncate.written",
    "log.purge.written",
    "apply.begin",
    "apply.written",
    "snapshot.build.begin",
    "snapshot.build.checkpointed",
    "snapshot.build.sealed",
    "snapshot.receive.file",
    "snapshot.receive.complete",
    "snapshot.install.prepared",
    "snapshot.install.adopted",
    "snapshot.install.switched",
];

/// Whom a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Node(HostId),
    /// Whoever leads this group then.
    Leader(u32),
    /// Somebody who does not lead this group, by a number.
    Follower(u32, u64),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "n{id}"),
            Self::Leader(group) => write!(f, "leader of {group}"),
            Self::Follower(group, _) => write!(f, "follower in {group}"),
        }
    }
}

/// A fault. Times (`ticks`, `down`, `most`) are in ticks; `who` is whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields are explained above")]
pub enum Fault {
    /// The process dies; of what was not synced, a part may be there.
    Kill { who: Who, down: u64 },
    /// The machine loses its power: as above, and nobody says so to its peers.
    PowerLoss { who: Who, down: u64 },
    /// All machines at once.
    PowerLossOfAll { down: u64 },
    /// Dies when it comes to a step of the durability protocol for the n-th time.
    DieAt { who: Who, point: &'static str, after: u32 },
    /// Dies within milliseconds after the next time that it saves a vote.
    DieAfterVote { who: Who },
    /// The process is stopped; clocks go on.
    Pause { who: Who, ticks: u64 },
    /// Nothing to or from it gets through, clients included if so said.
    Isolate { who: Who, clients: bool, ticks: u64 },
    /// Two halves; the one with these nodes has no clients.
    Split { minority: Vec<HostId>, ticks: u64 },
    /// Two halves that only one node can talk to.
    Bridge { middle: Who, ticks: u64 },
    /// Calls of one to another, and answers to the other, are lost: one direction of a link.
    OneWay { from: Who, to: Who, ticks: u64 },
    /// It executes, and its answers to clients are lost.
    ReplyLoss { who: Who, ticks: u64 },
    /// All messages are late, some are lost, some requests arrive twice.
    BadNetwork { most: u64, loss_per_mille: u64, twice_per_mille: u64, ticks: u64 },
    /// One node's messages are late.
    SlowLink { who: Who, most: u64, ticks: u64 },
    /// Its disk takes long.
    SlowDisk { who: Who, most: u64, ticks: u64 },
    /// What its state's disk returns has flipped bits.
    ReadFlips { who: Who, ticks: u64 },
    /// Its clocks go faster or slower.
    Drift { who: Who, ppm: i64 },
    /// Its wall clock jumps.
    WallClock { who: Who, ms: i64 },
    /// The leader of a group is asked to hand over.
    Transfer { group: u32, to: HostId },
    /// A snapshot, and the Raft log up to it may go.
    SnapshotAndPurge { who: Who },
    /// A new node is taken in, as a learner, then as a voter.
    AddNode,
    /// A node is taken out of the groups, and stopped for good then.
    RemoveNode { who: Who },
    /// A node and its disk are lost for ever; a new one takes its place.
    LoseDisk { who: Who },
    /// As above, and at that moment somebody asks to remove another node.
    RemoveAfterLoss { who: Who, lost: Who },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { who, down } => write!(f, "kill {who}, down {down}"),
            Self::PowerLoss { who, down } => write!(f, "power loss of {who}, down {down}"),
            Self::PowerLossOfAll { down } => write!(f, "power loss of all, down {down}"),
            Self::DieAt { who, point, after } => write!(f, "{who} dies at {point} after {after}"),
            Self::DieAfterVote { who } => write!(f, "{who} dies after a vote"),
            Self::Pause { who, ticks } => write!(f, "pause {who} for {ticks}"),
            Self::Isolate { who, clients, ticks } => {
                let whom = if *clients { "everybody" } else { "its peers" };
                write!(f, "isolate {who} from {whom} for {ticks}")
            }
            Self::Split { minority, ticks } => write!(f, "split off {minority:?} for {ticks}"),
            Self::Bridge { middle, ticks } => write!(f, "only {middle} sees all, for {ticks}"),
            Self::OneWay { from, to, ticks } => write!(f, "one way {from} to {to} for {ticks}"),
            Self::ReplyLoss { who, ticks } => write!(f, "reply loss of {who} for {ticks}"),
            Self::BadNetwork { most, loss_per_mille, twice_per_mille, ticks } => write!(
                f,
                "bad network for {ticks}: up to {most} late, {loss_per_mille}/1000 lost, \
                 {twice_per_mille}/1000 twice"
            ),
            Self::SlowLink { who, most, ticks } => {
                write!(f, "slow link of {who} for {ticks}: up to {most}")
            }
            Self::SlowDisk { who, most, ticks } => {
                write!(f, "slow disk of {who} for {ticks}: up to {most}")
            }
            Self::ReadFlips { who, ticks } => write!(f, "flipped bits read on {who} for {ticks}"),
            Self::Drift { who, ppm } => write!(f, "clock of {who} {ppm} ppm fast"),
            Self::WallClock { who, ms } => write!(f, "wall clock of {who} off by {ms} ms"),
            Self::Transfer { group, to } => write!(f, "hand group {group} over to n{to}"),
            Self::SnapshotAndPurge { who } => write!(f, "snapshot and purge on {who}"),
            Self::AddNode => write!(f, "add a node"),
            Self::RemoveNode { who } => write!(f, "remove {who}"),
            Self::LoseDisk { who } => write!(f, "{who} loses its disk, and is replaced"),
            Self::RemoveAfterLoss { who, lost } => {
                write!(f, "{lost} loses its disk, and {who} is to be removed")
            }
        }
    }
}

impl Fault {
    /// Its name, for counting.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::PowerLoss { .. } => "power-loss",
            Self::PowerLossOfAll { .. } => "power-loss-all",
            Self::DieAt { .. } => "crash-point",
            Self::DieAfterVote { .. } => "death-after-vote",
            Self::Pause { .. } => "pause",
            Self::Isolate { .. } => "isolate",
            Self::Split { .. } => "split",
            Self::Bridge { .. } => "bridge",
            Self::OneWay { .. } => "one-way",
            Self::ReplyLoss { .. } => "reply-loss",
            Self::BadNetwork { .. } => "bad-network",
            Self::SlowLink { .. } => "slow-link",
            Self::SlowDisk { .. } => "slow-disk",
            Self::ReadFlips { .. } => "read-flips",
            Self::Drift { .. } => "drift",
            Self::WallClock { .. } => "wall-clock",
            Self::Transfer { .. } => "transfer",
            Self::SnapshotAndPurge { .. } => "snapshot",
            Self::AddNode => "add-node",
            Self::RemoveNode { .. } => "remove-node",
            Self::LoseDisk { .. } => "lose-disk",
            Self::RemoveAfterLoss { .. } => "remove-after-loss",
        }
    }
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

/// Which kinds of faults a run has. Mixed ones hide each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Theme {
    /// Some of all kinds.
    Mixed,
    /// Loss of power, kills, deaths at crash points, slow disks.
    Power,
    /// Partitions of all forms.
    Partition,
    /// Elections that are disturbed.
    Vote,
    /// Stopped processes, wrong clocks.
    Time,
    /// Late, lost and doubled messages, lost replies.
    Network,
    /// Snapshots, purges, and nodes that were away.
    Snapshot,
    /// Flipped bits in what is read.
    Flips,
    /// Nodes that come and go, and crashes, partitions and changes of leader meanwhile.
    Members,
}

impl Theme {
    /// All of them, with their names.
    pub const ALL: &[(&'static str, Self)] = &[
        ("mixed", Self::Mixed),
        ("power", Self::Power),
        ("partition", Self::Partition),
        ("vote", Self::Vote),
        ("time", Self::Time),
        ("network", Self::Network),
        ("snapshot", Self::Snapshot),
        ("flips", Self::Flips),
        ("members", Self::Members),
    ];

    fn draw(seed: &mut Seed) -> Self {
        // As often mixed as not.
        if seed.one_in(2) { Self::Mixed } else { seed.pick(Self::ALL).1 }
    }

    /// The names of all faults that runs of this theme can have.
    #[must_use]
    pub fn faults(self) -> BTreeSet<&'static str> {
        let kinds = self.kinds();
        let mut names: BTreeSet<_> = kinds.iter().map(|kind| KINDS[*kind]).collect();
        if names.contains("death-after-vote") {
            names.extend(["bridge", "slow-link", "kill"]);
        }
        names
    }

    /// Of a run: mixed ones have a third of all kinds.
    fn draw_kinds(self, seed: &mut Seed) -> Vec<usize> {
        let all = self.kinds();
        if self != Self::Mixed {
            return all;
        }
        let some: Vec<usize> = all.iter().copied().filter(|_| seed.one_in(3)).collect();
        if some.is_empty() { all } else { some }
    }

    /// Places in [`KINDS`].
    fn kinds(self) -> Vec<usize> {
        match self {
            Self::Mixed => (0..KINDS.len()).collect(),
            Self::Power => vec![0, 1, 2, 2, 3, 11],
            Self::Partition => vec![5, 5, 6, 7, 17],
            Self::Vote => vec![16],
            Self::Time => vec![4, 4, 12, 13],
            Self::Network => vec![7, 8, 9, 10],
            Self::Snapshot => vec![0, 3, 5, 14, 18, 18],
            Self::Flips => vec![15, 18, 0],
            Self::Members => {
                vec![19, 19, 20, 20, 20, 21, 21, 22, 22, 0, 2, 3, 4, 5, 6, 9, 14, 18]
            }
        }
    }
}

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

/// What [`draw_fault`] draws, by number.
const KINDS: [&str; 23] = [
    "kill",
    "power-loss",
    "power-loss-all",
    "crash-point",
    "pause",
    "isolate",
    "split",
    "one-way",
    "reply-loss",
    "bad-network",
    "slow-link",
    "slow-disk",
    "drift",
    "wall-clock",
    "transfer",
    "read-flips",
    "death-after-vote",
    "bridge",
    "snapshot",
    "add-node",
    "remove-node",
    "lose-disk",
    "remove-after-loss",
];

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
            let point = seed.pick(POINTS);
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
