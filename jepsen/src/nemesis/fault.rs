//! What can be done to a cluster, as data: it is drawn before the start, stored, and done again from
//! the file.

use std::fmt;

use quorate_jepsen_core::{ids::Node, named};
use serde::{Deserialize, Serialize};

use super::{
    members::{Change, Meanwhile},
    shape::Shape,
};
use crate::network::Gate;

/// Whom a fault hits. Who leads is known only when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Who leads when the fault begins.
    Leader,
    /// The follower with this number, counted from 0 over those there are.
    Follower(usize),
    /// As many nodes as can fail without stopping the cluster, beginning with this follower.
    Minority(usize),
    /// Everybody.
    All,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Follower(_) => f.write_str("follower"),
            Self::Minority(_) => f.write_str("minority"),
            Self::All => f.write_str("all"),
        }
    }
}

impl Target {
    /// The nodes meant, given who leads.
    #[must_use]
    pub fn resolve(self, nodes: &[Node], leader: Node) -> Vec<Node> {
        let followers: Vec<_> = nodes.iter().copied().filter(|node| *node != leader).collect();
        match self {
            Self::Leader => vec![leader],
            Self::Follower(number) => {
                followers.get(number % followers.len().max(1)).copied().into_iter().collect()
            }
            Self::Minority(first) => {
                let count = (nodes.len() - 1) / 2;
                (0..count).map(|n| followers[(first + n) % followers.len()]).collect()
            }
            Self::All => nodes.to_vec(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// One fault, with all that was drawn for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// Calls between nodes are cut.
    Partition {
        /// Which.
        shape: Shape,
        /// Whether they wait or are reset.
        gate: Gate,
    },
    /// `kill -9`, and a start when it ends.
    Kill {
        /// Whom.
        target: Target,
    },
    /// SIGSTOP, and SIGCONT when it ends.
    Pause {
        /// Whom.
        target: Target,
        /// Its links to other nodes take so much longer, each way, from some time before: whatever
        /// the moment, it is stopped between a question of its own and the answer.
        #[serde(default, skip_serializing_if = "is_zero")]
        delay_ms: u64,
    },
    /// The target does what it is told and the answer does not arrive.
    ReplyLoss {
        /// Whose answers.
        target: Target,
        /// Those to clients; otherwise those to nodes.
        clients: bool,
    },
    /// All links between nodes are slow.
    Delay {
        /// Each way.
        delay_ms: u64,
        /// Up to so much more.
        jitter_ms: u64,
    },
    /// All links between nodes carry little.
    SlowLink {
        /// Bytes a second, each way.
        bytes_per_s: u64,
    },
    /// `kill -9` of all at once.
    KillAll,
    /// The threads of a node that do consensus and apply stop; those that serve clients go on.
    StallApply {
        /// Whose.
        target: Target,
    },
    /// The wall clock is put forward or back, and put right when it ends.
    ClockJump {
        /// Whose.
        target: Target,
        /// Seconds from the truth.
        seconds: i64,
    },
    /// All clocks of a node run fast, from a restart to a restart.
    FastClock {
        /// Whose.
        target: Target,
        /// Percent of the true rate.
        percent: u32,
    },
    /// A follower is killed, the others purge their logs, and it comes back and needs a snapshot.
    FallBehind {
        /// Which, as in [`Target::Follower`].
        follower: usize,
    },
    /// Power loss of all at once: what was not synced is gone. Needs root.
    PowerAll,
    /// SIGTERM of each in turn, with a start behind it.
    RollingRestart,
    /// The leadership is handed over, again and again.
    Transfer,
    /// Syncs and writes of the Raft log and the state take longer.
    SlowDisk {
        /// Whose.
        target: Target,
        /// Each.
        stall_ms: u32,
    },
    /// Writes and syncs do not end until it is healed.
    StallDisk {
        /// Whose.
        target: Target,
    },
    /// Writes fail for lack of room until the node has stopped; a start when it ends.
    DiskFull {
        /// Whose.
        target: Target,
    },
    /// A bit in the middle of the Raft log of a killed node is flipped. It must not start; when it
    /// ends the bit is put back.
    BitFlip {
        /// Whose.
        target: Target,
    },
    /// A bit of a record that a node has stored is flipped while it is stopped. It must not show that
    /// record; when it ends the bit is put back.
    BitRot {
        /// Whose.
        target: Target,
    },
    /// A node whose writes and syncs take longer is killed, and started again at once: before others
    /// miss it, and without what it had not written yet.
    QuickRestart {
        /// Whose.
        target: Target,
        /// Each write and sync.
        stall_ms: u32,
    },
    /// Syncs fail until the node has stopped; a start when it ends.
    SyncError {
        /// Whose.
        target: Target,
    },
    /// A snapshot on every node, after which the log is purged.
    Snapshot,
    /// The members change.
    Member {
        /// How.
        change: Change,
        /// What else happens at that moment.
        meanwhile: Meanwhile,
        /// So long after votes began to change.
        after_ms: u64,
    },
}

impl Fault {
    /// Whether links must be slow for it.
    #[must_use]
    pub fn slows_links(&self) -> bool {
        match self {
            Self::Delay { .. } | Self::SlowLink { .. } => true,
            Self::Pause { delay_ms, .. } => *delay_ms > 0,
            _ => false,
        }
    }

    /// Whether a node joins under a new id.
    #[must_use]
    pub fn takes_newcomer(&self) -> bool {
        matches!(self, Self::Member { change, .. } if change.takes_newcomer())
    }

    /// The name of its kind, as given to `--nemesis`.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Partition { shape: Shape::LeaderMute | Shape::LeaderDeaf, .. } => Kind::OneWay,
            Self::Partition { shape: Shape::OldLeaderAside | Shape::AsideMute, .. } => Kind::Aside,
            Self::Partition { .. } => Kind::Partition,
            Self::Kill { .. } => Kind::Kill,
            Self::Pause { .. } => Kind::Pause,
            Self::ReplyLoss { .. } => Kind::ReplyLoss,
            Self::Delay { .. } => Kind::Delay,
            Self::SlowLink { .. } => Kind::SlowLink,
            Self::StallApply { .. } => Kind::StallApply,
            Self::ClockJump { .. } => Kind::ClockJump,
            Self::FastClock { .. } => Kind::FastClock,
            Self::FallBehind { .. } => Kind::FallBehind,
            Self::KillAll => Kind::KillAll,
            Self::PowerAll => Kind::PowerAll,
            Self::RollingRestart => Kind::RollingRestart,
            Self::Transfer => Kind::Transfer,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::StallDisk { .. } => Kind::StallDisk,
            Self::DiskFull { .. } => Kind::DiskFull,
            Self::BitFlip { .. } => Kind::BitFlip,
            Self::BitRot { .. } => Kind::BitRot,
            Self::QuickRestart { .. } => Kind::QuickRestart,
            Self::SyncError { .. } => Kind::SyncError,
            Self::Snapshot => Kind::Snapshot,
            Self::Member { .. } => Kind::Member,
        }
    }
}

impl Kind {
    /// Those that need a library between a node and its disk.
    pub const BY_PRELOAD: &[Self] =
        &[Self::SlowDisk, Self::StallDisk, Self::DiskFull, Self::SyncError, Self::QuickRestart];
}

named! {
    /// Kinds of faults.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    pub enum Kind {
        /// Calls between nodes are cut both ways: leader alone, halves, bridge, ring.
        Partition = "partition",
        /// Calls from or to the leader are cut, the others work.
        OneWay = "one-way",
        /// The old leader and a follower are cut off, not the same way in both directions.
        Aside = "aside",
        /// kill -9 of the leader, a follower, or a minority.
        Kill = "kill",
        /// SIGSTOP of the leader or a follower.
        Pause = "pause",
        /// A node's consensus and apply stop, while it goes on answering clients.
        StallApply = "stall-apply",
        /// A node does what it is told, and its answers do not arrive.
        ReplyLoss = "reply-loss",
        /// Links between nodes are slow, with jitter.
        Delay = "delay",
        /// Links between nodes carry few bytes a second.
        SlowLink = "slow-link",
        /// kill -9 of all nodes at once.
        KillAll = "kill-all",
        /// Power loss of all nodes at once: what was not synced is gone (root).
        PowerAll = "power-all",
        /// SIGTERM and start of each node in turn.
        RollingRestart = "rolling-restart",
        /// The leadership is handed over again and again.
        Transfer = "transfer",
        /// Writes and syncs of a node take much longer.
        SlowDisk = "slow-disk",
        /// Writes and syncs of a node hang.
        StallDisk = "stall-disk",
        /// Writes of a node fail for lack of room; it must stop.
        DiskFull = "disk-full",
        /// A bit of a killed node's log is flipped; it must not start.
        BitFlip = "bit-flip",
        /// A bit of a stored record is flipped while its node is stopped; it must not show it.
        BitRot = "bit-rot",
        /// A node with a slow disk is killed and started again before others miss it.
        QuickRestart = "quick-restart",
        /// Syncs of a node fail; it must stop.
        SyncError = "sync-error",
        /// Every node builds a snapshot.
        Snapshot = "snapshot",
        /// The members change: one more, one less, the leader out, a dead one replaced; others are hurt meanwhile.
        Member = "member",
        /// A follower is away until the log is purged, and needs a snapshot.
        FallBehind = "fall-behind",
        /// The wall clock of a node is put forward or back by up to an hour (libfaketime).
        ClockJump = "clock-jump",
        /// All clocks of a node run fast (libfaketime).
        FastClock = "fast-clock",
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|kind| kind.name() == text);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("no fault is called {text:?}; there are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u64) -> Vec<Node> {
        (1..=count).map(Node).collect()
    }

    #[test]
    fn targets_are_who_they_say() {
        let all = nodes(5);
        assert_eq!(Target::Leader.resolve(&all, Node(3)), [Node(3)]);
        assert_eq!(Target::Follower(2).resolve(&all, Node(3)), [Node(4)]);
        assert_eq!(Target::Minority(3).resolve(&all, Node(3)), [Node(5), Node(1)]);
        assert_eq!(Target::All.resolve(&all, Node(3)), all);
    }
}
