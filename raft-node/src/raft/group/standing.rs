//! What a node is in a group, by evidence, and the group's vital signs.

use std::{collections::BTreeMap, time::Duration};

use openraft::{Instant as _, ServerState, async_runtime::WatchReceiver};
use quorate_state_machine::types::{LogIndex, Term};

use super::Group;
use crate::raft::types::{NodeId, TypeConfig, alias::RaftLogId};

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// Where to find the leader of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Its node id.
    pub id: NodeId,
    /// Its client address; empty when only the id is known.
    pub client_address: String,
    /// The term it was seen to lead in.
    pub term: Term,
}

/// What a node is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads, and a quorum acknowledged it within a leader lease.
    Leader,
    /// Follows, or claims to lead without a fresh quorum acknowledgement.
    Follower,
    /// Stands for election.
    Candidate,
    /// Replicates without a vote.
    Learner,
}

/// Where a replica stands, as it tells its readers.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Role, by evidence.
    pub role: Role,
    /// The leader, as far as this node knows.
    pub leader: Option<Leader>,
    /// Commit index known here.
    pub commit_index: LogIndex,
}

/// A group's vital signs, one consistent sample.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Role, by evidence.
    pub role: Role,
    /// Current term.
    pub term: Term,
    /// The leader, as far as this node knows.
    pub leader: Option<Leader>,
    /// Last index in the local Raft log.
    pub last_log_index: LogIndex,
    /// Commit index known here.
    pub commit_index: LogIndex,
    /// Applied here.
    pub applied_index: LogIndex,
    /// Everything up to here is purged from the local Raft log.
    pub purged_index: LogIndex,
    /// Index of the newest local snapshot.
    pub snapshot_index: LogIndex,
    /// On a leader: since a quorum last acknowledged it.
    pub quorum_ack_age: Option<Duration>,
    /// On a leader: how far each other replica's log matches.
    pub matched: BTreeMap<NodeId, LogIndex>,
    /// Voters.
    pub voters: Vec<NodeId>,
    /// Learners.
    pub learners: Vec<NodeId>,
    /// Set when the group's core has stopped, and why.
    pub stopped: Option<String>,
}

impl Group {
    /// Current term, as far as this node knows.
    #[must_use]
    pub fn term(&self) -> Term {
        Term(self.raft.metrics().borrow_watched().current_term)
    }

    /// The leader as far as this node knows; itself only with a fresh quorum acknowledgement.
    #[must_use]
    pub fn leader(&self) -> Option<Leader> {
        self.standing().leader
    }

    /// What this node is in the group, by evidence.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role_in(&self.raft.metrics().borrow_watched())
    }

    /// A few of the vital signs, without all that [`Self::vitals`] gathers: reads ask with every
    /// answer.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        // Held for a few comparisons and one address; a clone of it all would hold it for longer.
        let metrics = metrics.borrow_watched();
        let role = self.role_in(&metrics);
        let commit_index = metrics.local_committed.as_ref().map_or(0, RaftLogId::index);
        Standing { role, leader: leader_in(&metrics, role), commit_index: LogIndex(commit_index) }
    }

    fn role_in(&self, metrics: &Metrics) -> Role {
        let quorum_ack_age = metrics.last_quorum_acked.map(|at| (*at).elapsed());
        let fresh = quorum_ack_age.is_some_and(|age| age <= self.leader_lease);
        match metrics.state {
            ServerState::Leader if fresh => Role::Leader,
            // An isolated node reports itself leader for ever; without evidence it is not one.
            ServerState::Leader | ServerState::Follower => Role::Follower,
            ServerState::Candidate => Role::Candidate,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        }
    }

    /// Who claims to lead (this node included, evidence or not), and its address for peers.
    #[must_use]
    pub fn leader_address(&self) -> Option<(NodeId, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let id = metrics.current_leader?;
        let node = metrics.membership_config.membership().get_node(&id)?;
        Some((id, node.peer.clone()))
    }

    /// A consistent sample of the group's vital signs.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        // The clone ends the borrow at once: a held borrow blocks the core.
        let metrics = self.raft.metrics().borrow_watched().clone();
        let quorum_ack_age = metrics.last_quorum_acked.map(|at| (*at).elapsed());
        let role = self.role_in(&metrics);
        let leader = leader_in(&metrics, role);
        let membership = metrics.membership_config.membership();
        let index = |id: &Option<RaftLogId>| LogIndex(id.as_ref().map_or(0, RaftLogId::index));
        Vitals {
            role,
            term: Term(metrics.current_term),
            leader,
            last_log_index: LogIndex(metrics.last_log_index.unwrap_or(0)),
            commit_index: index(&metrics.local_committed),
            applied_index: index(&metrics.last_applied),
            purged_index: index(&metrics.purged),
            snapshot_index: LogIndex(self.state.snapshot_index()),
            quorum_ack_age,
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(id, matched)| (*id, index(matched)))
                .collect(),
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            stopped: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }
}

/// The leader that the metrics name; this node only if it leads by evidence.
fn leader_in(metrics: &Metrics, role: Role) -> Option<Leader> {
    let id = metrics.current_leader.filter(|id| *id != metrics.id || role == Role::Leader)?;
    let node = metrics.membership_config.membership().get_node(&id);
    let client_address = node.map(|node| node.client.clone()).unwrap_or_default();
    Some(Leader { id, client_address, term: Term(metrics.current_term) })
}
