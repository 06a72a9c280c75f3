//! What the operator's side asks of a running node: is it ready, who leads, and the values that
//! metrics read when they are scraped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::parts::{GroupParts, Parts};
use crate::{
    api::context::Context,
    gate::Gate,
    log_store::LogStore,
    observe::{
        health::{self, GroupFacts, GroupLag, GroupLeader, Health, NotReady},
        metrics::sources::{
            AdmissionSample, ForwardSample, GroupSample, LogStoreSample, ReadSample,
            Role as RoleLabel, Sources,
        },
    },
    peer::stats::PeerStats,
    raft::group::Role,
    read::forward::MAX_FORWARDED,
};

/// A probe that takes longer is as bad as none for who asks whether a replica is fresh: well below
/// what load balancers wait for an answer.
const CHECK_PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Vitals {
    groups: Vec<GroupParts>,
    /// By group: the leader last seen, and how often that changed.
    leaders: Vec<(AtomicU64, AtomicU64)>,
    context: Arc<Context>,
    log_store: LogStore,
    peer_stats: Arc<PeerStats>,
    gate: Gate,
    /// Older contact than this is none.
    max_contact_age: Duration,
    /// A replica has to keep within its bound for this long before `/replica` says so.
    probation: Duration,
}

impl Vitals {
    pub(super) fn of(parts: &Parts) -> Self {
        let election = Duration::from_millis(parts.config.raft.election_max_ms);
        Self {
            groups: parts.groups.clone(),
            leaders: parts.groups.iter().map(|_| Default::default()).collect(),
            context: parts.context.clone(),
            log_store: parts.log_store.clone(),
            peer_stats: parts.peer_stats.clone(),
            gate: parts.gate.clone(),
            max_contact_age: election * 2,
            probation: Duration::from_secs(parts.config.reads.probation_s),
        }
    }

    fn facts(&self, parts: &GroupParts) -> GroupFacts {
        let v = parts.group.vitals();
        let me = self.context.node_id;
        let known = v.voters.len() + v.learners.len() > 0;
        GroupFacts {
            removed: known && !v.voters.contains(&me) && !v.learners.contains(&me),
            role: RoleLabel::of(&v),
            leader_known: v.leader.is_some(),
            contact_age: match v.role {
                Role::Leader => v.quorum_ack_age,
                _ => parts.contact.age(),
            },
            commit_index: v.commit_index,
            applied_index: v.applied_index,
        }
    }
}

impl Health for Vitals {
    fn not_ready(&self) -> Vec<NotReady> {
        if self.gate.is_closed() {
            return vec![NotReady { group: None, why: "shutting down".to_owned() }];
        }
        self.groups
            .iter()
            .filter_map(|parts| {
                let why = health::assess(&self.facts(parts), self.max_contact_age).err()?;
                Some(NotReady { group: Some(parts.group.id), why })
            })
            .collect()
    }

    async fn lags(&self, bound: Duration) -> Vec<GroupLag> {
        let checks = self.groups.iter().map(|parts| async {
            let group = parts.group.id;
            let freshener = self.context.sides(group).reader.freshener();
            let now = freshener.check(group, bound, CHECK_PATIENCE).await;
            GroupLag { group, now, worst: now }
        });
        futures::future::join_all(checks).await
    }

    async fn probation(&self, bound: Duration) -> Vec<GroupLag> {
        let checks = self.groups.iter().map(|parts| async {
            let group = parts.group.id;
            let freshener = self.context.sides(group).reader.freshener();
            let lag = freshener.probation(group, bound, CHECK_PATIENCE, self.probation).await;
            GroupLag { group, now: lag.now, worst: lag.worst }
        });
        futures::future::join_all(checks).await
    }

    fn leaders(&self) -> Vec<GroupLeader> {
        self.groups
            .iter()
            .map(|parts| {
                let v = parts.group.vitals();
                GroupLeader {
                    group: parts.group.id,
                    term: v.term,
                    leads_here: v.role == Role::Leader,
                    leader: v.leader.map(|l| (l.id, l.client_address)),
                }
            })
            .collect()
    }
}

impl Sources for Vitals {
    fn groups(&self) -> Vec<GroupSample> {
        self.groups
            .iter()
            .zip(&self.leaders)
            .map(|(parts, (seen, changes))| {
                let v = parts.group.vitals();
                let leader = v.leader.as_ref().map(|l| l.id);
                // Counted at each scrape: a change that came and went in between is not seen; the
                // term tells.
                if let Some(id) = leader
                    && seen.swap(id, Ordering::Relaxed) != id
                {
                    changes.fetch_add(1, Ordering::Relaxed);
                }
                let store = parts.group.store();
                let bytes = vec![
                    ("disk", store.approximate_disk_bytes()),
                    ("memtable", store.memtable_bytes()),
                ];
                let freshener = self.context.sides(parts.group.id).reader.freshener();
                let reads = ReadSample {
                    age: freshener.age(parts.group.id, v.applied_index),
                    worst_age: freshener.worst_age(parts.group.id),
                    probe: freshener.round_trip(parts.group.id),
                    recent_bytes: parts.group.recent().bytes() as u64,
                };
                let changes = changes.load(Ordering::Relaxed);
                GroupSample::of(parts.group.id, v, changes, reads, bytes)
            })
            .collect()
    }

    fn admission(&self) -> AdmissionSample {
        AdmissionSample {
            in_flight_bytes: self.context.admission.in_flight_bytes(),
            limit_bytes: self.context.admission.limit_bytes(),
        }
    }

    fn forward(&self) -> ForwardSample {
        let limits = self.context.forwarder.limits();
        ForwardSample {
            in_flight: limits.in_flight() as u64,
            limit: MAX_FORWARDED as u64,
            breaker_open: limits.is_open(),
        }
    }

    fn log_store(&self) -> LogStoreSample {
        LogStoreSample::of(&self.log_store)
    }

    fn peers(&self) -> &PeerStats {
        &self.peer_stats
    }
}
