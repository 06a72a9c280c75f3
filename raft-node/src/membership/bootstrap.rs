//! The first start of a cluster. Pure: from what this node knows to what it does next.
//!
//! A group is created by one node alone: the one with the lowest id of the configured ones, and
//! only when every other configured node has just answered its Hello, lists the same nodes, and
//! holds no more of the group than this node does: nothing. All others wait to be called.
//!
//! Why this makes at most one history of each group:
//! - Two lists could have two lowest nodes. So all lists must be equal.
//! - A disk that was lost holds nothing, but the others do: nothing beside a history never creates.
//!   (The others know the lost disk and refuse the new one, so its node stops: `crate::peer`.)
//!   Whether the others knew this disk *before* is no evidence: the first Hello makes them know it.
//! - A creator that died half-way has written each group it created before it called anybody, so it
//!   finds that group on its own disk, and goes on with those that nobody has.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use quorate_state_machine::types::GroupId;

use crate::raft::types::NodeId;

/// What came of the last Hello to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It accepts this node.
    Welcome {
        /// The groups of which its disk holds neither vote nor entry.
        fresh: BTreeSet<GroupId>,
        /// The first membership, as it is configured.
        nodes: BTreeSet<NodeId>,
    },
    /// It knows this node's id with another disk.
    ReplacedDisk(String),
    /// It could not be asked, or one of the two is configured wrongly: people can repair that
    /// while this node waits.
    Failed(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every group of this node has a history: nothing to do, ever.
    Done,
    /// Ask again later.
    Wait(Waiting),
    /// Every condition holds: create these groups. Harmless if it is repeated.
    Create(BTreeSet<GroupId>),
    /// It would be wrong to go on. Says what is wrong, and what to do.
    Refuse(String),
}

/// What a node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Another node creates the cluster.
    Creator(NodeId),
    /// These have a history of groups of which this node has none: the cluster exists, and has to
    /// call this node, or to take it in.
    Cluster(Vec<NodeId>),
    /// These have not answered as they must, and why.
    Others(BTreeMap<NodeId, String>),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creator(node) => {
                write!(f, "node {node} has the lowest id and creates it when all nodes are up")
            }
            Self::Cluster(nodes) => {
                let (node, have) =
                    if nodes.len() == 1 { ("node", "has") } else { ("nodes", "have") };
                write!(
                    f,
                    "{node} {} {have} a cluster; it has to call or add this node",
                    list(nodes)
                )
            }
            Self::Others(why) => {
                f.write_str("all nodes have to be up and agree")?;
                why.iter().try_for_each(|(node, why)| write!(f, "; node {node}: {why}"))
            }
        }
    }
}

fn list<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    let ids: Vec<String> = nodes.into_iter().map(NodeId::to_string).collect();
    ids.join(", ")
}

/// Decides. `fresh` are the groups of which this node's disk holds neither vote nor entry;
/// `configured` are all nodes of the first membership, this one (`me`) included; `answers` are those
/// of the last round of Hellos only: an older one says nothing about now.
///
/// # Panics
/// If `me` is not configured: no configuration that was loaded is like that.
#[must_use]
pub fn step(
    me: NodeId,
    fresh: &BTreeSet<GroupId>,
    configured: &BTreeSet<NodeId>,
    answers: &BTreeMap<NodeId, Answer>,
) -> Step {
    assert!(configured.contains(&me), "invariant: a node is in its own list");
    if fresh.is_empty() {
        return Step::Done;
    }
    // First of all, whoever creates: this node must not take part.
    if let Some(why) = answers.values().find_map(replaced) {
        return Step::Refuse(why.to_owned());
    }
    let ahead = answers.iter().filter(|(_, answer)| has_more(answer, fresh));
    let ahead: Vec<NodeId> = ahead.map(|(id, _)| *id).collect();
    if !ahead.is_empty() {
        return Step::Wait(Waiting::Cluster(ahead));
    }
    match configured.first() {
        Some(creator) if *creator != me => return Step::Wait(Waiting::Creator(*creator)),
        _ => {}
    }
    let others = configured.iter().filter(|id| **id != me);
    let lacking: BTreeMap<NodeId, String> =
        others.filter_map(|id| lacks(answers.get(id), configured).map(|why| (*id, why))).collect();
    if lacking.is_empty() {
        Step::Create(fresh.clone())
    } else {
        Step::Wait(Waiting::Others(lacking))
    }
}

fn replaced(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::ReplacedDisk(why) => Some(why),
        _ => None,
    }
}

/// True if the peer holds something of a group of which this node has nothing.
fn has_more(answer: &Answer, mine: &BTreeSet<GroupId>) -> bool {
    matches!(answer, Answer::Welcome { fresh, .. } if !mine.is_subset(fresh))
}

/// What keeps this answer from being one that allows the cluster to be created.
fn lacks(answer: Option<&Answer>, configured: &BTreeSet<NodeId>) -> Option<String> {
    match answer {
        None => Some("not asked yet".to_owned()),
        Some(Answer::ReplacedDisk(why) | Answer::Failed(why)) => Some(why.clone()),
        Some(Answer::Welcome { nodes, .. }) if nodes != configured => Some(format!(
            "its configuration lists nodes {}, this one's {}; the list must be the same everywhere",
            list(nodes),
            list(configured)
        )),
        Some(Answer::Welcome { .. }) => None,
    }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
