//! The first start of a cluster. Pure: from what this node knows to what it does next.
//!
//! One node alone may create the cluster: the one with the lowest id of the configured ones, and
//! only after every other configured node has said Hello to it and is either fresh or has known
//! this very disk before. So a disk that was lost and replaced can't create a second history: the
//! others are not fresh, and don't know it. (They refuse it in their answer, too: `crate::peer`.)
//! Every other node just waits to be called.

use std::collections::{BTreeMap, BTreeSet};

use crate::raft::types::NodeId;

/// What a peer said when it was last called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its disk holds neither vote nor entry.
    pub fresh: bool,
    /// It had pinned this node's disk before.
    pub knew_us: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every group of this node has a membership: nothing to do, ever.
    Done,
    /// Another node creates the cluster.
    Join {
        /// That node.
        creator: NodeId,
    },
    /// These have not answered yet.
    Wait {
        /// For them.
        missing: Vec<NodeId>,
    },
    /// Every condition holds: create the cluster. Harmless if it is repeated.
    Create,
    /// It would be wrong to go on.
    Refuse {
        /// What is wrong, and what to do.
        why: String,
    },
}

/// `configured` are all nodes of the first membership, this one (`me`) included; `initialized` says
/// that every group here has a membership already.
#[must_use]
pub fn step(
    me: NodeId,
    initialized: bool,
    configured: &BTreeSet<NodeId>,
    answers: &BTreeMap<NodeId, Answer>,
) -> Step {
    if initialized {
        return Step::Done;
    }
    let creator = *configured.first().expect("a configuration lists at least this node");
    if creator != me {
        return Step::Join { creator };
    }
    let others = || configured.iter().filter(|id| **id != me);
    // Somebody has a history and has never seen this disk.
    let strangers: Vec<NodeId> = others()
        .filter(|id| answers.get(id).is_some_and(|a| !a.fresh && !a.knew_us))
        .copied()
        .collect();
    if !strangers.is_empty() {
        return Step::Refuse {
            why: format!(
                "node {me} has an empty data directory, but nodes {strangers:?} have a history \
                 and never saw it: the disk of node {me} was lost or replaced. Don't start it \
                 under this id again; remove it from the cluster and add a new node under an id \
                 that was never used"
            ),
        };
    }
    let missing: Vec<NodeId> = others().filter(|id| !answers.contains_key(id)).copied().collect();
    if missing.is_empty() { Step::Create } else { Step::Wait { missing } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Answer = Answer { fresh: true, knew_us: false };
    const OLD_FRIEND: Answer = Answer { fresh: false, knew_us: true };
    const STRANGER: Answer = Answer { fresh: false, knew_us: false };

    fn decide(me: NodeId, initialized: bool, answers: &[(NodeId, Answer)]) -> Step {
        step(me, initialized, &BTreeSet::from([1, 2, 3]), &answers.iter().copied().collect())
    }

    #[test]
    fn the_lowest_creates_when_all_have_answered() {
        assert_eq!(decide(1, false, &[]), Step::Wait { missing: vec![2, 3] });
        assert_eq!(decide(1, false, &[(2, FRESH)]), Step::Wait { missing: vec![3] });
        assert_eq!(decide(1, false, &[(2, FRESH), (3, FRESH)]), Step::Create);
    }

    #[test]
    fn the_others_wait_to_be_called() {
        assert_eq!(decide(2, false, &[(1, FRESH), (3, FRESH)]), Step::Join { creator: 1 });
        assert_eq!(decide(3, false, &[(1, STRANGER)]), Step::Join { creator: 1 });
    }

    #[test]
    fn a_cluster_that_exists_is_never_created() {
        assert_eq!(decide(1, true, &[(2, FRESH), (3, FRESH)]), Step::Done);
    }

    #[test]
    fn a_half_created_cluster_is_finished() {
        // Some groups were created before a crash; the others know this disk by then.
        assert_eq!(decide(1, false, &[(2, OLD_FRIEND), (3, FRESH)]), Step::Create);
    }

    #[test]
    fn a_lost_disk_creates_nothing() {
        for answers in
            [&[(2, STRANGER), (3, STRANGER)][..], &[(2, FRESH), (3, STRANGER)], &[(3, STRANGER)]]
        {
            let Step::Refuse { why } = decide(1, false, answers) else {
                panic!("a second history: {answers:?}")
            };
            assert!(why.contains("never used"), "{why}");
        }
    }

    #[test]
    fn a_cluster_of_one() {
        let alone = BTreeSet::from([4]);
        assert_eq!(step(4, false, &alone, &BTreeMap::new()), Step::Create);
    }
}
