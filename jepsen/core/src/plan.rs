//! Fault rounds drawn from a seed before the run starts, so that a seed replays them.

use std::fmt;

use crate::{ids::Node, seed::Seed};

/// One round: after `after_ms` of load kill these nodes, leave them down, start them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KillRound {
    /// Counted from 0.
    pub number: usize,
    /// Load before the kill.
    pub after_ms: u64,
    /// Who dies, all within a millisecond or two.
    pub victims: Vec<Node>,
    /// How long they stay down.
    pub down_ms: u64,
}

impl fmt::Display for KillRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victims: Vec<_> = self.victims.iter().map(|node| format!("n{node}")).collect();
        write!(
            f,
            "round {}: after {} ms kill {}, down {} ms",
            self.number,
            self.after_ms,
            victims.join("+"),
            self.down_ms
        )
    }
}

/// Rounds that kill one, two, ... all nodes in turn, and the victims at random.
#[must_use]
pub fn kill_rounds(seed: &Seed, nodes: &[Node], rounds: usize) -> Vec<KillRound> {
    let mut seed = seed.fork("kill-rounds");
    (0..rounds)
        .map(|number| {
            let mut victims = nodes.to_vec();
            seed.shuffle(&mut victims);
            victims.truncate(1 + number % nodes.len());
            KillRound {
                number,
                after_ms: 200 + seed.below(1200),
                victims,
                down_ms: seed.below(1200),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_rounds_and_another_seed_others() {
        let nodes = [Node(1), Node(2), Node(3)];
        let rounds = kill_rounds(&Seed::new(7), &nodes, 9);
        assert_eq!(rounds, kill_rounds(&Seed::new(7), &nodes, 9));
        assert_ne!(rounds, kill_rounds(&Seed::new(8), &nodes, 9));
        let sizes: Vec<_> = rounds.iter().map(|round| round.victims.len()).collect();
        assert_eq!(sizes, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    }
}
