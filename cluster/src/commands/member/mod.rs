//! `quorate member`: who is in the cluster.
//!
//! Each group is a Raft group of its own, so every change is made group by group, by `groups`,
//! through the leader of each. What was done for one group stays done: a command that was
//! interrupted, or failed half-way, is run again and goes on where it was.

mod groups;

use std::time::Duration;

use serde::Serialize;

use self::groups::{Change, Group};
use super::nodes;
use crate::{
    args::{AddArgs, Global, LeadArgs, MemberCommand, RemoveArgs, ReplaceArgs},
    exit::Failure,
    output::{
        Output,
        table::{Align, Cell, Style, Table},
    },
    sdk,
};

/// Runs the command.
///
/// # Errors
/// The cluster's refusal; no leader in time.
pub async fn run(command: &MemberCommand, global: &Global, output: Output) -> Result<(), Failure> {
    match command {
        MemberCommand::List(_) => list(global, output).await,
        MemberCommand::Add(args) => add(args, global, output).await,
        MemberCommand::Remove(args) => remove(args, global, output).await,
        MemberCommand::Replace(args) => replace(args, global, output).await,
        MemberCommand::Lead(args) => lead(args, global, output).await,
    }
}

async fn groups(global: &Global, output: Output) -> Result<Vec<Group>, Failure> {
    let client = sdk::client(global)?;
    let answers = nodes::ask_all(&client).await;
    let up = answers.iter().filter_map(|answer| answer.status.as_ref().ok());
    let mut numbers: Vec<u32> = up.flat_map(|s| &s.groups).map(|g| g.group).collect();
    numbers.sort_unstable();
    numbers.dedup();
    if numbers.is_empty() {
        return Err(Failure::refused("no node answered")
            .advise("quorate status says why; check --endpoints"));
    }
    let timeout = global.timeout();
    Ok(numbers.into_iter().map(|n| Group::new(n, client.clone(), timeout, output)).collect())
}

#[derive(Serialize)]
struct Row {
    group: u32,
    node: u64,
    voter: bool,
    leader: bool,
    peer: String,
    client: String,
}

#[derive(Serialize)]
struct Document {
    /// Groups in which a change is half done.
    changing: Vec<u32>,
    members: Vec<Row>,
}

async fn list(global: &Global, output: Output) -> Result<(), Failure> {
    let mut document = Document { changing: Vec::new(), members: Vec::new() };
    for group in groups(global, output).await? {
        let leader = group.leader().await?;
        if leader.members.changing {
            document.changing.push(group.number);
        }
        document.members.extend(leader.members.nodes.into_iter().map(|member| Row {
            group: group.number,
            node: member.node_id,
            voter: member.voter,
            leader: member.node_id == leader.id,
            peer: member.peer_address,
            client: member.client_address,
        }));
    }
    if output.is_json() {
        return output.json(&document);
    }
    let mut table = Table::new(&[
        ("GROUP", Align::Right),
        ("NODE", Align::Right),
        ("ROLE", Align::Left),
        ("PEERS AT", Align::Left),
        ("CLIENTS AT", Align::Left),
    ]);
    for row in &document.members {
        let role = match (row.leader, row.voter) {
            (true, _) => Cell::styled("leader", Style::Good),
            (false, true) => Cell::from("voter"),
            (false, false) => Cell::styled("learner", Style::Dim),
        };
        table.row(vec![
            row.group.into(),
            row.node.into(),
            role,
            (&row.peer).into(),
            (&row.client).into(),
        ]);
    }
    let mut text = table.render(output.color);
    for group in &document.changing {
        text += &format!(
            "! group {group}: a change is half done; run the command that began it again\n"
        );
    }
    output.print(&text)
}

async fn add(args: &AddArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let groups = groups(global, output).await?;
    for group in &groups {
        group.add_learner(args.id, &args.node.peer, &args.node.client).await?;
    }
    for group in &groups {
        group.wait_until_caught_up(args.id, args.node.patience).await?;
        if !args.learner {
            group.change(&Change { promote: Some(args.id), remove: None }).await?;
        }
    }
    let what = if args.learner { "a learner" } else { "a voter" };
    done(output, args.id, &groups, &format!("is {what} in"))
}

async fn remove(args: &RemoveArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let groups = groups(global, output).await?;
    for group in &groups {
        group.change(&Change { promote: None, remove: Some(args.id) }).await?;
    }
    done(output, args.id, &groups, "is gone from")
}

async fn replace(args: &ReplaceArgs, global: &Global, output: Output) -> Result<(), Failure> {
    if args.old == args.new {
        return Err(Failure::usage("a node can't replace itself")
            .advise("a lost disk needs a new node id: one that was never used"));
    }
    let groups = groups(global, output).await?;
    for group in &groups {
        group.add_learner(args.new, &args.node.peer, &args.node.client).await?;
    }
    for group in &groups {
        group.wait_until_caught_up(args.new, args.node.patience).await?;
        group.change(&Change { promote: Some(args.new), remove: Some(args.old) }).await?;
    }
    done(output, args.new, &groups, &format!("is in the place of node {} in", args.old))
}

async fn lead(args: &LeadArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let mut groups = groups(global, output).await?;
    if let Some(only) = args.group {
        let last = groups.len() - 1;
        groups.retain(|group| group.number == only);
        if groups.is_empty() {
            return Err(Failure::usage(format!("there is no group {only}; the last is {last}")));
        }
    }
    for group in &groups {
        group.hand_over(Some(args.id)).await?;
    }
    done(output, args.id, &groups, "leads")
}

fn done(output: Output, node: u64, groups: &[Group], what: &str) -> Result<(), Failure> {
    let numbers: Vec<u32> = groups.iter().map(|group| group.number).collect();
    if output.is_json() {
        return output.json(&serde_json::json!({ "node": node, "groups": numbers }));
    }
    let list: Vec<String> = numbers.iter().map(u32::to_string).collect();
    let noun = if list.len() == 1 { "group" } else { "groups" };
    output.print(&format!("node {node} {what} {noun} {}\n", list.join(", ")))
}

/// Between two looks at something that takes its time.
const LOOK_EVERY: Duration = Duration::from_millis(200);
