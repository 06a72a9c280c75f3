//! Between openraft's messages and the frames of `quorate.raft.v1`.
//!
//! Encoding consumes openraft's message and moves its payloads ([`bytes::Bytes`]), so nothing is
//! copied here. Decoding trusts nothing: whatever openraft would assert about a message (committed
//! vote of a leader, consecutive entries, terms that never run backwards) is checked first, because
//! there a violation is a panic and here it is a [`WireError`] for the peer that sent it.

mod append;
mod election;
mod ids;
mod membership;
mod snapshot;
#[cfg(test)]
mod tests;

pub use append::{
    append_frame, append_request, append_result, append_result_frame, frame_bytes, split_request,
};
pub use election::{
    transfer_frame, transfer_reply, transfer_reply_frame, transfer_request, vote_frame, vote_reply,
    vote_reply_frame, vote_request,
};
pub use ids::{log_id, log_id_frame, vote, vote_to_frame};
pub use snapshot::{snapshot_meta, snapshot_meta_bytes};

use crate::raft::types::TypeConfig;

/// A leader's entries, or its heartbeat.
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// What a follower made of an [`AppendRequest`]: the last log id known to match and be flushed, or
/// why it was refused.
pub type AppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
/// Why a follower refused an [`AppendRequest`].
pub type AppendRefusal = openraft::raft::StreamAppendError<TypeConfig>;
/// A candidate's request, real or pre-vote.
pub type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
/// Its answer.
pub type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
/// A leader hands over.
pub type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
/// Its answer.
pub type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
/// Why a handover was declined.
pub type TransferRefusal = openraft::raft::TransferLeaderError<TypeConfig>;

/// A frame that says something no correct peer says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Fields contradict each other or the protocol.
    #[error("{0}")]
    Inconsistent(String),
    /// Bytes inside a field (a membership, a snapshot's meta) do not decode.
    #[error("{what} does not decode: {why}")]
    Undecodable {
        /// Which field.
        what: &'static str,
        /// The decoder's words.
        why: String,
    },
}

fn inconsistent<T>(what: impl Into<String>) -> Result<T, WireError> {
    Err(WireError::Inconsistent(what.into()))
}
