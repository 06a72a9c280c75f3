//! What a fault is, and whom it is for.

use std::fmt;

use crate::world::HostId;

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
