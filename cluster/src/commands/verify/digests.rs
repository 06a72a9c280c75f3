//! What every replica had computed at one place in its group's log.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use quorate_client::{Client, DigestAtResponse, LogDigest, MarkDigestResponse};

use super::{classes, name_nodes, odd_ones};
use crate::{commands::nodes::Node, exit::Failure};

/// While there is an election, and only then, a marker is worth another try.
const PAUSE: Duration = Duration::from_millis(200);

/// One group's replicas at one marker.
pub struct Group {
    /// Which.
    pub number: u32,
    /// Where the marker is.
    pub log_index: u64,
    /// Each replica's digests there.
    pub digests: Vec<(Node, DigestAtResponse)>,
    /// Replicas that could not say, and why.
    pub unanswered: Vec<String>,
}

/// A log, and the offsets of it that every replica should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// Its name.
    pub name: String,
    /// Which log of that name.
    pub incarnation: u64,
    /// First offset.
    pub from: u64,
    /// One past the last.
    pub to: u64,
}

/// Marks a place in `group`'s log and asks every replica for its digests there. Waits, up to the
/// client's timeout, until each has applied that far.
///
/// # Errors
/// Nobody leads the group.
pub async fn collect(client: &Client, nodes: &[Node], group: u32) -> Result<Group, Failure> {
    let mark = mark(client, nodes, group).await?;
    let asked = nodes
        .iter()
        .map(|node| async move { (node, node.admin.digest_at(group, mark.log_index).await) });
    let mut digests = Vec::new();
    let mut unanswered = Vec::new();
    for (node, answer) in join_all(asked).await {
        match answer {
            Ok(digest) => digests.push((node.clone(), digest)),
            Err(error) => unanswered.push(format!("group {group}, node {}: {error}", node.id)),
        }
    }
    Ok(Group { number: group, log_index: mark.log_index, digests, unanswered })
}

/// Asks the nodes one after the other until the leader has taken the marker.
async fn mark(client: &Client, nodes: &[Node], group: u32) -> Result<MarkDigestResponse, Failure> {
    let deadline = tokio::time::Instant::now() + client.timeout();
    loop {
        let mut last = None;
        for node in nodes {
            match node.admin.mark_digest(group).await {
                Ok(mark) => return Ok(mark),
                Err(error) => last = Some(error),
            }
        }
        let Some(error) = last else { return Err(Failure::refused("no node answered")) };
        if !error.is_retryable() || tokio::time::Instant::now() + PAUSE > deadline {
            // A marker that may be there all the same harms nothing.
            return Err(Failure::refused(format!("group {group} takes no marker: {error}"))
                .advise("quorate status shows whether it has a leader"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Group {
    /// Whether all replicas that answered have the same digest.
    pub fn is_identical(&self) -> bool {
        classes(self.by_node(|d| (&d.digest, &d.logs))).len() <= 1
    }

    /// The digests that most replicas have.
    pub fn majority(&self) -> Option<&DigestAtResponse> {
        let most = classes(self.by_node(|d| &d.digest)).into_iter().next()?.1;
        self.digests.iter().find(|(node, _)| most.contains(&node.id)).map(|(_, d)| d)
    }

    /// Who agrees with whom.
    pub fn classes(&self) -> String {
        odd_ones(self.by_node(|d| &d.digest))
    }

    fn by_node<'a, T>(
        &'a self,
        of: impl Fn(&'a DigestAtResponse) -> T + 'a,
    ) -> impl Iterator<Item = (u64, T)> + 'a {
        self.digests.iter().map(move |(node, d)| (node.id, of(d)))
    }

    /// Logs by incarnation, each with what the replicas say of it.
    fn logs(&self) -> BTreeMap<u64, Vec<(u64, &LogDigest)>> {
        let mut logs: BTreeMap<u64, Vec<(u64, &LogDigest)>> = BTreeMap::new();
        for (node, digest) in &self.digests {
            for log in &digest.logs {
                logs.entry(log.incarnation).or_default().push((node.id, log));
            }
        }
        logs
    }

    /// Logs that some replicas don't have at all, a sentence each.
    pub fn different_log_lists(&self) -> Vec<String> {
        let missing = |holders: &[(u64, &LogDigest)]| -> Vec<u64> {
            let has = |id: u64| holders.iter().any(|(h, _)| *h == id);
            self.digests.iter().map(|(n, _)| n.id).filter(|id| !has(*id)).collect()
        };
        let partial = self.logs().into_values().map(|h| (missing(&h), h[0].1.name.clone()));
        partial
            .filter(|(missing, _)| !missing.is_empty())
            .map(|(missing, name)| format!("log {name} does not exist on {}", name_nodes(&missing)))
            .collect()
    }

    /// Logs that every replica has, but not with the same content.
    pub fn different_logs(&self) -> Vec<LogRange> {
        self.shared_logs(|holders| holders.windows(2).any(|w| w[0].1 != w[1].1))
    }

    /// Logs that every replica has.
    pub fn common_logs(&self) -> Vec<LogRange> {
        self.shared_logs(|_| true)
    }

    fn shared_logs(&self, wanted: impl Fn(&[(u64, &LogDigest)]) -> bool) -> Vec<LogRange> {
        let logs = self.logs().into_values();
        logs.filter(|holders| holders.len() == self.digests.len() && wanted(holders))
            .map(|holders| LogRange {
                name: holders[0].1.name.clone(),
                incarnation: holders[0].1.incarnation,
                from: holders.iter().map(|(_, l)| l.start_offset).min().unwrap_or(0),
                to: holders.iter().map(|(_, l)| l.next_offset).max().unwrap_or(0),
            })
            .collect()
    }

    /// Which replicas' digest of `log` is the odd one.
    pub fn who_differs(&self, log: &LogRange) -> String {
        odd_ones(self.logs().remove(&log.incarnation).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use quorate_client::Endpoint;

    use super::*;

    fn log(name: &str, incarnation: u64, next: u64, digest: u8) -> LogDigest {
        LogDigest {
            name: name.into(),
            incarnation,
            start_offset: 2,
            next_offset: next,
            digest: vec![digest].into(),
        }
    }

    fn group(replicas: &[(u8, &[LogDigest])]) -> Group {
        let client = Client::builder().endpoints(["127.0.0.1:1"]).build().unwrap();
        let admin = client.admin(&Endpoint::new("127.0.0.1:1").unwrap());
        let replica = |(i, (digest, logs)): (usize, &(u8, &[LogDigest]))| {
            let id = i as u64 + 1;
            let answer = DigestAtResponse {
                node_id: id,
                log_index: 9,
                digest: vec![*digest].into(),
                logs: logs.to_vec(),
            };
            (Node { id, admin: admin.clone() }, answer)
        };
        let digests = replicas.iter().enumerate().map(replica).collect();
        Group { number: 0, log_index: 9, digests, unanswered: vec![] }
    }

    #[test]
    fn the_same_everywhere() {
        let logs = [log("a", 5, 10, 1)];
        let g = group(&[(7, &logs), (7, &logs), (7, &logs)]);
        assert!(g.is_identical());
        assert_eq!(g.different_logs(), []);
        let range = LogRange { name: "a".into(), incarnation: 5, from: 2, to: 10 };
        assert_eq!(g.common_logs(), [range]);
    }

    #[test]
    fn narrowed_down_to_the_log() {
        let good = [log("a", 5, 10, 1), log("b", 6, 20, 1)];
        let odd = [log("a", 5, 10, 1), log("b", 6, 21, 2)];
        let g = group(&[(7, &good), (8, &odd), (7, &good)]);
        assert!(!g.is_identical());
        assert_eq!(g.classes(), "node 2 differs from nodes 1 and 3");
        let range = LogRange { name: "b".into(), incarnation: 6, from: 2, to: 21 };
        assert_eq!(g.different_logs(), std::slice::from_ref(&range));
        assert_eq!(g.who_differs(&range), "node 2 differs from nodes 1 and 3");
        assert_eq!(g.different_log_lists(), [""; 0]);
        assert_eq!(g.majority().unwrap().digest[0], 7);
    }

    #[test]
    fn a_log_that_is_missing() {
        let both = [log("a", 5, 10, 1), log("b", 6, 20, 1)];
        let g = group(&[(7, &both), (7, &both), (8, &both[..1])]);
        assert_eq!(g.different_log_lists(), ["log b does not exist on node 3"]);
        assert_eq!(g.different_logs(), []);
    }
}
