//! The status for programs: what `--output json` prints.

use quorate_client::{GroupStatus, StatusResponse};
use serde::Serialize;

use super::{
    super::{nodes::NodeAnswer, read::role},
    lag, trouble,
};
use crate::output::units;

/// All of it.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    healthy: bool,
    trouble: Vec<String>,
    nodes: Vec<NodeView<'a>>,
}

#[derive(Serialize)]
struct NodeView<'a> {
    endpoint: &'a str,
    error: Option<&'a str>,
    #[serde(flatten)]
    status: Option<StatusView<'a>>,
}

#[derive(Serialize)]
struct StatusView<'a> {
    node_id: u64,
    cluster_id: String,
    version: &'a str,
    uptime_ms: u64,
    client_address: &'a str,
    peer_address: &'a str,
    out_of_service: Option<&'a str>,
    inflight_bytes: u64,
    inflight_limit_bytes: u64,
    forward: Option<ForwardView>,
    reads: Vec<ReadsView<'a>>,
    disk: Option<DiskView<'a>>,
    groups: Vec<GroupView<'a>>,
}

#[derive(Serialize)]
struct ForwardView {
    in_flight: u64,
    limit: u64,
    breaker_open: bool,
}

#[derive(Serialize)]
struct ReadsView<'a> {
    level: &'a str,
    outcome: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct DiskView<'a> {
    data_dir: &'a str,
    log_bytes: u64,
    state_bytes: u64,
    free_bytes: u64,
    durability: &'a str,
}

#[derive(Serialize)]
struct GroupView<'a> {
    group: u32,
    role: &'static str,
    term: u64,
    leader_id: Option<u64>,
    leader_address: Option<&'a str>,
    last_log_index: u64,
    commit_index: u64,
    applied_index: u64,
    lag: u64,
    purged_index: u64,
    snapshot_index: u64,
    logs: u64,
    quorum_ack_age_ms: Option<u64>,
    age_ms: Option<u64>,
    worst_age_ms: Option<u64>,
    probe_us: Option<u64>,
    voters: &'a [u64],
    learners: &'a [u64],
    digest: String,
}

impl<'a> Document<'a> {
    pub(super) fn of(answers: &'a [NodeAnswer]) -> Self {
        let trouble = trouble(answers);
        let nodes = answers.iter().map(|a| NodeView {
            endpoint: a.endpoint.as_str(),
            error: a.status.as_ref().err().map(|e| e.message()),
            status: a.status.as_ref().ok().map(|s| status_view(s, answers)),
        });
        Self { healthy: trouble.is_empty(), trouble, nodes: nodes.collect() }
    }
}

fn status_view<'a>(s: &'a StatusResponse, answers: &[NodeAnswer]) -> StatusView<'a> {
    StatusView {
        node_id: s.node_id,
        cluster_id: units::hex(&s.cluster_id),
        version: &s.version,
        uptime_ms: s.uptime_ms,
        client_address: &s.client_address,
        peer_address: &s.peer_address,
        out_of_service: (!s.out_of_service.is_empty()).then_some(&s.out_of_service),
        inflight_bytes: s.inflight_bytes,
        inflight_limit_bytes: s.inflight_limit_bytes,
        forward: s.forward.as_ref().map(|f| ForwardView {
            in_flight: f.in_flight,
            limit: f.limit,
            breaker_open: f.breaker_open,
        }),
        reads: s
            .reads
            .iter()
            .map(|r| ReadsView { level: &r.level, outcome: &r.outcome, count: r.count })
            .collect(),
        disk: s.disk.as_ref().map(|d| DiskView {
            data_dir: &d.data_dir,
            log_bytes: d.log_bytes,
            state_bytes: d.state_bytes,
            free_bytes: d.free_bytes,
            durability: &d.durability,
        }),
        groups: s.groups.iter().map(|g| group_view(g, lag(g, answers))).collect(),
    }
}

fn group_view(g: &GroupStatus, lag: u64) -> GroupView<'_> {
    GroupView {
        group: g.group,
        role: role(g.role()),
        term: g.term,
        leader_id: g.leader.as_ref().map(|l| l.node_id),
        leader_address: g.leader.as_ref().map(|l| l.address.as_str()),
        last_log_index: g.last_log_index,
        commit_index: g.commit_index,
        applied_index: g.applied_index,
        lag,
        purged_index: g.purged_index,
        snapshot_index: g.snapshot_index,
        logs: g.logs,
        quorum_ack_age_ms: g.quorum_ack_age_ms,
        age_ms: g.age_ms,
        worst_age_ms: g.worst_age_ms,
        probe_us: g.probe_us,
        voters: &g.voters,
        learners: &g.learners,
        digest: units::hex(&g.digest),
    }
}
