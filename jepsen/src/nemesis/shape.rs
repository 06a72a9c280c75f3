//! How the network falls apart: which calls are cut, seen from who leads.

use quorate_jepsen_core::ids::Node;
use serde::{Deserialize, Serialize};

/// How the network falls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// The leader hears nobody and nobody hears it; clients reach everybody.
    LeaderAlone,
    /// A minority with the leader, and the rest.
    Halves,
    /// Everybody sees a majority, no two the same one.
    MajoritiesRing,
    /// Two halves, and one node that both see.
    Bridge,
    /// The leader's calls reach nobody; it is called as ever.
    LeaderMute,
    /// Nobody's calls reach the leader; it calls as ever.
    LeaderDeaf,
    /// A minority with the leader is called by none of the others, who choose a new leader. The old
    /// one cannot call them either; its followers can.
    OldLeaderAside,
    /// Calls of a minority with the leader do not reach the others, whose calls reach it: the old
    /// leader learns that there is another, and entries arrive where their age cannot be proven.
    AsideMute,
}

impl Shape {
    /// All shapes; the ring is another one than the bridge only from five nodes on.
    pub const ALL: [Self; 6] = [
        Self::LeaderAlone,
        Self::Halves,
        Self::LeaderMute,
        Self::Bridge,
        Self::LeaderDeaf,
        Self::MajoritiesRing,
    ];

    /// The leader first, so that it is where a shape says it is.
    fn order(nodes: &[Node], leader: Node) -> Vec<Node> {
        let followers = nodes.iter().copied().filter(|node| *node != leader);
        [leader].into_iter().chain(followers).collect()
    }

    /// Nodes that can prove nothing while it lasts: no majority, or no leader that has one, hears
    /// them and is heard.
    #[must_use]
    pub fn apart(self, nodes: &[Node], leader: Node) -> Vec<Node> {
        let count = match self {
            Self::LeaderAlone | Self::LeaderMute => 1,
            Self::Halves | Self::OldLeaderAside | Self::AsideMute => minority(nodes.len()),
            Self::MajoritiesRing | Self::Bridge | Self::LeaderDeaf => 0,
        };
        Self::order(nodes, leader).into_iter().take(count).collect()
    }

    /// The calls that are cut, from the first to the second.
    #[must_use]
    pub fn cut(self, nodes: &[Node], leader: Node) -> Vec<(Node, Node)> {
        let order = Self::order(nodes, leader);
        let at = |node: &Node| order.iter().position(|other| other == node).unwrap_or_default();
        let n = order.len();
        let minority = minority(n);
        let cut = |from: &Node, to: &Node| {
            let (a, b) = (at(from), at(to));
            match self {
                Self::LeaderAlone => a == 0 || b == 0,
                Self::Halves => (a < minority) != (b < minority),
                Self::MajoritiesRing => {
                    // Each sees itself and as many on either side as make a majority. Of three that
                    // is everybody, so one pair is cut.
                    let apart = a.abs_diff(b).min(n - a.abs_diff(b));
                    if n == 3 { a + b == 2 && a != b } else { apart > (n / 2).div_ceil(2) }
                }
                Self::Bridge => {
                    let bridge = n / 2;
                    a != bridge && b != bridge && (a < bridge) != (b < bridge)
                }
                Self::LeaderMute => a == 0,
                Self::LeaderDeaf => b == 0,
                Self::OldLeaderAside => {
                    (a >= minority && b < minority) || (a == 0 && b >= minority)
                }
                Self::AsideMute => a < minority && b >= minority,
            }
        };
        let mut all = Vec::new();
        for from in nodes {
            for to in nodes {
                if from != to && cut(from, to) {
                    all.push((*from, *to));
                }
            }
        }
        all
    }
}

/// As many as may fail, the leader among them.
fn minority(nodes: usize) -> usize {
    nodes.div_ceil(2) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u64) -> Vec<Node> {
        (1..=count).map(Node).collect()
    }

    /// How many a node can exchange calls with, itself included.
    fn sees(cut: &[(Node, Node)], nodes: &[Node], node: Node) -> usize {
        nodes.iter().filter(|n| !cut.contains(&(node, **n)) && !cut.contains(&(**n, node))).count()
    }

    #[test]
    fn shapes_cut_what_they_say() {
        for count in [3, 5] {
            let (all, leader) = (nodes(count), Node(2));
            let n = count as usize;
            let seen = |shape: Shape, node| sees(&shape.cut(&all, leader), &all, node);
            for node in &all {
                let (alone, halves) = (seen(Shape::LeaderAlone, *node), n / 2);
                assert_eq!(alone, if *node == leader { 1 } else { n - 1 });
                assert!([halves, n - halves].contains(&seen(Shape::Halves, *node)));
                assert!(seen(Shape::Bridge, *node) > n / 2, "{count} {node}");
                let ring = seen(Shape::MajoritiesRing, *node);
                assert!(ring > n / 2 && (ring < n || n == 3), "{count} {node} {ring}");
            }
            assert_eq!(seen(Shape::Halves, leader), n / 2, "the leader is with the minority");
            let bridges = all.iter().filter(|node| seen(Shape::Bridge, **node) == n).count();
            assert_eq!(bridges, 1, "one node sees all");
            let mute = Shape::LeaderMute.cut(&all, leader);
            assert!(mute.iter().all(|(from, _)| *from == leader) && mute.len() == n - 1);
            let few = (n - 1) / 2;
            let aside = Shape::OldLeaderAside.cut(&all, leader);
            assert_eq!(aside.len(), few * (n - few) + (n - few), "{count}");
            assert!(
                aside.iter().all(|(from, to)| *from == leader || *to == leader || *to == Node(1))
            );
            let mute = Shape::AsideMute;
            let apart = mute.apart(&all, leader);
            assert_eq!(apart, Shape::Halves.apart(&all, leader));
            let inside = |node: &Node| apart.contains(node);
            assert!(mute.cut(&all, leader).iter().all(|(a, b)| inside(a) && !inside(b)));
            assert!(apart.contains(&leader) && apart.len() == few);
            let deaf = Shape::LeaderDeaf.cut(&all, leader);
            assert!(deaf.iter().all(|(_, to)| *to == leader) && deaf.len() == n - 1);
        }
    }
}
