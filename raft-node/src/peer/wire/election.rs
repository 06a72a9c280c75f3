//! Votes, pre-votes and leadership transfer.

use quorate_proto::raft::v1::{self as pb, transfer_leader_reply::Result as Reply};

use super::{
    TransferRefusal, TransferRequest, TransferResponse, VoteRequest, VoteResponse, WireError,
    ids::{log_id, log_id_frame, vote, vote_to_frame},
    inconsistent,
};

/// A vote request as a frame.
#[must_use]
pub fn vote_frame(request: &VoteRequest) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_to_frame(&request.vote)),
        last_log: request.last_log_id.as_ref().map(log_id_frame),
        leadership_transfer: request.leadership_transfer,
    }
}

/// A vote request from a frame.
///
/// # Errors
/// [`WireError`] if the vote is missing or already committed, or not later than the candidate's log.
pub fn vote_request(frame: &pb::VoteRequest) -> Result<VoteRequest, WireError> {
    let vote = vote(frame.vote.as_ref(), "VoteRequest.vote")?;
    if vote.committed {
        return inconsistent("a candidate's vote that is committed already");
    }
    let last_log_id = frame.last_log.as_ref().map(log_id).transpose()?;
    if last_log_id.is_some_and(|last| last.leader_id.term > vote.leader_id.term) {
        return inconsistent("a candidate whose log is of a later term than its vote");
    }
    Ok(VoteRequest { vote, last_log_id, leadership_transfer: frame.leadership_transfer })
}

/// A vote reply as a frame.
#[must_use]
pub fn vote_reply_frame(response: &VoteResponse) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_to_frame(&response.vote)),
        granted: response.vote_granted,
        last_log: response.last_log_id.as_ref().map(log_id_frame),
    }
}

/// A vote reply from a frame.
///
/// # Errors
/// [`WireError::Missing`]: an answer without the voter's vote grants nothing.
pub fn vote_reply(frame: &pb::VoteReply) -> Result<VoteResponse, WireError> {
    Ok(VoteResponse {
        vote: vote(frame.vote.as_ref(), "VoteReply.vote")?,
        vote_granted: frame.granted,
        last_log_id: frame.last_log.as_ref().map(log_id).transpose()?,
    })
}

/// A leadership transfer as a frame.
#[must_use]
pub fn transfer_frame(request: &TransferRequest) -> pb::TransferLeader {
    pb::TransferLeader {
        from_leader: Some(vote_to_frame(request.from_leader())),
        to: *request.to_node_id(),
        last_log: request.last_log_id().map(log_id_frame),
    }
}

/// A leadership transfer from a frame.
///
/// # Errors
/// [`WireError`] if the leader's vote is missing or was never granted.
pub fn transfer_request(frame: &pb::TransferLeader) -> Result<TransferRequest, WireError> {
    let from = vote(frame.from_leader.as_ref(), "TransferLeader.from_leader")?;
    if !from.committed {
        return inconsistent("a leadership transfer by a vote that no quorum granted");
    }
    Ok(TransferRequest::new(from, frame.to, frame.last_log.as_ref().map(log_id).transpose()?))
}

/// A transfer's answer as a frame.
#[must_use]
pub fn transfer_reply_frame(response: &TransferResponse) -> pb::TransferLeaderReply {
    let result = match response {
        Ok(()) => Reply::Accepted(pb::TransferAccepted {}),
        Err(TransferRefusal::VoteChanged { expected, actual }) => {
            Reply::VoteChanged(pb::TransferVoteChanged {
                expected: Some(vote_to_frame(expected)),
                actual: Some(vote_to_frame(actual)),
            })
        }
        Err(TransferRefusal::LogNotFlushed { expected, actual }) => {
            Reply::LogNotFlushed(pb::TransferLogNotFlushed {
                expected: expected.as_ref().map(log_id_frame),
                actual: actual.as_ref().map(log_id_frame),
            })
        }
    };
    pb::TransferLeaderReply { result: Some(result) }
}

/// A transfer's answer from a frame.
///
/// # Errors
/// [`WireError::Missing`].
pub fn transfer_reply(frame: &pb::TransferLeaderReply) -> Result<TransferResponse, WireError> {
    Ok(match frame.result.as_ref().ok_or(WireError::Missing("TransferLeaderReply.result"))? {
        Reply::Accepted(_) => Ok(()),
        Reply::VoteChanged(v) => Err(TransferRefusal::VoteChanged {
            expected: vote(v.expected.as_ref(), "TransferVoteChanged.expected")?,
            actual: vote(v.actual.as_ref(), "TransferVoteChanged.actual")?,
        }),
        Reply::LogNotFlushed(l) => Err(TransferRefusal::LogNotFlushed {
            expected: l.expected.as_ref().map(log_id).transpose()?,
            actual: l.actual.as_ref().map(log_id).transpose()?,
        }),
    })
}
