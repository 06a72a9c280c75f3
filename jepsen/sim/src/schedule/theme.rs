//! Which kinds of faults come together in a run.

use std::collections::BTreeSet;

use quorate_jepsen_core::seed::Seed;

/// What [`super::draw_fault`] draws, by number.
pub(super) const KINDS: [&str; 23] = [
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

    pub(super) fn draw(seed: &mut Seed) -> Self {
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
    pub(super) fn draw_kinds(self, seed: &mut Seed) -> Vec<usize> {
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
