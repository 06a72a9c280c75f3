//! A membership as JSON: it is small, rare, and must stay readable across versions.

use bytes::Bytes;
use openraft::Membership;

use super::{WireError, inconsistent};
use crate::raft::types::{NodeAddress, NodeId};

pub(super) fn encode(membership: &Membership<NodeId, NodeAddress>) -> Bytes {
    // Serializing maps with integer keys and plain structs cannot fail.
    serde_json::to_vec(membership).expect("a membership serializes").into()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Membership<NodeId, NodeAddress>, WireError> {
    let membership = serde_json::from_slice(bytes)
        .map_err(|e| WireError::Undecodable { what: "membership", why: e.to_string() })?;
    check(&membership)?;
    Ok(membership)
}

/// Deserializing builds any shape; openraft counts quorums over it without looking again. With no
/// voter set at all every set of nodes would be a quorum.
pub(super) fn check(membership: &Membership<NodeId, NodeAddress>) -> Result<(), WireError> {
    let configs = membership.get_joint_config();
    if configs.is_empty() || configs.iter().any(|voters| voters.is_empty()) {
        return inconsistent("the membership has an empty voter set");
    }
    match membership.voter_ids().find(|id| membership.get_node(id).is_none()) {
        Some(id) => inconsistent(format!("the membership has no address of voter {id}")),
        None => Ok(()),
    }
}
