//! `quorate verify`: are all replicas the same, and if not, where do they part?
//!
//! [`digests`] compares what every replica had computed at the same place in its group's log;
//! [`batches`] compares stored batches, read back from the disks. The first is cheap and covers
//! everything that was ever applied; the second finds what rotted since, and names the batch.

mod batches;
mod digests;

use serde::Serialize;

use self::{
    batches::Scan,
    digests::{Group, LogRange},
};
use super::nodes::{self, Node};
use crate::{
    args::{Global, VerifyArgs},
    exit::{Exit, Failure},
    output::{
        Output,
        table::{Align, Cell, Style, Table},
        units,
    },
    sdk,
};

/// What was found, with the field names of `--output json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Whether every replica was compared and all are the same.
    identical: bool,
    groups: Vec<GroupReport>,
    /// One sentence for each place where replicas part, or a disk holds something damaged.
    differences: Vec<String>,
    /// What could not be compared, and why.
    unanswered: Vec<String>,
    /// Only with `--deep`: what was read back from every replica.
    read_back: Option<ReadBack>,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    group: u32,
    log_index: u64,
    nodes: Vec<u64>,
    logs: usize,
    /// Of the majority.
    digest: String,
    identical: bool,
}

#[derive(Debug, Default, Serialize)]
struct ReadBack {
    logs: u64,
    batches: u64,
    records: u64,
}

/// Verifies.
///
/// # Errors
/// A group has no leader; stdout is gone.
pub async fn run(args: &VerifyArgs, global: &Global, output: Output) -> Result<Exit, Failure> {
    let client = sdk::client(global)?;
    let answers = nodes::ask_all(&client).await;
    let mut report = Report::default();
    for answer in &answers {
        if let Err(error) = &answer.status {
            let endpoint = sdk::short(answer.endpoint.as_str());
            report.unanswered.push(format!("{endpoint}: {}", sdk::plain(error.message())));
        }
    }
    let statuses = answers.iter().filter_map(|a| a.status.as_ref().ok());
    let mut groups: Vec<u32> = statuses.flat_map(|s| &s.groups).map(|g| g.group).collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.is_empty() {
        return Err(Failure::refused("no node answered")
            .advise("quorate status says why; check --endpoints"));
    }
    if let Some(only) = args.group {
        if !groups.contains(&only) {
            return Err(Failure::usage(format!("there is no group {only}; there are {groups:?}")));
        }
        groups = vec![only];
    }
    let replicas = nodes::answering(&client, &answers);
    let check = Check { client: &client, replicas: &replicas, deep: args.deep };
    for group in groups {
        check.group(group, &mut report).await?;
    }
    report.identical = report.differences.is_empty() && report.unanswered.is_empty();
    write(&report, output)?;
    Ok(match (report.differences.is_empty(), report.unanswered.is_empty()) {
        (false, _) => Exit::Differs,
        (true, false) => Exit::Refused,
        (true, true) => Exit::Ok,
    })
}

struct Check<'a> {
    client: &'a quorate_client::Client,
    replicas: &'a [Node],
    deep: bool,
}

impl Check<'_> {
    async fn group(&self, number: u32, report: &mut Report) -> Result<(), Failure> {
        let group = digests::collect(self.client, self.replicas, number).await?;
        report.unanswered.extend(group.unanswered.iter().cloned());
        let identical = group.is_identical();
        report.groups.push(GroupReport {
            group: number,
            log_index: group.log_index,
            nodes: group.digests.iter().map(|(node, _)| node.id).collect(),
            logs: group.majority().map_or(0, |d| d.logs.len()),
            digest: group.majority().map_or(String::new(), |d| units::hex(&d.digest)),
            identical,
        });
        if !identical {
            self.narrow_down(&group, report).await?;
        } else if self.deep {
            for log in group.common_logs() {
                self.read_back(&group, &log, report).await?;
            }
        }
        Ok(())
    }

    /// From "the digests differ" to the logs, and in each to the first batch.
    async fn narrow_down(&self, group: &Group, report: &mut Report) -> Result<(), Failure> {
        let found = report.differences.len();
        report.differences.extend(group.different_log_lists());
        for log in group.different_logs() {
            let before = report.differences.len();
            self.read_back(group, &log, report).await?;
            if report.differences.len() == before {
                report.differences.push(format!(
                    "log {}: {}; its records are the same everywhere, so what differs is what is \
                     kept about it (producers, epochs, times)",
                    log.name,
                    group.who_differs(&log)
                ));
            }
        }
        if report.differences.len() == found {
            report.differences.push(format!(
                "group {}: the digests at log index {} differ ({}), but no log of it does: what \
                 differs lies outside the logs",
                group.number,
                group.log_index,
                group.classes()
            ));
        }
        Ok(())
    }

    async fn read_back(
        &self,
        group: &Group,
        log: &LogRange,
        report: &mut Report,
    ) -> Result<(), Failure> {
        let nodes: Vec<&Node> = group.digests.iter().map(|(node, _)| node).collect();
        let scan = batches::scan(self.client, &nodes, group.number, log).await?;
        let Scan { batches, records, findings, unanswered } = scan;
        report.differences.extend(findings);
        report.unanswered.extend(unanswered);
        let sum = report.read_back.get_or_insert_default();
        sum.logs += 1;
        sum.batches += batches;
        sum.records += records;
        Ok(())
    }
}

fn write(report: &Report, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(report);
    }
    let mut text = table(report).render(output.color);
    if let Some(sum) = &report.read_back {
        text += &format!(
            "read back from every replica: {} logs, {} batches, {} records\n",
            units::grouped(sum.logs),
            units::grouped(sum.batches),
            units::grouped(sum.records)
        );
    }
    report.differences.iter().for_each(|line| text += &format!("DIFFERENT  {line}\n"));
    report.unanswered.iter().for_each(|line| text += &format!("NOT COMPARED  {line}\n"));
    output.print(&text)
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&[
        ("GROUP", Align::Right),
        ("LOG INDEX", Align::Right),
        ("NODES", Align::Left),
        ("LOGS", Align::Right),
        ("DIGEST", Align::Left),
        ("REPLICAS", Align::Left),
    ]);
    for group in &report.groups {
        let verdict = match (group.identical, group.nodes.len()) {
            (true, 0 | 1) => Cell::styled("nothing to compare", Style::Warn),
            (true, _) => Cell::styled("identical", Style::Good),
            (false, _) => Cell::styled("DIFFERENT", Style::Bad),
        };
        let nodes: Vec<String> = group.nodes.iter().map(ToString::to_string).collect();
        table.row(vec![
            group.group.into(),
            group.log_index.into(),
            nodes.join(",").into(),
            group.logs.into(),
            // Enough for a glance; JSON has all of it.
            group.digest.chars().take(16).collect::<String>().into(),
            verdict,
        ]);
    }
    table
}

/// "node 3", "nodes 1 and 2".
fn name_nodes(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match &ids[..] {
        [] => "no node".into(),
        [one] => format!("node {one}"),
        [all @ .., last] => format!("nodes {} and {last}", all.join(", ")),
    }
}

/// The values that nodes have, the most common first: who agrees with whom.
fn classes<T: PartialEq>(values: impl IntoIterator<Item = (u64, T)>) -> Vec<(T, Vec<u64>)> {
    let mut classes: Vec<(T, Vec<u64>)> = Vec::new();
    for (id, value) in values {
        match classes.iter_mut().find(|(v, _)| *v == value) {
            Some((_, ids)) => ids.push(id),
            None => classes.push((value, vec![id])),
        }
    }
    classes.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
    classes
}

/// Who has something else than the majority, in words; when there is no majority, who stands
/// where.
fn odd_ones<T: PartialEq>(values: impl IntoIterator<Item = (u64, T)>) -> String {
    let classes = classes(values);
    let total: usize = classes.iter().map(|(_, ids)| ids.len()).sum();
    match &classes[..] {
        [] | [_] => "all agree".into(),
        [(_, most), rest @ ..] if most.len() * 2 > total => {
            let mut odd: Vec<u64> = rest.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
            odd.sort_unstable();
            let verb = if odd.len() == 1 { "differs" } else { "differ" };
            format!("{} {verb} from {}", name_nodes(&odd), name_nodes(most))
        }
        all => {
            let sides: Vec<String> = all.iter().map(|(_, ids)| name_nodes(ids)).collect();
            format!("{} all differ from each other", sides.join(" / "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault() {
        let table: [(&[(u64, u8)], &str); 5] = [
            (&[(1, 7), (2, 7), (3, 7)], "all agree"),
            (&[(1, 7), (2, 8), (3, 7)], "node 2 differs from nodes 1 and 3"),
            (&[(1, 7), (2, 8), (3, 9)], "node 1 / node 2 / node 3 all differ from each other"),
            (&[(1, 7), (2, 8)], "node 1 / node 2 all differ from each other"),
            (
                &[(1, 7), (2, 8), (3, 7), (4, 9), (5, 7)],
                "nodes 2 and 4 differ from nodes 1, 3 and 5",
            ),
        ];
        for (values, want) in table {
            assert_eq!(odd_ones(values.iter().copied()), want, "{values:?}");
        }
    }

    #[test]
    fn the_table() {
        let group = |group, nodes: &[u64], identical| GroupReport {
            group,
            log_index: 1234,
            nodes: nodes.to_vec(),
            logs: 2,
            digest: "0123456789abcdef0123".into(),
            identical,
        };
        let groups =
            vec![group(0, &[1, 2, 3], true), group(1, &[1, 2, 3], false), group(2, &[1], true)];
        let report = Report { groups, ..Default::default() };
        let want = "\
GROUP  LOG INDEX  NODES  LOGS  DIGEST            REPLICAS
    0       1234  1,2,3     2  0123456789abcdef  identical
    1       1234  1,2,3     2  0123456789abcdef  DIFFERENT
    2       1234  1         2  0123456789abcdef  nothing to compare
";
        assert_eq!(table(&report).render(false), want);
    }
}
