//! A snapshot's meta: what it covers and who the members were.

use bytes::Bytes;

use super::{WireError, inconsistent, membership};
use crate::raft::types::alias::{RaftLogId, SnapshotMeta, Vote};

/// Serializes a snapshot's meta.
#[must_use]
pub fn snapshot_meta_bytes(meta: &SnapshotMeta) -> Bytes {
    // Maps with integer keys and plain structs: cannot fail.
    serde_json::to_vec(meta).expect("a snapshot meta serializes").into()
}

/// Reads a snapshot's meta and checks it against the leader's vote, because openraft panics on a
/// snapshot that no leader could have sent. Also returns the log id it ends with.
///
/// # Errors
/// [`WireError`] if it does not decode, covers nothing, ends beyond the leader's term, or carries
/// an impossible membership.
pub fn snapshot_meta(bytes: &[u8], vote: &Vote) -> Result<(SnapshotMeta, RaftLogId), WireError> {
    let meta: SnapshotMeta = serde_json::from_slice(bytes)
        .map_err(|e| WireError::Undecodable { what: "snapshot meta", why: e.to_string() })?;
    if !vote.committed {
        return inconsistent("a snapshot sent with a vote that no quorum granted");
    }
    let Some(last) = meta.last_log_id else {
        return inconsistent("a snapshot that covers no entry");
    };
    if last.leader_id.term > vote.leader_id.term {
        return inconsistent(format!(
            "a snapshot up to {last}, which is of a later term than its leader's, {}",
            vote.leader_id.term
        ));
    }
    membership::check(meta.last_membership.membership())?;
    if meta.last_membership.log_id().is_some_and(|at| at.index > last.index) {
        return inconsistent("a snapshot whose membership is newer than its last entry");
    }
    Ok((meta, last))
}
