//! Asks whom it takes for proofs: one question on its way to each, for all groups that are due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use quorate_state_machine::{
    planted,
    types::{LogIndex, Term},
};

use super::{
    ReadFailure,
    evidence::{Shared, Slot},
    freshness::Ticket,
};
use crate::{
    peer::{probe, transport::PeerAddress},
    raft::types::NodeId,
    runtime,
};

/// After a probe that failed: a group without a leader must not be asked in a tight loop.
const RETRY: Duration = Duration::from_millis(20);

/// Who is asked: this node's own quorum, or a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Own,
    Peer(NodeId),
    Nobody,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let busy: Arc<Mutex<BTreeSet<Target>>> = Arc::default();
    loop {
        let now = shared.clock.boot();
        let mut due: BTreeMap<Target, Vec<u32>> = BTreeMap::new();
        let mut next: Option<Duration> = None;
        for (number, slot) in shared.slots.iter().enumerate() {
            match slot.due(now) {
                Some(Duration::ZERO) => {
                    due.entry(target(slot)).or_default().push(number as u32);
                }
                Some(wait) => next = Some(next.map_or(wait, |n| n.min(wait))),
                None => {}
            }
        }
        for (target, groups) in due {
            // One on its way: when it ends it wakes us, and what is due then goes with the next.
            if !busy.lock().unwrap_or_else(PoisonError::into_inner).insert(target) {
                continue;
            }
            let (shared, busy) = (shared.clone(), busy.clone());
            runtime::spawn(async move {
                let failed = probe(&shared, target, &groups).await;
                if failed {
                    runtime::sleep(RETRY).await;
                }
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&target);
                shared.wake.notify_one();
            });
        }
        match next {
            // A wake-up that comes first is as good.
            Some(wait) => drop(runtime::timeout(wait, shared.wake.notified()).await),
            None => shared.wake.notified().await,
        }
    }
}

fn target(slot: &Slot) -> Target {
    match slot.group.leader_address() {
        None => Target::Nobody,
        Some((id, _)) if id == slot.group.node_id() => Target::Own,
        Some((id, _)) => Target::Peer(id),
    }
}

/// Probes, and tells everybody who waits. True if any group got no proof.
async fn probe(shared: &Shared, target: Target, groups: &[u32]) -> bool {
    let slots: Vec<&Slot> = groups.iter().map(|g| &shared.slots[*g as usize]).collect();
    // Before anything leaves this node.
    let tickets: Vec<Ticket> =
        slots.iter().map(|slot| slot.current().probe(shared.clock.boot())).collect();
    let answers: Vec<Result<(LogIndex, Term), ReadFailure>> = match target {
        Target::Nobody => vec![Err(ReadFailure::NotLeader(None)); slots.len()],
        Target::Own => {
            let rounds = slots.iter().map(|slot| async {
                if planted::is("no_leadership_confirmation") {
                    let vitals = slot.group.vitals();
                    return Ok((vitals.commit_index, vitals.term));
                }
                let point = slot.indexer.read_index().await?;
                Ok((point.index, point.term))
            });
            futures::future::join_all(rounds).await
        }
        Target::Peer(_) => ask_peer(shared, groups, &slots).await,
    };
    let now = shared.clock.boot();
    let failed = answers.iter().any(Result::is_err);
    for ((slot, ticket), answer) in slots.iter().zip(tickets).zip(answers) {
        slot.finish(ticket, answer, now);
    }
    failed
}

async fn ask_peer(
    shared: &Shared,
    groups: &[u32],
    slots: &[&Slot],
) -> Vec<Result<(LogIndex, Term), ReadFailure>> {
    // The leader may have changed since the target was chosen.
    let leader = slots[0].group.leader();
    let nobody = |_: &&Slot| Err(ReadFailure::NotLeader(None));
    let Some((id, address)) = slots[0].group.leader_address() else {
        return slots.iter().map(nobody).collect();
    };
    let to = PeerAddress { node_id: id, address };
    let nonce = shared.nonce.fetch_add(1, Ordering::Relaxed);
    match shared.client.probe(&to, nonce, groups.to_vec(), probe::TIMEOUT).await {
        Ok(answers) => {
            let mut answers: BTreeMap<u32, _> = answers.into_iter().collect();
            groups
                .iter()
                .map(|group| match answers.remove(group) {
                    Some(Ok(read)) => Ok((LogIndex(read.read_index), Term(read.term))),
                    Some(Err(refusal)) if refusal.leader.is_some() => {
                        Err(ReadFailure::NotLeader(leader.clone()))
                    }
                    Some(Err(_)) | None => Err(ReadFailure::NoQuorum),
                })
                .collect()
        }
        Err(error) => {
            tracing::debug!(peer = id, %error, "a read probe failed");
            slots.iter().map(|_| Err(ReadFailure::NoQuorum)).collect()
        }
    }
}
