//! One Raft group of this node, in the words of the rest of the crate. Nothing outside `raft/` and
//! `peer/` sees an openraft type.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    Instant as _, Raft, ReadPolicy, ServerState,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
    raft::linearizable_read::LinearizerOption,
};
use quorate_state_machine::{
    outcome::Outcome,
    store::ReadView,
    types::{GroupId, LogIndex, LogPoint, Term},
};
use tokio::sync::watch;

use super::{
    log_storage::term_of,
    state_machine::{GroupState, OpenState, StateMachine},
    types::{Completion, EntryData, NodeAddress, NodeId, TypeConfig, alias::RaftLogId},
};
use crate::runtime;

/// How often a core is asked whether it still runs. A failed log, the usual cause, is told at once
/// by the log store.
const STOPPED_POLL: Duration = Duration::from_millis(100);
use crate::read::recent::Recent;

type Metrics = openraft::RaftMetrics<TypeConfig>;

/// openraft's handle, for `peer/` only.
pub type RaftHandle = Raft<TypeConfig, StateMachine>;

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

/// Why a proposed entry got no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteFailure {
    /// Refused before it was appended: no effect, ever.
    NotLeader(Option<Leader>),
    /// Appended here, but this node lost its leadership before it was committed: it may still
    /// take effect.
    Discarded(Option<Leader>),
    /// The group's core stopped: it may still take effect.
    Stopped(String),
}

/// Why no read index could be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadIndexFailure {
    /// Not the leader.
    NotLeader(Option<Leader>),
    /// No quorum confirmed the leadership in time.
    NoQuorum,
    /// The group's core stopped.
    Stopped(String),
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

/// One group on this node.
#[derive(Clone)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    raft: RaftHandle,
    state: Arc<GroupState>,
    leader_lease: Duration,
}

impl Group {
    /// Puts a running core and its state together. `leader_lease` is the upper election timeout.
    #[must_use]
    pub fn new(
        id: GroupId,
        raft: RaftHandle,
        state: Arc<GroupState>,
        leader_lease: Duration,
    ) -> Self {
        Self { id, raft, state, leader_lease }
    }

    /// The upper election timeout.
    #[must_use]
    pub fn leader_lease(&self) -> Duration {
        self.leader_lease
    }

    /// openraft's handle, for `peer/` and `raft/`.
    #[must_use]
    pub fn raft(&self) -> &RaftHandle {
        &self.raft
    }

    /// The applied state, for reading.
    #[must_use]
    pub fn store(&self) -> Arc<OpenState> {
        self.state.store()
    }

    /// The applied state, frozen as of now.
    ///
    /// # Errors
    /// The local storage failed.
    pub fn view(&self) -> Result<ReadView, String> {
        self.state.store().view().map_err(|e| e.to_string())
    }

    /// Shared state-machine part.
    #[must_use]
    pub fn state(&self) -> &Arc<GroupState> {
        &self.state
    }

    /// Hands an entry to the core. `done` is called once, from the task that applied it; it is
    /// dropped uncalled if the core stops first (the effect is unknown then).
    ///
    /// # Errors
    /// The core has stopped; the entry was not taken.
    pub async fn propose(
        &self,
        entry: Bytes,
        done: impl FnOnce(Result<Vec<Outcome>, WriteFailure>) + Send + 'static,
    ) -> Result<(), WriteFailure> {
        let this = self.clone();
        let completion =
            Completion::new(move |result: openraft::raft::ClientWriteResult<TypeConfig>| {
                match result {
                    Ok(response) => done(Ok(response.data.outcomes)),
                    Err(ClientWriteError::ForwardToLeader(f)) => {
                        done(Err(WriteFailure::NotLeader(this.forwarded(f))));
                    }
                    Err(ClientWriteError::LogEntryDiscarded(f)) => {
                        done(Err(WriteFailure::Discarded(this.forwarded(f))));
                    }
                    Err(other) => done(Err(WriteFailure::Stopped(other.to_string()))),
                }
            });
        self.raft
            .client_write_ff(EntryData(entry), Some(completion))
            .await
            .map_err(|fatal| WriteFailure::Stopped(fatal.to_string()))
    }

    /// A read index: everything acknowledged before this call is at or below it. Confirmed by a
    /// quorum that acknowledged a message sent after this call (Raft dissertation, 6.4); never by
    /// "I am leader" and never by a lease.
    ///
    /// # Errors
    /// See [`ReadIndexFailure`].
    pub async fn read_index(&self, timeout: Duration) -> Result<LogPoint, ReadIndexFailure> {
        let option = LinearizerOption::from(ReadPolicy::ReadIndex).with_wait_timeout(timeout);
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => {
                let id = linearizer.read_log_id().log_id();
                Ok(LogPoint { term: Term(term_of(id)), index: LogIndex(id.index()) })
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => {
                Err(ReadIndexFailure::NotLeader(self.forwarded(f)))
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadIndexFailure::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => Err(ReadIndexFailure::Stopped(fatal.to_string())),
        }
    }

    /// Waits until everything up to `index` is applied here. Ends early, with `false`, when the
    /// state machine is gone.
    pub async fn wait_applied(&self, index: LogIndex) -> bool {
        let mut applied = self.state.watch_applied();
        applied.wait_for(|point| point.index >= index).await.is_ok()
    }

    /// Recently applied batches.
    #[must_use]
    pub fn recent(&self) -> &Recent {
        self.state.recent()
    }

    /// Follows the applied point.
    #[must_use]
    pub fn watch_applied(&self) -> watch::Receiver<LogPoint> {
        self.state.watch_applied()
    }

    fn forwarded(&self, forward: ForwardToLeader<TypeConfig>) -> Option<Leader> {
        let id = forward.leader_id?;
        // A leader whose lease ran out points at itself: that is no hint.
        if id == *self.raft.node_id() {
            return None;
        }
        let client_address = forward.leader_node.map(|n| n.client).unwrap_or_default();
        Some(Leader { id, client_address, term: self.term() })
    }

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

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        *self.raft.node_id()
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

    /// Asks the core to hand its leadership to `to`. Ignored when this node does not lead.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), String> {
        self.state.break_evidence();
        self.raft.trigger().transfer_leader(to).await.map_err(|fatal| fatal.to_string())
    }

    /// Builds a snapshot in the background.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), String> {
        self.raft.trigger().snapshot().await.map_err(|fatal| fatal.to_string())
    }

    /// Lets the Raft log go up to and including `upto` (never beyond the newest snapshot).
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn purge(&self, upto: LogIndex) -> Result<(), String> {
        self.raft.trigger().purge_log(upto.0).await.map_err(|fatal| fatal.to_string())
    }

    /// Makes `members` the first membership of a cluster that has none. Idempotent: every
    /// bootstrap node may call it with the same members.
    ///
    /// # Errors
    /// The members do not include this node, or the core has stopped.
    pub async fn initialize(&self, members: BTreeMap<NodeId, NodeAddress>) -> Result<(), String> {
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(other) => Err(other.to_string()),
        }
    }

    /// True when this replica has a vote or log entries, or was initialised.
    ///
    /// # Errors
    /// The core has stopped.
    pub async fn is_initialized(&self) -> Result<bool, String> {
        self.raft.is_initialized().await.map_err(|fatal| fatal.to_string())
    }

    /// Waits until the core has stopped by itself, and says why.
    pub async fn stopped(&self) -> String {
        // Looked at now and then: its channel changes several times with every entry, and each
        // wake-up of a task that only waits for the end would cost more than the entry itself.
        loop {
            if let Err(fatal) = &self.raft.metrics().borrow_watched().running_state {
                return fatal.to_string();
            }
            runtime::sleep(STOPPED_POLL).await;
        }
    }

    /// Stops the core in order.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(group = self.id.0, %error, "the core did not stop in order");
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
