//! What an answer says about itself.

use quorate_proto::v1::{self as wire, ReadHeader, ReadMethod};
use quorate_state_machine::{outcome::LogDescription, types::GroupId};

use super::ask;
use crate::{
    api::{context::Context, errors},
    raft::group::Role,
    read::levels::{Basis, Evidence},
};

/// To be called after the data was read: the age is evaluated here.
pub(in crate::api) fn header(
    context: &Context,
    group: GroupId,
    basis: &Basis,
    log: Option<&LogDescription>,
) -> ReadHeader {
    let reader = &context.sides(group).reader;
    let standing = reader.group().standing();
    ReadHeader {
        group: group.0,
        position: context.position(
            group,
            basis.applied,
            log.map(|l| l.incarnation).unwrap_or_default(),
        ),
        term: basis.applied.term.0,
        applied_index: basis.applied.index.0,
        age_ms: reader.age(basis).map(errors::age_ms),
        method: match basis.evidence {
            Evidence::ReadIndex => ReadMethod::ReadIndex,
            Evidence::Probe => ReadMethod::Probe,
            Evidence::None => ReadMethod::Local,
        }
        .into(),
        served_by: context.node_id,
        role: role(standing.role).into(),
        leader: standing.leader.map(errors::hint),
        start_offset: log.map_or(0, |l| l.start_offset.0),
        next_offset: log.map_or(0, |l| l.next_offset.0),
        incarnation: log.map_or(0, |l| l.incarnation.0),
        given: Some(ask::given(basis.given)),
        entries_behind: standing.commit_index.0.saturating_sub(basis.applied.index.0),
        position_unmet: basis.position_unmet,
        positions_of_other_groups: basis.elsewhere,
    }
}

/// Role on the wire.
#[must_use]
pub(in crate::api) fn role(role: Role) -> wire::Role {
    match role {
        Role::Leader => wire::Role::Leader,
        Role::Follower => wire::Role::Follower,
        Role::Candidate => wire::Role::Candidate,
        Role::Learner => wire::Role::Learner,
    }
}
