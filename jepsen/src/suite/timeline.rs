//! What was done to the cluster and how it looked meanwhile, beside the history of what its clients
//! saw: for coverage, for recovery times, and for the picture.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::ids::{Moment, Node};
use serde::{Deserialize, Serialize};

use crate::nemesis::fault::Kind;

/// The file in a run's folder.
pub const FILE: &str = "timeline.jsonl";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "kebab-case")]
pub enum Mark {
    /// A fault came and went.
    Fault(FaultMark),
    /// What the nodes said about themselves.
    Sample {
        /// When.
        at: Moment,
        /// By node; those that did not answer are missing.
        nodes: Vec<NodeSample>,
    },
    /// The load began or ended.
    Load {
        /// When it began.
        from: Moment,
        /// When it ended.
        to: Moment,
    },
    /// Something the servers owe and did not do, beside what histories show: a service that did not
    /// resume, a node that ended by itself.
    Failure {
        /// When it was noticed.
        at: Moment,
        /// What.
        what: String,
    },
}

/// A fault as it was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultMark {
    /// Its kind.
    pub kind: Kind,
    /// All of it, in words.
    pub what: String,
    /// When it was installed.
    pub from: Moment,
    /// When it was healed.
    pub to: Moment,
    /// Whom it hit.
    pub hit: Vec<Node>,
    /// Whether the leader of the moment was among them.
    pub hit_leader: bool,
    /// When healing began: what was answered before was answered under it.
    #[serde(default)]
    pub healing: Option<Moment>,
    /// Nodes that could prove nothing meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<Node>,
    /// How much of it was seen to happen; 0: it was not really there.
    pub count: u64,
    /// In words.
    pub effect: String,
}

/// What one node said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSample {
    /// Who.
    pub node: Node,
    /// Whether it said that it led.
    pub leads: bool,
    /// Its term.
    pub term: u64,
    /// Its commit index.
    pub committed: u64,
    /// Its applied index.
    pub applied: u64,
    /// The age it can prove for its state, milliseconds.
    pub age_ms: Option<u64>,
}

/// A timeline in the making.
#[derive(Clone, Debug)]
pub struct Timeline(Arc<Mutex<File>>);

impl Timeline {
    /// Begins the file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&self, mark: &Mark) -> Result<()> {
        let mut line = serde_json::to_vec(mark)?;
        line.push(b'\n');
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?)
    }
}

/// Reads a timeline back.
///
/// # Errors
/// There is none, or a line of it is no mark.
pub fn read(dir: &Path) -> Result<Vec<Mark>> {
    let path = dir.join(FILE);
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    BufReader::new(file)
        .lines()
        .enumerate()
        .map(|(number, line)| {
            serde_json::from_str(&line?)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))
        })
        .collect()
}

/// The faults, in order.
pub fn faults(marks: &[Mark]) -> impl DoubleEndedIterator<Item = &FaultMark> + Clone {
    marks.iter().filter_map(|mark| match mark {
        Mark::Fault(fault) => Some(fault),
        _ => None,
    })
}

/// That a node was first seen to lead a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead {
    /// When it was seen.
    pub since: Moment,
    /// Who.
    pub node: Node,
    /// Which.
    pub term: u64,
}

/// Who led, one after the other, as the nodes themselves said.
#[must_use]
pub fn leaders(marks: &[Mark]) -> Vec<Lead> {
    let mut leaders: Vec<Lead> = Vec::new();
    for mark in marks {
        let Mark::Sample { at, nodes } = mark else { continue };
        // Of several that say so, the one of the highest term is right. One of a lower term than was
        // seen before is an old leader that does not know yet.
        let now = nodes.iter().filter(|node| node.leads).max_by_key(|node| node.term);
        let Some(now) = now else { continue };
        let is_new = leaders.last().is_none_or(|last| {
            now.term > last.term || (now.term == last.term && now.node != last.node)
        });
        if is_new {
            leaders.push(Lead { since: *at, node: now.node, term: now.term });
        }
    }
    leaders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_leader_that_speaks_alone_does_not_lead_again() {
        let sample = |at, leaders: &[(u64, u64)]| Mark::Sample {
            at: Moment(at),
            nodes: leaders
                .iter()
                .map(|(node, term)| NodeSample {
                    node: Node(*node),
                    leads: true,
                    term: *term,
                    committed: 0,
                    applied: 0,
                    age_ms: None,
                })
                .collect(),
        };
        let marks = [
            sample(1, &[(1, 1)]),
            sample(2, &[]),
            sample(3, &[(1, 1), (2, 2)]),
            sample(4, &[(1, 1)]),
            sample(5, &[(2, 2)]),
            sample(6, &[(2, 3)]),
        ];
        let lead = |since, node, term| Lead { since: Moment(since), node: Node(node), term };
        assert_eq!(leaders(&marks), [lead(1, 1, 1), lead(3, 2, 2), lead(6, 2, 3)]);
    }
}
