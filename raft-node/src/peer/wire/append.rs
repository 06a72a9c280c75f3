//! AppendEntries, both directions.

use bytes::Bytes;
use openraft::EntryPayload;
use prost::Message;
use quorate_proto::raft::v1::{self as pb, EntryKind, append_reply_frame::Result as Reply};

use super::{
    AppendRefusal, AppendRequest, AppendResult, WireError,
    ids::{log_id, log_id_frame, vote, vote_to_frame},
    inconsistent, membership,
};
use crate::raft::types::{
    EntryData,
    alias::{Entry, RaftLogId},
};

/// A request as a frame of one of the sender's sessions; `seq` is set by the lane. A heartbeat
/// travels inside a control frame, which names both ends, and needs no identity of its own.
#[must_use]
pub fn append_frame(
    identity: Option<pb::Identity>,
    session: u64,
    request: AppendRequest,
) -> pb::AppendFrame {
    pb::AppendFrame {
        identity,
        seq: 0,
        vote: Some(vote_to_frame(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id_frame),
        commit: request.leader_commit.as_ref().map(log_id_frame),
        entries: request.entries.into_iter().map(entry_frame).collect(),
        session,
    }
}

/// Cuts a request into requests of at most `max_bytes` of entries each (one entry may be larger),
/// which together mean the same: each continues behind the last entry of the one before.
#[must_use]
pub fn split_request(request: AppendRequest, max_bytes: usize) -> Vec<AppendRequest> {
    let size = |e: &Entry| match &e.payload {
        EntryPayload::Normal(data) => data.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    if request.entries.iter().map(size).sum::<usize>() <= max_bytes {
        return vec![request];
    }
    let AppendRequest { vote, mut prev_log_id, leader_commit, entries } = request;
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    let mut finish = |part: Vec<Entry>, last: RaftLogId| {
        let prev = prev_log_id.replace(last);
        parts.push(AppendRequest { vote, prev_log_id: prev, leader_commit, entries: part });
    };
    for entry in entries {
        if !part.is_empty() && bytes + size(&entry) > max_bytes {
            let full: Vec<Entry> = std::mem::take(&mut part);
            let last = full.last().expect("only a part with entries is finished").log_id;
            finish(full, last);
            bytes = 0;
        }
        bytes += size(&entry);
        part.push(entry);
    }
    if let Some(last) = part.last().map(|e| e.log_id) {
        finish(part, last);
    }
    parts
}

/// A request from a frame.
///
/// # Errors
/// [`WireError`] if a field is missing, the vote is not a leader's, the entries do not follow
/// `prev` one by one, or a term runs backwards or beyond the leader's.
pub fn append_request(frame: pb::AppendFrame) -> Result<AppendRequest, WireError> {
    let vote = vote(frame.vote.as_ref(), "AppendFrame.vote")?;
    if !vote.committed {
        return inconsistent("AppendEntries with a vote that no quorum granted");
    }
    let prev_log_id = frame.prev.as_ref().map(log_id).transpose()?;
    let leader_commit = frame.commit.as_ref().map(log_id).transpose()?;
    let mut last = prev_log_id;
    let mut entries = Vec::with_capacity(frame.entries.len());
    for frame in frame.entries {
        let entry = entry(frame)?;
        follows(last, entry.log_id)?;
        last = Some(entry.log_id);
        entries.push(entry);
    }
    for id in [last, leader_commit].into_iter().flatten() {
        if id.leader_id.term > vote.leader_id.term {
            return inconsistent(format!(
                "log id {id} is of a later term than its leader's, {}",
                vote.leader_id.term
            ));
        }
    }
    Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
}

fn follows(last: Option<RaftLogId>, next: RaftLogId) -> Result<(), WireError> {
    // Decoded indexes are far below overflow (see `ids`).
    if next.index != last.map_or(0, |last| last.index + 1) {
        return inconsistent(format!("entry {next} does not follow {last:?}"));
    }
    if last.is_some_and(|last| last.leader_id.term > next.leader_id.term) {
        return inconsistent(format!("the term runs backwards from {last:?} to {next}"));
    }
    Ok(())
}

fn entry_frame(entry: Entry) -> pb::Entry {
    let (kind, payload) = match entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Normal(data) => (EntryKind::Normal, data.0),
        EntryPayload::Membership(m) => (EntryKind::Membership, membership::encode(&m)),
    };
    pb::Entry {
        term: entry.log_id.leader_id.term,
        index: entry.log_id.index,
        kind: kind.into(),
        payload,
    }
}

fn entry(frame: pb::Entry) -> Result<Entry, WireError> {
    let log_id = log_id(&pb::RaftLogId { term: frame.term, index: frame.index })?;
    let payload = match frame.kind() {
        EntryKind::Blank if frame.payload.is_empty() => EntryPayload::Blank,
        EntryKind::Blank => return inconsistent(format!("blank entry {log_id} has a payload")),
        EntryKind::Normal => EntryPayload::Normal(EntryData(frame.payload)),
        EntryKind::Membership => EntryPayload::Membership(membership::decode(&frame.payload)?),
        EntryKind::Unspecified => {
            return inconsistent(format!("entry {log_id} is of unknown kind {}", frame.kind));
        }
    };
    Ok(Entry { log_id, payload })
}

/// A follower's result as a reply frame.
#[must_use]
pub fn append_result_frame(
    identity: Option<pb::Identity>,
    seq: u64,
    result: &AppendResult,
) -> pb::AppendReplyFrame {
    let result = match result {
        Ok(matched) => Reply::Ok(pb::AppendOk { matched: matched.as_ref().map(log_id_frame) }),
        Err(AppendRefusal::Conflict(at)) => Reply::Conflict(log_id_frame(at)),
        Err(AppendRefusal::HigherVote(vote)) => Reply::HigherVote(vote_to_frame(vote)),
    };
    pb::AppendReplyFrame { identity, seq, result: Some(result) }
}

/// What a follower answered: its result, or the error frame it sent instead.
///
/// # Errors
/// [`WireError`] if the reply has no result.
pub fn append_result(
    frame: &pb::AppendReplyFrame,
) -> Result<Result<AppendResult, pb::PeerError>, WireError> {
    match frame.result.as_ref().ok_or(WireError::Missing("AppendReplyFrame.result"))? {
        Reply::Ok(ok) => Ok(Ok(Ok(ok.matched.as_ref().map(log_id).transpose()?))),
        Reply::Conflict(at) => Ok(Ok(Err(AppendRefusal::Conflict(log_id(at)?)))),
        Reply::HigherVote(v) => {
            Ok(Ok(Err(AppendRefusal::HigherVote(vote(Some(v), "AppendReplyFrame.higher_vote")?))))
        }
        Reply::Error(error) => Ok(Err(error.clone())),
    }
}

/// Bytes this frame takes in memory and on the wire, for the windows.
#[must_use]
pub fn frame_bytes(frame: &pb::AppendFrame) -> usize {
    frame.encoded_len()
}
