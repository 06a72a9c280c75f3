//! The operators' RPCs that change who is in a group.

use quorate_proto::{
    admin::v1::{AddLearnerRequest, ChangeMembersRequest, Member, Members, MembersResponse},
    v1::{Effect, ErrorKind},
};
use quorate_state_machine::types::LogIndex;

use super::{admin::Admin, context::Deadline, errors::ApiError};
use crate::{
    membership::change::{self, Refusal},
    raft::{members::ChangeFailure, types::NodeAddress},
};

/// Longest accepted address: the longest host name (RFC 1035, 2.3.4), a colon and a port.
const MAX_ADDRESS: usize = 253 + 6;

impl From<ChangeFailure> for ApiError {
    fn from(failure: ChangeFailure) -> Self {
        match failure {
            ChangeFailure::NotLeader(leader) => Self::not_leader(leader, Effect::None),
            ChangeFailure::Refused(why) => {
                let later = matches!(why, Refusal::Lagging { .. } | Refusal::NoQuorum { .. });
                Self::new(ErrorKind::Invalid, later, Effect::None, why.to_string())
            }
            ChangeFailure::NotNow(why) => Self::new(
                ErrorKind::Unavailable,
                true,
                Effect::None,
                format!("the members can't be changed right now ({why}): ask again in a moment"),
            ),
            ChangeFailure::Unknown(why) => Self::new(
                ErrorKind::Unavailable,
                true,
                Effect::Unknown,
                format!(
                    "the change of the members was begun, and this node does not know what became \
                     of it ({why}). Look (quorate member list); asking for the same again does no \
                     harm and completes it"
                ),
            ),
        }
    }
}

/// As it goes over the wire.
pub(super) fn wire(members: change::Members) -> Members {
    let nodes = members.nodes.into_iter().map(|(node_id, member)| Member {
        node_id,
        peer_address: member.address.peer,
        client_address: member.address.client,
        voter: member.voter,
    });
    Members { log_index: members.log_index.0, changing: members.changing, nodes: nodes.collect() }
}

fn check_address(what: &str, address: &str) -> Result<(), ApiError> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let port = port.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|port| *port > 0);
    if port.is_none() || address.len() > MAX_ADDRESS || address.contains(char::is_whitespace) {
        return Err(ApiError::invalid(format!("{what} {address:?} is not HOST:PORT")));
    }
    Ok(())
}

impl Admin {
    pub(super) async fn take_in(
        &self,
        request: AddLearnerRequest,
        deadline: Deadline,
    ) -> Result<MembersResponse, ApiError> {
        let id = self.group(request.group)?;
        if request.node_id == 0 {
            return Err(ApiError::invalid("node ids begin at 1"));
        }
        check_address("the peer address", &request.peer_address)?;
        check_address("the client address", &request.client_address)?;
        let group = self.context.sides(id).reader.group();
        let address = NodeAddress { peer: request.peer_address, client: request.client_address };
        tracing::info!(group = id.0, node = request.node_id, %address, "adding a learner");
        let change = async { Ok(group.add_learner(request.node_id, address).await?) };
        let members = deadline.run(change, Effect::Unknown).await?;
        Ok(MembersResponse { members: Some(wire(members)) })
    }

    pub(super) async fn reshape(
        &self,
        request: ChangeMembersRequest,
        deadline: Deadline,
    ) -> Result<MembersResponse, ApiError> {
        let id = self.group(request.group)?;
        let group = self.context.sides(id).reader.group();
        let change = change::Change {
            promote: request.promote.into_iter().collect(),
            remove: request.remove.into_iter().collect(),
            if_log_index: request.if_log_index.map(LogIndex),
        };
        tracing::info!(
            group = id.0,
            promote = ?change.promote,
            remove = ?change.remove,
            "changing the members"
        );
        let plan = async { Ok(group.plan_change(&change).await?) };
        let plan = deadline.run(plan, Effect::None).await?;
        let change = async { Ok(group.change_members(plan).await?) };
        let members = deadline.run(change, Effect::Unknown).await?;
        Ok(MembersResponse { members: Some(wire(members)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["10.0.0.1:7201", "db-1.example:80", "[::1]:7201"] {
            assert!(check_address("it", good).is_ok(), "{good}");
        }
        let long = format!("{}:1", "a".repeat(300));
        for bad in ["", "host", ":7201", "host:", "host:0", "host:70000", "a b:1", &long] {
            assert!(check_address("it", bad).is_err(), "{bad}");
        }
    }
}
