//! Whether the members of a group may be changed as asked. Pure: from what the leader knows.
//!
//! The change itself is openraft's joint consensus, which keeps one history whatever is asked. What
//! it does not do is to look whether the new voters can go on: a new voter with an empty log, or a
//! dead one, counts towards the majority from the moment the change is appended, and a group that
//! has no majority can't take the change back. So only voters that are up to date and heard of
//! count here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_state_machine::types::LogIndex;

use crate::raft::types::{NodeAddress, NodeId};

/// A replica whose log lacks no more than this many entries is up to date: it is what a few
/// appends under way amount to.
pub const MAX_LAG: u64 = 2_000;

/// One node of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it is.
    pub address: NodeAddress,
    /// Otherwise a learner.
    pub voter: bool,
    /// On a leader: how far its log is known to match; `None`: not at all yet.
    pub matched: Option<LogIndex>,
    /// On a leader: since it last answered; `None`: never, to this leader.
    pub heard: Option<Duration>,
}

/// Who is in a group, as one node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Of the entry that says so.
    pub log_index: LogIndex,
    /// The change is half done (joint consensus).
    pub changing: bool,
    /// Everybody.
    pub nodes: BTreeMap<NodeId, Member>,
}

/// What the leader that judges knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Leading {
    /// Its id.
    pub me: NodeId,
    /// The end of its log.
    pub last: LogIndex,
    /// Who has not answered for this long does not count: since the request came.
    pub patience: Duration,
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Learners that get a vote.
    pub promote: BTreeSet<NodeId>,
    /// Members that go.
    pub remove: BTreeSet<NodeId>,
    /// Only if the members are those of this entry.
    pub if_log_index: Option<LogIndex>,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is as asked.
    Nothing,
    /// This, from what was asked; and a change that is half done gets finished.
    Go {
        /// Learners.
        promote: BTreeSet<NodeId>,
        /// Voters.
        remove_voters: BTreeSet<NodeId>,
        /// Learners.
        remove_learners: BTreeSet<NodeId>,
    },
}

/// Why not. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody else was faster.
    #[error(
        "the members are those of log index {now}, not of {asked}: they were changed meanwhile. \
         Look at them again (quorate member list), then decide"
    )]
    Outdated {
        /// In the request.
        asked: LogIndex,
        /// Now.
        now: LogIndex,
    },
    /// Both at once.
    #[error("node {0} is to get a vote and to be removed: one or the other")]
    Both(NodeId),
    /// No member at all.
    #[error("node {0} is no member of the group: add it as a learner first (quorate member add)")]
    Unknown(NodeId),
    /// The leader can't take itself out.
    #[error(
        "node {0} leads the group: hand its leadership over first (quorate member lead), then \
         remove it through the new leader"
    )]
    Leader(NodeId),
    /// It would vote without knowing what was committed.
    #[error(
        "node {node} is not up to date yet ({how}): wait until it has caught up, then ask again"
    )]
    Lagging {
        /// The learner.
        node: NodeId,
        /// By how much.
        how: String,
    },
    /// The group could stand still for ever.
    #[error(
        "of the {voters} voters that the group would have, only {ready} are up to date and answer, \
         and {needed} are needed. Not up to date or silent: {lacking}. Start these nodes, or \
         remove them first"
    )]
    NoQuorum {
        /// After the change.
        voters: usize,
        /// Of these.
        ready: usize,
        /// A majority.
        needed: usize,
        /// Node ids.
        lacking: String,
    },
    /// Nobody would be left.
    #[error("that would leave the group without a voter")]
    Empty,
    /// The same id somewhere else.
    #[error(
        "node {node} is a member already, at {known}: a node id belongs to one disk, for ever, and \
         a member's addresses can't be changed in this version. Give the new node an id that was \
         never used"
    )]
    OtherAddress {
        /// The id.
        node: NodeId,
        /// Where it is.
        known: NodeAddress,
    },
    /// Two ids in one place.
    #[error("node {other} is a member at {address} already: each node has addresses of its own")]
    SameAddress {
        /// Who has it.
        other: NodeId,
        /// The address.
        address: String,
    },
}

impl Members {
    /// Whether `node` still has to be taken in as a learner at `address`; `false`: it is there.
    ///
    /// # Errors
    /// [`Refusal::OtherAddress`], [`Refusal::SameAddress`].
    pub fn learner(&self, node: NodeId, address: &NodeAddress) -> Result<bool, Refusal> {
        if let Some(member) = self.nodes.get(&node) {
            return if member.address == *address {
                Ok(false)
            } else {
                Err(Refusal::OtherAddress { node, known: member.address.clone() })
            };
        }
        for (other, member) in &self.nodes {
            for taken in [&member.address.peer, &member.address.client] {
                if [&address.peer, &address.client].contains(&taken) {
                    return Err(Refusal::SameAddress { other: *other, address: taken.clone() });
                }
            }
        }
        Ok(true)
    }

    /// Judges `change`.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn judge(&self, change: &Change, leading: Leading) -> Result<Step, Refusal> {
        if let Some(asked) = change.if_log_index.filter(|asked| *asked != self.log_index) {
            return Err(Refusal::Outdated { asked, now: self.log_index });
        }
        if let Some(both) = change.promote.intersection(&change.remove).next() {
            return Err(Refusal::Both(*both));
        }
        let mut promote = BTreeSet::new();
        for node in &change.promote {
            let member = self.nodes.get(node).ok_or(Refusal::Unknown(*node))?;
            if !member.voter {
                if let Some(how) = member.lacks(leading) {
                    return Err(Refusal::Lagging { node: *node, how });
                }
                promote.insert(*node);
            }
        }
        // Whoever is gone already needs no removing: asking twice does no harm.
        let known = self.nodes.iter().filter(|(id, _)| change.remove.contains(id));
        let (voters, learners): (Vec<_>, Vec<_>) = known.partition(|(_, member)| member.voter);
        let ids = |nodes: Vec<(&NodeId, &Member)>| nodes.into_iter().map(|(id, _)| *id).collect();
        let (remove_voters, remove_learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            (ids(voters), ids(learners));
        if remove_voters.contains(&leading.me) {
            return Err(Refusal::Leader(leading.me));
        }
        if promote.is_empty() && remove_voters.is_empty() && remove_learners.is_empty() {
            if !self.changing {
                return Ok(Step::Nothing);
            }
        } else {
            self.quorum_goes_on(&promote, &remove_voters, leading)?;
        }
        Ok(Step::Go { promote, remove_voters, remove_learners })
    }

    fn quorum_goes_on(
        &self,
        promote: &BTreeSet<NodeId>,
        remove: &BTreeSet<NodeId>,
        leading: Leading,
    ) -> Result<(), Refusal> {
        let voters = self
            .nodes
            .iter()
            .filter(|(id, member)| (member.voter && !remove.contains(id)) || promote.contains(id));
        let (ready, lacking): (Vec<_>, Vec<_>) =
            voters.partition(|(id, member)| **id == leading.me || member.lacks(leading).is_none());
        let voters = ready.len() + lacking.len();
        if voters == 0 {
            return Err(Refusal::Empty);
        }
        let needed = voters / 2 + 1;
        if ready.len() >= needed {
            return Ok(());
        }
        let lacking: Vec<String> = lacking.iter().map(|(id, _)| id.to_string()).collect();
        Err(Refusal::NoQuorum { voters, ready: ready.len(), needed, lacking: lacking.join(", ") })
    }
}

impl Member {
    /// What this replica lacks to be counted on, in words.
    fn lacks(&self, leading: Leading) -> Option<String> {
        let Some(matched) = self.matched else { return Some("it has nothing yet".to_owned()) };
        let lag = leading.last.0.saturating_sub(matched.0);
        if lag > MAX_LAG {
            return Some(format!("it lacks {lag} entries; {MAX_LAG} are allowed"));
        }
        match self.heard {
            None => Some("it has not answered this leader yet".to_owned()),
            Some(heard) if heard > leading.patience => {
                Some(format!("it has not answered for {} ms", heard.as_millis()))
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
