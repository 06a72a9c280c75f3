//! One Raft group of this node, in the words of the rest of the crate. Nothing outside `raft/` and
//! `peer/` sees an openraft type. Here is what can be asked of its core; what the core says about
//! itself is in `standing`.

mod standing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use openraft::{
    Raft, ReadPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError},
    raft::linearizable_read::LinearizerOption,
};
use quorate_state_machine::{
    outcome::Outcome,
    store::ReadView,
    types::{GroupId, LogIndex, LogPoint, Term},
    view::ViewError,
};
use tokio::sync::watch;

pub use self::standing::{Leader, Role, Standing, Vitals};
use super::{
    log_storage::term_of,
    state_machine::{GroupState, OpenState, StateMachine},
    types::{Completion, EntryData, NodeAddress, NodeId, TypeConfig},
};
use crate::{read::recent::Recent, runtime};

/// How often a core is asked whether it still runs. A failed log, the usual cause, is told at once
/// by the log store.
const STOPPED_POLL: Duration = Duration::from_millis(100);

/// openraft's handle, for `peer/` only.
pub type RaftHandle = Raft<TypeConfig, StateMachine>;

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
    /// The local storage failed, or is damaged.
    pub fn view(&self) -> Result<ReadView, ViewError> {
        Ok(self.state.store().view()?)
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

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        *self.raft.node_id()
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
