//! Changes of a group's members, on top of openraft's joint consensus (Raft dissertation, 4.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use openraft::{
    ChangeMembers, Instant as _,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
    raft::{ClientWriteResponse, Precondition},
};
use quorate_state_machine::{planted, types::LogIndex};

use super::{
    group::{Group, Leader, Role},
    types::{NodeAddress, NodeId, TypeConfig},
};
use crate::{
    membership::change::{Change, Leading, Member, Members, Refusal, Step},
    runtime,
};

/// How often those who have to answer are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeFailure {
    /// Not the leader: no effect.
    NotLeader(Option<Leader>),
    /// The rule says no: no effect.
    Refused(Refusal),
    /// Another change is under way, or the leader has yet to commit in its term: no effect; later.
    NotNow(String),
    /// It may have been begun, and may take effect.
    Unknown(String),
}

/// A change that was found good.
#[derive(Clone, Debug)]
pub struct Plan {
    before: Members,
    step: Step,
}

type Written =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

impl Group {
    /// Who is in the group, as this node knows it (committed or not).
    #[must_use]
    pub fn members(&self) -> Members {
        // The clone ends the borrow at once: a held borrow blocks the core.
        let metrics = self.raft().metrics().borrow_watched().clone();
        let stored = &metrics.membership_config;
        let membership = stored.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let matched = |id: &NodeId| {
            let of_node = metrics.replication.as_ref()?.get(id)?.as_ref()?;
            Some(LogIndex(of_node.index()))
        };
        let heard = |id: &NodeId| {
            let at = metrics.heartbeat.as_ref()?.get(id)?.as_ref()?;
            Some((**at).elapsed())
        };
        let nodes = membership.nodes().map(|(id, address)| {
            let voter = voters.contains(id);
            let (matched, heard) = (matched(id), heard(id));
            (*id, Member { address: address.clone(), voter, matched, heard })
        });
        Members {
            log_index: LogIndex(stored.log_id().as_ref().map_or(0, |id| id.index())),
            changing: membership.get_joint_config().len() > 1,
            nodes: nodes.collect(),
        }
    }

    fn leading(&self, began: runtime::Instant) -> Result<Leading, ChangeFailure> {
        let vitals = self.vitals();
        if vitals.role != Role::Leader {
            return Err(ChangeFailure::NotLeader(vitals.leader));
        }
        let patience = match planted::is("quorum_by_old_answers") {
            true => self.leader_lease(),
            false => began.elapsed(),
        };
        Ok(Leading { me: self.node_id(), last: vitals.last_log_index, patience })
    }

    /// Judges by who answers a heartbeat sent after `began`: who was alive a moment before may have
    /// died since, and a change that counts on him could stand still for ever.
    ///
    /// # Errors
    /// See [`ChangeFailure`]; never `Unknown`.
    pub async fn plan_change(&self, change: &Change) -> Result<Plan, ChangeFailure> {
        let began = runtime::now();
        loop {
            let leading = self.leading(began)?;
            let members = self.members();
            match members.judge(change, leading) {
                Ok(step) => return Ok(Plan { before: members, step }),
                Err(Refusal::Lagging { .. } | Refusal::NoQuorum { .. })
                    if leading.patience < self.leader_lease() =>
                {
                    runtime::sleep(POLL).await;
                }
                Err(refusal) => return Err(ChangeFailure::Refused(refusal)),
            }
        }
    }

    /// Takes `node` in as a learner. Returns the members once that is committed.
    ///
    /// # Errors
    /// See [`ChangeFailure`].
    pub async fn add_learner(
        &self,
        node: NodeId,
        address: NodeAddress,
    ) -> Result<Members, ChangeFailure> {
        self.leading(runtime::now())?;
        let before = self.members();
        if !before.learner(node, &address).map_err(ChangeFailure::Refused)? {
            return Ok(before);
        }
        let add = ChangeMembers::AddNodes(BTreeMap::from([(node, address)]));
        let written = self.raft().change_membership_if(add, true, self.still(&before)?).await;
        self.judged(written, &before)
    }

    /// Changes voters and learners in one step (through a joint configuration where voters change),
    /// if the members are still those of the plan. Returns the members once that is committed.
    ///
    /// # Errors
    /// See [`ChangeFailure`].
    pub async fn change_members(&self, plan: Plan) -> Result<Members, ChangeFailure> {
        let Plan { before, step } = plan;
        let Step::Go { promote, remove_voters, remove_learners } = step else { return Ok(before) };
        let mut parts = Vec::new();
        if !remove_learners.is_empty() {
            parts.push(ChangeMembers::RemoveNodes(remove_learners));
        }
        // Also without any: that is what completes a change that is half done.
        parts.push(ChangeMembers::AddVoterIds(promote));
        if !remove_voters.is_empty() {
            parts.push(ChangeMembers::RemoveVoters(remove_voters));
        }
        let parts = ChangeMembers::Batch(parts);
        let written = self.raft().change_membership_if(parts, false, self.still(&before)?).await;
        self.judged(written, &before)
    }

    /// Only if the members are still `before`: somebody may have changed them meanwhile.
    fn still(&self, before: &Members) -> Result<[Precondition<TypeConfig>; 1], ChangeFailure> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let last_membership_log_id = *metrics.membership_config.log_id();
        let now = LogIndex(last_membership_log_id.as_ref().map_or(0, |id| id.index()));
        if now != before.log_index {
            return Err(ChangeFailure::Refused(Refusal::Outdated { asked: before.log_index, now }));
        }
        Ok([Precondition::LastMembershipLogId { last_membership_log_id }])
    }

    fn judged(&self, written: Written, before: &Members) -> Result<Members, ChangeFailure> {
        let error = match written {
            Ok(_) => return Ok(self.members()),
            Err(error) => error,
        };
        // The first entry of a change counts from the moment it is appended here; while the members
        // are those of the same entry as before, none was.
        let begun = self.members().log_index != before.log_index;
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) if !begun => {
                Err(ChangeFailure::NotLeader(self.vitals().leader))
            }
            RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            ) if !begun => Err(ChangeFailure::NotNow(error.to_string())),
            error => Err(ChangeFailure::Unknown(error.to_string())),
        }
    }
}
