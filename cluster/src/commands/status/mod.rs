//! `quorate status`.

mod document;
mod table;

use std::{io::IsTerminal, time::Duration};

use quorate_client::{Client, GroupStatus, StatusResponse};
use quorate_proto::v1::Role;

use super::nodes::{self, NodeAnswer};
use crate::{
    args::{Global, StatusArgs},
    exit::{Exit, Failure},
    output::Output,
    sdk,
};
use document::Document;
use table::table;

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

#[cfg(test)]
mod tests {
    use quorate_client::{DiskStatus, Endpoint, Error};
    use quorate_proto::{
        admin::v1::ForwardStatus,
        v1::{ErrorDetail, LeaderHint},
    };

    use super::*;

    pub fn up(id: u64, groups: &[(Role, u64, u64)]) -> NodeAnswer {
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

    pub fn down(id: u64) -> NodeAnswer {
        let message = "connection refused".into();
        NodeAnswer {
            endpoint: Endpoint::new(&format!("127.0.0.1:{}", 7100 + id)).unwrap(),
            status: Err(Error::from_detail(ErrorDetail { message, ..Default::default() })),
        }
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
