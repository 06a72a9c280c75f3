//! What is sent is what arrives, nothing is copied, and no bytes of a peer make this panic.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::{
    EntryPayload, Membership, StoredMembership,
    vote::leader_id_std::{CommittedLeaderId, LeaderId},
};
use proptest::{collection::vec, option, prelude::*};
use prost::Message;
use quorate_proto::raft::v1 as pb;

use super::*;
use crate::raft::types::{
    EntryData, NodeAddress,
    alias::{Entry, RaftLogId, SnapshotMeta, Vote},
};

fn a_vote(term: u64, node: u64, committed: bool) -> Vote {
    Vote { leader_id: LeaderId { term, voted_for: node }, committed }
}

fn id(term: u64, index: u64) -> RaftLogId {
    RaftLogId::new(CommittedLeaderId::new(term), index)
}

fn members(ids: &[u64]) -> Membership<u64, NodeAddress> {
    let nodes: BTreeMap<_, _> = ids
        .iter()
        .map(|id| (*id, NodeAddress { peer: format!("p{id}"), client: format!("c{id}") }))
        .collect();
    Membership::new(vec![ids.iter().copied().collect::<BTreeSet<_>>()], nodes).unwrap()
}

fn entry_of(at: RaftLogId, payload: Option<Vec<u8>>) -> Entry {
    let payload = match payload {
        None => EntryPayload::Blank,
        Some(bytes) if bytes.first() == Some(&b'm') => {
            EntryPayload::Membership(members(&[1, 2, 3]))
        }
        Some(bytes) => EntryPayload::Normal(EntryData(bytes.into())),
    };
    Entry { log_id: at, payload }
}

prop_compose! {
    fn requests()(
        prev in option::of((0u64..50, 0u64..1000)),
        steps in vec((0u64..2, option::of(vec(any::<u8>(), 0..64))), 0..20),
        commit in option::of((0u64..50, 0u64..1000)),
        node in any::<u64>(),
    ) -> AppendRequest {
        let prev = prev.map(|(term, index)| id(term, index));
        let (mut term, mut index) = prev.map_or((0, 0), |p| (p.leader_id.term, p.index + 1));
        let mut entries = Vec::new();
        for (step, payload) in steps {
            term += step;
            entries.push(entry_of(id(term, index), payload));
            index += 1;
        }
        let term = term.max(50);
        AppendRequest {
            vote: a_vote(term, node, true),
            prev_log_id: prev,
            entries,
            leader_commit: commit.map(|(term, index)| id(term, index)),
        }
    }
}

/// Through bytes, as on the wire.
fn over_the_wire<M: Message + Default>(message: &M) -> M {
    M::decode(Bytes::from(message.encode_to_vec())).unwrap()
}

fn frame_of(request: AppendRequest) -> pb::AppendFrame {
    append_frame(Some(pb::Identity::default()), 7, request)
}

fn same(a: &AppendRequest, b: &AppendRequest) -> bool {
    a.vote == b.vote
        && a.prev_log_id == b.prev_log_id
        && a.leader_commit == b.leader_commit
        && a.entries == b.entries
}

proptest! {
    #[test]
    fn requests_arrive_as_sent(request in requests()) {
        let back = append_request(over_the_wire(&frame_of(request.clone()))).unwrap();
        prop_assert!(same(&request, &back), "{request:?} became {back:?}");
    }

    #[test]
    fn a_split_request_means_the_same(request in requests(), max in 0usize..200) {
        let mut joined: Option<AppendRequest> = None;
        for part in split_request(request.clone(), max) {
            let size: usize = part.entries.iter().map(|e| match &e.payload {
                EntryPayload::Normal(d) => d.0.len(),
                _ => 0,
            }).sum();
            prop_assert!(size <= max || part.entries.len() == 1);
            // Each part is a legal request of its own.
            prop_assert!(append_request(frame_of(part.clone())).is_ok());
            match &mut joined {
                None => joined = Some(part),
                Some(joined) => {
                    prop_assert_eq!(part.prev_log_id, joined.entries.last().map(|e| e.log_id));
                    joined.entries.extend(part.entries);
                }
            }
        }
        prop_assert!(same(&request, &joined.unwrap()));
    }

    /// Decoders of every message, fed with noise and with valid messages that have a few bytes
    /// changed: any answer but a panic.
    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        decode_everything(&bytes.into());
    }

    #[test]
    fn damaged_requests_never_panic(
        request in requests(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = frame_of(request).encode_to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        decode_everything(&bytes.into());
    }

    #[test]
    fn any_numbers_never_panic(
        numbers in vec(prop_oneof![any::<u64>(), 0u64..3, Just(u64::MAX)], 8..=8),
        kind in -1..5i32,
        committed in any::<bool>(),
        payload in vec(any::<u8>(), 0..30),
    ) {
        let n = |i: usize| numbers[i];
        let vote = pb::Vote { term: n(0), node_id: n(1), committed };
        let entries = vec![pb::Entry { term: n(2), index: n(3), kind, payload: payload.into() }];
        let prev = Some(pb::RaftLogId { term: n(4), index: n(5) });
        let commit = Some(pb::RaftLogId { term: n(6), index: n(7) });
        let frame = pb::AppendFrame { vote: Some(vote), prev, commit, entries, ..Default::default() };
        if let Ok(request) = append_request(frame) {
            // What is accepted satisfies what openraft takes for granted.
            let at = request.entries[0].log_id;
            prop_assert_eq!(at.index, request.prev_log_id.unwrap().index + 1);
            prop_assert!(at.leader_id.term <= request.vote.leader_id.term);
            prop_assert!(request.vote.committed);
        }
        let frame = pb::VoteRequest { vote: Some(vote), last_log: prev, leadership_transfer: committed };
        if let Ok(request) = vote_request(&frame) {
            prop_assert!(!request.vote.committed);
        }
    }
}

fn decode_everything(bytes: &Bytes) {
    if let Ok(frame) = pb::AppendFrame::decode(bytes.clone()) {
        let _ = append_request(frame);
    }
    if let Ok(frame) = pb::AppendReplyFrame::decode(bytes.clone()) {
        let _ = append_result(&frame);
    }
    if let Ok(frame) = pb::VoteRequest::decode(bytes.clone()) {
        let _ = vote_request(&frame);
    }
    if let Ok(frame) = pb::VoteReply::decode(bytes.clone()) {
        let _ = vote_reply(&frame);
    }
    if let Ok(frame) = pb::TransferLeader::decode(bytes.clone()) {
        let _ = transfer_request(&frame);
    }
    if let Ok(frame) = pb::TransferLeaderReply::decode(bytes.clone()) {
        let _ = transfer_reply(&frame);
    }
    let _ = snapshot_meta(bytes, &a_vote(5, 1, true));
}

#[test]
fn payloads_are_moved_not_copied() {
    let payload = Bytes::from(vec![7u8; 100_000]);
    let entries =
        vec![Entry { log_id: id(1, 0), payload: EntryPayload::Normal(EntryData(payload.clone())) }];
    let request =
        AppendRequest { vote: a_vote(1, 1, true), prev_log_id: None, entries, leader_commit: None };
    let frame = frame_of(request);
    assert_eq!(frame.entries[0].payload.as_ptr(), payload.as_ptr());
    // The receiver's payload is a slice of the message it came in.
    let message = Bytes::from(frame.encode_to_vec());
    let range = message.as_ptr_range();
    let back = append_request(pb::AppendFrame::decode(message).unwrap()).unwrap();
    let EntryPayload::Normal(data) = &back.entries[0].payload else { panic!("{back:?}") };
    assert!(range.contains(&data.0.as_ptr()));
}

#[test]
fn results_arrive_as_sent() {
    let table: [AppendResult; 5] = [
        Ok(None),
        Ok(Some(id(3, 9))),
        Err(AppendRefusal::Conflict(id(2, 0))),
        Err(AppendRefusal::HigherVote(a_vote(8, 2, false))),
        Err(AppendRefusal::HigherVote(a_vote(8, 2, true))),
    ];
    for result in table {
        let frame = append_result_frame(None, 4, &result);
        assert_eq!(append_result(&over_the_wire(&frame)), Ok(Ok(result)));
    }
    let error = pb::PeerError { kind: 2, message: "stopped".to_owned(), reason: 0 };
    let result = Some(pb::append_reply_frame::Result::Error(error.clone()));
    let frame = pb::AppendReplyFrame { result, ..Default::default() };
    assert_eq!(append_result(&frame), Ok(Err(error)));
}

#[test]
fn elections_arrive_as_sent() {
    for leadership_transfer in [false, true] {
        let last_log_id = Some(id(3, 4));
        let request = VoteRequest { vote: a_vote(4, 2, false), last_log_id, leadership_transfer };
        assert_eq!(vote_request(&over_the_wire(&vote_frame(&request))), Ok(request));
    }
    for vote_granted in [false, true] {
        let last_log_id = None;
        let reply = VoteResponse { vote: a_vote(4, 2, false), vote_granted, last_log_id };
        assert_eq!(vote_reply(&over_the_wire(&vote_reply_frame(&reply))), Ok(reply));
    }
    let request = TransferRequest::new(a_vote(4, 1, true), 3, Some(id(4, 9)));
    assert_eq!(transfer_request(&over_the_wire(&transfer_frame(&request))), Ok(request));
    let table: [TransferResponse; 3] = [
        Ok(()),
        Err(TransferRefusal::VoteChanged {
            expected: a_vote(4, 1, true),
            actual: a_vote(5, 2, false),
        }),
        Err(TransferRefusal::LogNotFlushed { expected: Some(id(4, 9)), actual: None }),
    ];
    for reply in table {
        assert_eq!(transfer_reply(&over_the_wire(&transfer_reply_frame(&reply))), Ok(reply));
    }
}

/// Each of these would be an assertion, or worse, inside openraft.
#[test]
fn impossible_requests_are_refused() {
    let good = || {
        let entries = vec![entry_of(id(2, 5), None), entry_of(id(3, 6), Some(b"x".to_vec()))];
        frame_of(AppendRequest {
            vote: a_vote(3, 1, true),
            prev_log_id: Some(id(2, 4)),
            entries,
            leader_commit: Some(id(2, 4)),
        })
    };
    assert!(append_request(good()).is_ok());
    type Spoil = fn(&mut pb::AppendFrame);
    let table: [(&str, Spoil); 15] = [
        ("no vote", |f| f.vote = None),
        ("no quorum", |f| f.vote.as_mut().unwrap().committed = false),
        ("entries of a later term", |f| f.vote.as_mut().unwrap().term = 2),
        ("prev of a later term", |f| f.prev.as_mut().unwrap().term = 4),
        ("commit of a later term", |f| f.commit.as_mut().unwrap().term = 4),
        ("a gap behind prev", |f| f.prev.as_mut().unwrap().index = 3),
        ("a gap between entries", |f| f.entries[1].index = 7),
        ("an index twice", |f| f.entries[1].index = 5),
        ("not from the start", |f| f.prev = None),
        ("term runs backwards", |f| f.entries[1].term = 1),
        ("unknown kind", |f| f.entries[0].kind = 9),
        ("no kind", |f| f.entries[0].kind = 0),
        ("a blank with content", |f| f.entries[0].payload = Bytes::from_static(b"x")),
        ("index overflow", |f| {
            f.prev.as_mut().unwrap().index = u64::MAX;
            f.entries.clear();
        }),
        ("term overflow", |f| f.vote.as_mut().unwrap().term = u64::MAX),
    ];
    for (name, spoil) in table {
        let mut frame = good();
        spoil(&mut frame);
        assert!(append_request(frame).is_err(), "{name} was accepted");
    }
}

#[test]
fn impossible_memberships_are_refused() {
    let ok = r#"{"configs":[[1]],"nodes":{"1":{"peer":"a","client":"b"}}}"#;
    let no_voters = r#"{"configs":[],"nodes":{}}"#;
    let empty = r#"{"configs":[[1],[]],"nodes":{"1":{"peer":"a","client":"b"}}}"#;
    let homeless = r#"{"configs":[[1,2]],"nodes":{"1":{"peer":"a","client":"b"}}}"#;
    let frame = |json: &'static str| {
        let mut frame = frame_of(AppendRequest {
            vote: a_vote(1, 1, true),
            prev_log_id: None,
            entries: vec![entry_of(id(0, 0), Some(b"m".to_vec()))],
            leader_commit: None,
        });
        frame.entries[0].payload = Bytes::from_static(json.as_bytes());
        frame
    };
    assert!(append_request(frame(ok)).is_ok());
    for json in [no_voters, empty, homeless, "", "{", "[]"] {
        assert!(append_request(frame(json)).is_err(), "{json} was accepted");
    }
}

#[test]
fn impossible_snapshots_are_refused() {
    let meta = |last, members_at: Option<RaftLogId>, members| SnapshotMeta {
        last_log_id: last,
        last_membership: StoredMembership::new(members_at, members),
    };
    let leader = a_vote(3, 1, true);
    let good = meta(Some(id(3, 9)), Some(id(1, 1)), members(&[1, 2]));
    assert_eq!(snapshot_meta(&snapshot_meta_bytes(&good), &leader), Ok((good.clone(), id(3, 9))));
    assert!(snapshot_meta(&snapshot_meta_bytes(&good), &a_vote(3, 1, false)).is_err());
    assert!(snapshot_meta(&snapshot_meta_bytes(&good), &a_vote(2, 1, true)).is_err());
    let table = [
        meta(None, None, members(&[1])),
        meta(Some(id(3, 9)), Some(id(3, 10)), members(&[1])),
        meta(Some(id(3, 9)), None, Membership::default()),
    ];
    for bad in table {
        assert!(snapshot_meta(&snapshot_meta_bytes(&bad), &leader).is_err(), "{bad:?}");
    }
}
