//! Votes and log ids.

use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use quorate_proto::raft::v1 as pb;

use super::{WireError, inconsistent};
use crate::raft::types::alias::{RaftLogId, Vote};

/// Terms and log indexes above this are refused: no cluster gets there by counting, and openraft
/// adds one to what it is told, which must not overflow.
const MAX_NUMBER: u64 = 1 << 62;

/// A vote as a frame.
#[must_use]
pub fn vote_to_frame(vote: &Vote) -> pb::Vote {
    pb::Vote {
        term: vote.leader_id.term,
        node_id: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

/// A vote from a frame's field called `what`.
///
/// # Errors
/// [`WireError`] if it is missing or its term is absurd.
pub fn vote(frame: Option<&pb::Vote>, what: &'static str) -> Result<Vote, WireError> {
    let v = frame.ok_or(WireError::Missing(what))?;
    if v.term > MAX_NUMBER {
        return inconsistent(format!("{what} names term {}", v.term));
    }
    Ok(Vote { leader_id: LeaderId { term: v.term, voted_for: v.node_id }, committed: v.committed })
}

/// A log id as a frame.
#[must_use]
pub fn log_id_frame(id: &RaftLogId) -> pb::RaftLogId {
    pb::RaftLogId { term: id.leader_id.term, index: id.index }
}

/// A log id from a frame. An absent one is a legal value almost everywhere (an empty log), so the
/// caller decides what absence means.
///
/// # Errors
/// [`WireError::Inconsistent`] if a number is absurd.
pub fn log_id(frame: &pb::RaftLogId) -> Result<RaftLogId, WireError> {
    if frame.term > MAX_NUMBER || frame.index > MAX_NUMBER {
        return inconsistent(format!("a log id names term {}, index {}", frame.term, frame.index));
    }
    Ok(RaftLogId::new(CommittedLeaderId::new(frame.term), frame.index))
}
