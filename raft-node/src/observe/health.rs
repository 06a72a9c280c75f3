//! Whether a node is of use, judged by evidence. A process that runs, and a node that believes to
//! lead, prove nothing: an isolated leader believes it for ever.

use std::{fmt, time::Duration};

use quorate_state_machine::types::{GroupId, LogIndex, Term};

use super::metrics::sources::Role;
use crate::raft::types::NodeId;

/// A replica further behind what it knows to be committed is still catching up. Far above what a
/// busy node has in its apply queue (an entry holds many commands), so that load alone never makes
/// a node unready.
pub const MAX_APPLY_LAG: u64 = 4096;

/// What the probes ask. Called on the event loop: an implementation answers from memory, and does
/// not block.
pub trait Health: Send + Sync + 'static {
    /// Why this node is not ready; empty when it is.
    fn not_ready(&self) -> Vec<NotReady>;
    /// How far behind this replica is in each group. Asks for a proof where there is none that is
    /// younger than `bound`, and waits for it, but not for long.
    fn lags(&self, bound: Duration) -> impl Future<Output = Vec<GroupLag>> + Send;
    /// The same, with the time of probation; from then on the node looks by itself for a while.
    fn probation(&self, bound: Duration) -> impl Future<Output = Vec<GroupLag>> + Send;
    /// Who leads each group, as far as this node knows.
    fn leaders(&self) -> Vec<GroupLeader>;
}

/// One reason against being ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// The group it is about; `None` when it is about the node.
    pub group: Option<GroupId>,
    /// A sentence for the operator.
    pub why: String,
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            Some(group) => write!(f, "group {}: {}", group.0, self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// How far behind a replica is in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLag {
    /// Which group.
    pub group: GroupId,
    /// Now; `None`: nothing was proven since the start.
    pub now: Option<Duration>,
    /// The worst of the time of probation; `None`: it was unknown once, or nobody looked.
    pub worst: Option<Duration>,
}

impl GroupLag {
    /// Is it within the bound now?
    ///
    /// # Errors
    /// Why not.
    pub fn within(&self, bound: Duration) -> Result<(), String> {
        match self.now {
            Some(lag) if lag <= bound => Ok(()),
            Some(lag) => Err(format!(
                "is up to {} ms behind, more than {} ms",
                lag.as_millis(),
                bound.as_millis()
            )),
            None => Err("how far it is behind is unknown: nothing was proven yet".to_owned()),
        }
    }

    /// Is it within the bound now, and was it all through the time of probation?
    ///
    /// # Errors
    /// Why not.
    pub fn proven(&self, bound: Duration) -> Result<(), String> {
        self.within(bound)?;
        match self.worst {
            Some(worst) if worst <= bound => Ok(()),
            Some(worst) => Err(format!(
                "is on probation: it was up to {} ms behind a moment ago, more than {} ms",
                worst.as_millis(),
                bound.as_millis()
            )),
            None => {
                Err("is on probation: it has just started, or was not looked at for a while (it \
                         was stopped, or nobody asked): ask again"
                    .to_owned())
            }
        }
    }
}

/// Who leads a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLeader {
    /// Which group.
    pub group: GroupId,
    /// The term this node is in.
    pub term: Term,
    /// The leader's node id and client address; `None` when this node knows none.
    pub leader: Option<(NodeId, String)>,
    /// This node leads, with a fresh quorum acknowledgement.
    pub leads_here: bool,
}

/// What is known about a group when it is asked whether it is ready.
#[derive(Clone, Debug)]
pub struct GroupFacts {
    /// By evidence: a leader without a fresh quorum acknowledgement is not one.
    pub role: Role,
    /// The members of the group, as far as this node knows, do not include it.
    pub removed: bool,
    /// Some leader is known.
    pub leader_known: bool,
    /// Since this node last had proof of the leadership: on the leader an acknowledgement by a
    /// quorum, elsewhere an answer or a message of the leader. `None`: never.
    pub contact_age: Option<Duration>,
    /// Commit index known here.
    pub commit_index: LogIndex,
    /// Applied here.
    pub applied_index: LogIndex,
}

/// Whether a group is ready, given how old the proof of its leadership may be.
///
/// # Errors
/// Why it is not.
pub fn assess(facts: &GroupFacts, max_contact_age: Duration) -> Result<(), String> {
    match facts.role {
        Role::Stopped => return Err("its core has stopped; the log says why".to_owned()),
        Role::Candidate => return Err("stands for election: no leader".to_owned()),
        Role::Leader | Role::Follower | Role::Learner => {}
    }
    if facts.removed {
        return Err(
            "this node was removed from the group: stop it, it is of no more use".to_owned()
        );
    }
    if !facts.leader_known {
        return Err("knows no leader".to_owned());
    }
    match facts.contact_age {
        None => return Err("has not heard of its leader since the start".to_owned()),
        Some(age) if age > max_contact_age => {
            return Err(format!(
                "last had proof of its leader {} ms ago, more than {} ms",
                age.as_millis(),
                max_contact_age.as_millis()
            ));
        }
        Some(_) => {}
    }
    let lag = facts.commit_index.0.saturating_sub(facts.applied_index.0);
    if lag > MAX_APPLY_LAG {
        return Err(format!("catching up: {lag} committed entries are not applied here yet"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_proof_of_a_leader_and_a_state_that_has_caught_up() {
        let good = GroupFacts {
            role: Role::Follower,
            removed: false,
            leader_known: true,
            contact_age: Some(Duration::from_millis(1_000)),
            commit_index: LogIndex(10_000),
            applied_index: LogIndex(10_000 - MAX_APPLY_LAG),
        };
        let (ready, limit) = (Ok(()), Duration::from_millis(1_000));
        let no = |why: &str| Err(why.to_owned());
        let cases = [
            ("follower", good.clone(), ready.clone()),
            ("leader", GroupFacts { role: Role::Leader, ..good.clone() }, ready.clone()),
            ("learner", GroupFacts { role: Role::Learner, ..good.clone() }, ready),
            (
                "candidate",
                GroupFacts { role: Role::Candidate, ..good.clone() },
                no("stands for election: no leader"),
            ),
            (
                "stopped",
                GroupFacts { role: Role::Stopped, ..good.clone() },
                no("its core has stopped; the log says why"),
            ),
            (
                "removed",
                GroupFacts { removed: true, leader_known: false, ..good.clone() },
                no("this node was removed from the group: stop it, it is of no more use"),
            ),
            (
                "no leader",
                GroupFacts { leader_known: false, ..good.clone() },
                no("knows no leader"),
            ),
            (
                "isolated",
                GroupFacts { contact_age: Some(Duration::from_millis(1_001)), ..good.clone() },
                no("last had proof of its leader 1001 ms ago, more than 1000 ms"),
            ),
            (
                "just started",
                GroupFacts { contact_age: None, ..good.clone() },
                no("has not heard of its leader since the start"),
            ),
            (
                "behind",
                GroupFacts { commit_index: LogIndex(10_001), ..good.clone() },
                no("catching up: 4097 committed entries are not applied here yet"),
            ),
            // The commit index known here may lag behind what was applied before a restart.
            ("restarted", GroupFacts { commit_index: LogIndex(0), ..good }, Ok(())),
        ];
        for (name, facts, want) in cases {
            assert_eq!(assess(&facts, limit), want, "{name}");
        }
    }

    #[test]
    fn a_replica_proves_itself_before_it_serves_again() {
        let ms = Duration::from_millis;
        let lag = |now, worst| GroupLag { group: GroupId(0), now, worst };
        let no = |why: &str| Err(why.to_owned());
        let cases = [
            (lag(Some(ms(500)), Some(ms(500))), Ok(()), Ok(())),
            (
                lag(Some(ms(501)), Some(ms(501))),
                no("is up to 501 ms behind, more than 500 ms"),
                no("is up to 501 ms behind, more than 500 ms"),
            ),
            (
                lag(Some(ms(20)), Some(ms(900))),
                Ok(()),
                no("is on probation: it was up to 900 ms behind a moment ago, more than 500 ms"),
            ),
            (
                lag(Some(ms(20)), None),
                Ok(()),
                no(
                    "is on probation: it has just started, or was not looked at for a while (it was \
                    stopped, or nobody asked): ask again",
                ),
            ),
            (
                lag(None, None),
                no("how far it is behind is unknown: nothing was proven yet"),
                no("how far it is behind is unknown: nothing was proven yet"),
            ),
        ];
        for (lag, within, proven) in cases {
            assert_eq!(lag.within(ms(500)), within, "{lag:?}");
            assert_eq!(lag.proven(ms(500)), proven, "{lag:?}");
        }
    }
}
