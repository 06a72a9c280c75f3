//! The status for people: a row a replica, and one for each node that is silent or was not asked.

use std::time::Duration;

use quorate_client::StatusResponse;
use quorate_proto::v1::Role;

use super::{
    super::{nodes::NodeAnswer, read::role},
    lag,
};
use crate::{
    output::{
        table::{Align, Cell, Style, Table},
        units,
    },
    sdk,
};

/// All of it.
pub(super) fn table(answers: &[NodeAnswer]) -> Table {
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

#[cfg(test)]
mod tests {
    use super::{
        super::{
            tests::{down, up},
            trouble,
        },
        *,
    };

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
}
