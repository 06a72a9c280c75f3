//! `quorate status`.

use std::{io::IsTerminal, time::Duration};

use quorate_client::{Client, GroupStatus, StatusResponse};
use quorate_proto::v1::Role;
use serde::Serialize;

use super::{
    nodes::{self, NodeAnswer},
    read::role,
};
use crate::{
    args::{Global, StatusArgs},
    exit::{Exit, Failure},
    output::{
        Output,
        table::{Align, Cell, Style, Table},
        units,
    },
    sdk,
};

/// A node that is up answers at once; one that isn't must not hold up the table for long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Clears the terminal and what scrolled out of it.
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// Shows the status, once or again and again.
///
/// # Errors
/// Stdout is gone.
pub async fn run(args: &StatusArgs, global: &Global, output: Output) -> Result<Exit, Failure> {
    let client = sdk::client(global)?.with_timeout(global.timeout().min(PATIENCE));
    let Some(interval) = args.watch else { return once(&client, output, "").await };
    let clear = std::io::stdout().is_terminal() && !output.is_json();
    loop {
        once(&client, output, if clear { CLEAR } else { "" }).await?;
        tokio::time::sleep(interval).await;
    }
}

async fn once(client: &Client, output: Output, before: &str) -> Result<Exit, Failure> {
    let answers = nodes::ask_all(client).await;
    let healthy = trouble(&answers).is_empty();
    if output.is_json() {
        output.json(&Document::of(&answers))?;
    } else {
        let mut text = before.to_owned() + &table(&answers).render(output.color);
        trouble(&answers).iter().for_each(|line| text += &format!("! {line}\n"));
        output.print(&text)?;
    }
    Ok(if healthy { Exit::Ok } else { Exit::Refused })
}

/// What an operator should look at, one line each.
fn trouble(answers: &[NodeAnswer]) -> Vec<String> {
    let mut lines = Vec::new();
    let silent = answers.iter().filter(|a| a.status.is_err()).count();
    if silent > 0 {
        lines.push(format!("{silent} of {} nodes did not answer", answers.len()));
    }
    let up: Vec<&StatusResponse> = answers.iter().filter_map(|a| a.status.as_ref().ok()).collect();
    for status in up.iter().filter(|s| !s.out_of_service.is_empty()) {
        let reason = &status.out_of_service;
        lines.push(format!("node {} took itself out of service: {reason}", status.node_id));
    }
    for status in &up {
        if status.forward.as_ref().is_some_and(|f| f.breaker_open) {
            let id = status.node_id;
            lines.push(format!("node {id} forwards no reads: the last ones it forwarded failed"));
        }
    }
    let mut clusters: Vec<&[u8]> = up.iter().map(|s| &s.cluster_id[..]).collect();
    clusters.sort_unstable();
    clusters.dedup();
    if clusters.len() > 1 {
        lines.push(format!("these nodes belong to {} different clusters", clusters.len()));
    }
    for group in groups(&up) {
        if !up.iter().flat_map(|s| &s.groups).any(|g| g.group == group && leads(g)) {
            lines.push(format!("group {group} has no leader among the nodes that answered"));
        }
    }
    lines
}

fn groups(up: &[&StatusResponse]) -> Vec<u32> {
    let mut groups: Vec<u32> = up.iter().flat_map(|s| &s.groups).map(|g| g.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn leads(group: &GroupStatus) -> bool {
    group.role() == Role::Leader
}

/// How many entries `group`'s replica still has to apply of what is committed as far as any node
/// knows: a follower alone may not know yet.
fn lag(group: &GroupStatus, answers: &[NodeAnswer]) -> u64 {
    let all = answers.iter().filter_map(|a| a.status.as_ref().ok()).flat_map(|s| &s.groups);
    let committed = all.filter(|g| g.group == group.group).map(|g| g.commit_index).max();
    committed.unwrap_or(0).saturating_sub(group.applied_index)
}

fn table(answers: &[NodeAnswer]) -> Table {
    let mut table = Table::new(&[
        ("NODE", Align::Right),
        ("GROUP", Align::Right),
        ("ROLE", Align::Left),
        ("TERM", Align::Right),
        ("LAST", Align::Right),
        ("COMMIT", Align::Right),
        ("APPLIED", Align::Right),
        ("LAG", Align::Right),
        ("AGE", Align::Right),
        ("WORST", Align::Right),
        ("PROBE", Align::Right),
        ("SNAPSHOT", Align::Right),
        ("DISK", Align::Right),
        ("ADDRESS", Align::Left),
        ("LEADER", Align::Left),
    ]);
    for answer in answers {
        match &answer.status {
            Ok(status) => rows(status, answers, &mut table),
            Err(error) => {
                let text = format!(
                    "{}: {}",
                    sdk::short(answer.endpoint.as_str()),
                    sdk::plain(error.message())
                );
                table.spanning(vec!["-".into()], Cell::styled(text, Style::Bad));
            }
        }
    }
    for id in not_asked(answers) {
        let text = "not asked: its address is not among the --endpoints";
        table.spanning(vec![id.into()], Cell::styled(text, Style::Warn));
    }
    table
}

/// Members that the nodes name and that none of the answers came from; unless a node was silent,
/// which may be just that one.
fn not_asked(answers: &[NodeAnswer]) -> Vec<u64> {
    if answers.iter().any(|a| a.status.is_err()) {
        return Vec::new();
    }
    let up = || answers.iter().filter_map(|a| a.status.as_ref().ok());
    let members = up().flat_map(|s| &s.groups).flat_map(|g| g.voters.iter().chain(&g.learners));
    let mut members: Vec<u64> = members.copied().collect();
    members.sort_unstable();
    members.dedup();
    members.retain(|id| !up().any(|s| s.node_id == *id));
    members
}

fn rows(status: &StatusResponse, answers: &[NodeAnswer], table: &mut Table) {
    if status.groups.is_empty() {
        table.spanning(vec![status.node_id.into()], Cell::styled("serves no group", Style::Warn));
    }
    let disk = status.disk.as_ref().map_or(0, |d| d.log_bytes.saturating_add(d.state_bytes));
    for (i, group) in status.groups.iter().enumerate() {
        let role_style = match group.role() {
            Role::Leader => Style::Good,
            Role::Candidate | Role::Unspecified => Style::Warn,
            Role::Follower | Role::Learner => Style::Plain,
        };
        let lag = lag(group, answers);
        let leader = match &group.leader {
            Some(leader) => Cell::from(sdk::short(&leader.address)),
            None => Cell::styled("none", Style::Bad),
        };
        let snapshot = match group.snapshot_index {
            0 => Cell::from("-"),
            n => n.into(),
        };
        table.row(vec![
            Cell::styled(status.node_id.to_string(), Style::Bold),
            group.group.into(),
            Cell::styled(role(group.role()), role_style),
            group.term.into(),
            group.last_log_index.into(),
            group.commit_index.into(),
            group.applied_index.into(),
            Cell::styled(lag.to_string(), if lag == 0 { Style::Plain } else { Style::Warn }),
            age(group.age_ms.map(Duration::from_millis)),
            age(group.worst_age_ms.map(Duration::from_millis)),
            age(group.probe_us.map(Duration::from_micros)),
            snapshot,
            // The node's, so once a node.
            if i == 0 { units::bytes(disk).into() } else { Cell::default() },
            sdk::short(&status.client_address).into(),
            leader,
        ]);
    }
}

/// A proven age, or a probe's time.
fn age(age: Option<Duration>) -> Cell {
    age.map_or("-".into(), |age| units::duration(age).into())
}

#[derive(Serialize)]
struct Document<'a> {
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
    fn of(answers: &'a [NodeAnswer]) -> Self {
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

#[cfg(test)]
mod tests {
    use quorate_client::{DiskStatus, Endpoint, Error};
    use quorate_proto::{
        admin::v1::ForwardStatus,
        v1::{ErrorDetail, LeaderHint},
    };

    use super::*;

    fn up(id: u64, groups: &[(Role, u64, u64)]) -> NodeAnswer {
        let address = format!("http://127.0.0.1:{}", 7100 + id);
        let group = |(i, &(role, commit, applied)): (usize, &(Role, u64, u64))| GroupStatus {
            group: i as u32,
            role: role.into(),
            term: 3,
            leader: Some(LeaderHint {
                node_id: 1,
                address: "http://127.0.0.1:7101".into(),
                term: 3,
            }),
            last_log_index: commit,
            commit_index: commit,
            applied_index: applied,
            voters: vec![1, 2, 3],
            age_ms: Some(35),
            worst_age_ms: (role == Role::Leader).then_some(1250),
            probe_us: Some(480),
            ..Default::default()
        };
        let status = StatusResponse {
            node_id: id,
            client_address: address.clone(),
            groups: groups.iter().enumerate().map(group).collect(),
            disk: Some(DiskStatus {
                log_bytes: 1 << 20,
                state_bytes: 1 << 20,
                ..Default::default()
            }),
            ..Default::default()
        };
        NodeAnswer { endpoint: Endpoint::new(&address).unwrap(), status: Ok(status) }
    }

    fn down(id: u64) -> NodeAnswer {
        let message = "connection refused".into();
        NodeAnswer {
            endpoint: Endpoint::new(&format!("127.0.0.1:{}", 7100 + id)).unwrap(),
            status: Err(Error::from_detail(ErrorDetail { message, ..Default::default() })),
        }
    }

    #[test]
    fn a_row_a_replica_and_one_for_who_is_silent() {
        let two = [(Role::Leader, 1200, 1200), (Role::Follower, 7, 7)];
        let answers =
            [up(1, &two), up(2, &[(Role::Follower, 1190, 1150), (Role::Leader, 8, 8)]), down(3)];
        let want = "\
NODE  GROUP  ROLE      TERM  LAST  COMMIT  APPLIED  LAG      AGE   WORST   PROBE  SNAPSHOT      DISK  ADDRESS         LEADER
   1      0  leader       3  1200    1200     1200    0  35.0 ms  1.25 s  480 µs         -  2.00 MiB  127.0.0.1:7101  127.0.0.1:7101
   1      1  follower     3     7       7        7    1  35.0 ms       -  480 µs         -            127.0.0.1:7101  127.0.0.1:7101
   2      0  follower     3  1190    1190     1150   50  35.0 ms       -  480 µs         -  2.00 MiB  127.0.0.1:7102  127.0.0.1:7101
   2      1  leader       3     8       8        8    0  35.0 ms  1.25 s  480 µs         -            127.0.0.1:7102  127.0.0.1:7101
   -  127.0.0.1:7103: connection refused
";
        assert_eq!(table(&answers).render(false), want);
        assert_eq!(trouble(&answers), ["1 of 3 nodes did not answer"]);
    }

    #[test]
    fn members_nobody_asked() {
        let follower = [(Role::Follower, 1, 1)];
        assert_eq!(not_asked(&[up(2, &follower)]), [1, 3]);
        assert_eq!(not_asked(&[up(2, &follower), down(1)]), [0; 0]);
        assert_eq!(not_asked(&[up(1, &follower), up(2, &follower), up(3, &follower)]), [0; 0]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let followers = [(Role::Follower, 1, 1)];
        assert_eq!(trouble(&[up(1, &[(Role::Leader, 1, 1)]), up(2, &followers)]), [""; 0]);
        assert_eq!(
            trouble(&[up(1, &followers), up(2, &followers)]),
            ["group 0 has no leader among the nodes that answered"]
        );
        let mut wary = up(1, &[(Role::Leader, 1, 1)]);
        let forward = ForwardStatus { breaker_open: true, ..Default::default() };
        wary.status.as_mut().unwrap().forward = Some(forward);
        assert_eq!(
            trouble(&[wary]),
            ["node 1 forwards no reads: the last ones it forwarded failed"]
        );
        let mut sick = up(1, &[(Role::Leader, 1, 1)]);
        let mut foreign = up(2, &followers);
        sick.status.as_mut().unwrap().out_of_service = "disk is full".into();
        foreign.status.as_mut().unwrap().cluster_id = vec![1].into();
        assert_eq!(
            trouble(&[sick, foreign]),
            [
                "node 1 took itself out of service: disk is full",
                "these nodes belong to 2 different clusters"
            ]
        );
    }
}
