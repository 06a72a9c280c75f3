//! Waiting on conditions, with deadlines. A wait that ends without its condition says what it saw
//! last.

use std::{
    fmt,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use quorate_jepsen_core::ids::Node;
use quorate_proto::{admin::v1::StatusResponse, v1::Role};

use super::{Between, Cluster};
use crate::node_api::NodeApi;

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a healthy cluster may take to have a leader, or all replicas to catch up, on a slow and
/// busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The servers did not do what a healthy cluster does: a finding about them, not trouble of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy(pub String);

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unhealthy {}

/// Looks at a condition until it gives a value.
///
/// # Errors
/// It gave none in time; the message has the last reason.
pub async fn until<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut last = anyhow::anyhow!("no answer");
    loop {
        let left = within.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(LOOK_EVERY), look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => {}
        }
        if start.elapsed() >= within {
            return Err(last).with_context(|| format!("{what}: not within {within:?}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Who leads, and in which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The node.
    pub node: Node,
    /// Its term.
    pub term: u64,
}

impl Cluster {
    /// A node's own API.
    ///
    /// # Errors
    /// Its address is no URL.
    pub fn api(&self, node: Node) -> Result<NodeApi> {
        let from = match &self.settings.network {
            Between::Lab(lab) => Some(lab.observer()),
            _ => None,
        };
        NodeApi::from(node, &self.client_url(node), from)
    }

    async fn statuses(&mut self) -> Vec<(Node, Result<StatusResponse>)> {
        let mut statuses = Vec::new();
        for node in self.running() {
            let status = match self.api(node) {
                Ok(mut api) => api.status().await,
                Err(error) => Err(error),
            };
            statuses.push((node, status));
        }
        statuses
    }

    /// The leader of group 0 as of now: of the highest term, and with a quorum behind it.
    ///
    /// # Errors
    /// There is none, and what the nodes say instead.
    pub async fn leader(&mut self) -> Result<Leader> {
        let mut seen = Vec::new();
        let mut best: Option<Leader> = None;
        for (node, status) in self.statuses().await {
            let group = status.as_ref().ok().and_then(|status| status.groups.first().cloned());
            let Some(group) = group else {
                seen.push(format!("n{node}: {status:?}"));
                continue;
            };
            seen.push(format!("n{node}: {:?} of term {}", group.role(), group.term));
            let fresh = group.quorum_ack_age_ms.is_some_and(|age| age < 1000);
            if group.role() == Role::Leader
                && fresh
                && best.is_none_or(|leader| leader.term < group.term)
            {
                best = Some(Leader { node, term: group.term });
            }
        }
        best.with_context(|| format!("no leader: {}", seen.join(", ")))
    }

    /// Waits for a leader.
    ///
    /// # Errors
    /// None came up in time.
    pub async fn wait_leader(&mut self) -> Result<Leader> {
        let start = Instant::now();
        loop {
            match self.leader().await {
                Ok(leader) => return Ok(leader),
                Err(reason) if start.elapsed() > PATIENCE => {
                    return Err(Unhealthy(format!("{reason:#}")).into());
                }
                Err(_) => {}
            }
            self.nobody_died()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every node runs, follows one leader, and has applied what that leader had
    /// applied when this was called.
    ///
    /// # Errors
    /// They did not in time.
    pub async fn wait_converged(&mut self) -> Result<Leader> {
        let leader = self.wait_leader().await?;
        let start = Instant::now();
        let mut target = None;
        loop {
            let statuses = self.statuses().await;
            let applied: Vec<_> = statuses
                .iter()
                .map(|(node, status)| {
                    let group = status.as_ref().ok().and_then(|status| status.groups.first());
                    (*node, group.map(|group| (group.applied_index, group.last_log_index)))
                })
                .collect();
            let last = applied.iter().filter_map(|(_, at)| at.map(|at| at.1)).max();
            let target = *target.get_or_insert(last.unwrap_or_default());
            let everywhere = applied.iter().all(|(_, at)| at.is_some_and(|at| at.0 >= target));
            if everywhere && applied.len() == self.nodes().len() {
                return Ok(leader);
            }
            if start.elapsed() > PATIENCE {
                let what =
                    format!("replicas did not reach log index {target} in time: {applied:?}");
                return Err(Unhealthy(what).into());
            }
            self.nobody_died()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn nobody_died(&mut self) -> Result<()> {
        for node in self.nodes() {
            let exited = self.exited(node);
            if let Some(status) = exited {
                self.process(node).is_heard(status)?;
            }
            if let Some(status) = exited
                && !super::KILLED(status)
                && !status.success()
            {
                let log = self.log_of_last_life(node)?;
                let last = log.lines().last().unwrap_or_default().to_owned();
                let what = format!("node {node} ended by itself, {status}: {last}");
                return Err(Unhealthy(what).into());
            }
        }
        Ok(())
    }
}
