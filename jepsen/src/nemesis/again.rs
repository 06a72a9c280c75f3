//! What is done again and again while a fault is on.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    fault::Fault,
    inject::{Ongoing, stop},
    rot,
};
use crate::{cluster::Cluster, record::Recorder};

/// Between two hand-overs.
const TRANSFER_EVERY: Duration = Duration::from_millis(700);

/// Between two snapshots of a leader that is to purge its log.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// So long a node stays away at most, until it needs a snapshot.
const PURGE_WITHIN: Duration = Duration::from_secs(30);

impl Ongoing {
    /// To be called now and then while the fault is on, for faults that are done bit by bit.
    ///
    /// # Errors
    /// Something that should have worked did not.
    pub async fn go_on(&mut self, cluster: &mut Cluster, recorder: &Recorder) -> Result<()> {
        match &self.fault {
            Fault::BitRot { .. } if rot::look_again(self.met) => {
                let mut met = rot::Met::default();
                for node in &self.hit {
                    met += rot::look(cluster, *node, recorder).await?;
                }
                self.met = Some(met);
            }
            Fault::Transfer => {
                if self.repeated.is_some_and(|last| last.elapsed() < TRANSFER_EVERY) {
                    return Ok(());
                }
                let leader = cluster.wait_leader().await?;
                let others: Vec<_> =
                    cluster.nodes().into_iter().filter(|node| *node != leader.node).collect();
                let to = others[leader.term as usize % others.len()];
                // Refused while the target lags behind: next time, then.
                if cluster.api(leader.node)?.transfer_leader(0, to).await.is_ok() {
                    self.before += 1;
                }
                self.repeated = Some(Instant::now());
            }
            Fault::RollingRestart if self.repeated.is_none() => {
                for node in cluster.nodes() {
                    stop(cluster, node).await?;
                    cluster.start_node(node)?;
                    cluster.wait_converged().await?;
                    self.before += 1;
                }
                self.repeated = Some(Instant::now());
            }
            Fault::FallBehind { .. } if !self.down.is_empty() => {
                if self.repeated.is_some_and(|last| last.elapsed() < SNAPSHOT_EVERY) {
                    return Ok(());
                }
                self.purge(cluster).await?;
                self.repeated = Some(Instant::now());
            }
            Fault::Snapshot if self.repeated.is_none() => {
                for node in cluster.nodes() {
                    cluster.api(node)?.trigger_snapshot(0).await?;
                    self.before += 1;
                }
                self.repeated = Some(Instant::now());
            }
            _ => {}
        }
        Ok(())
    }

    /// Has the leader purge its log, and starts who is away once it lacks what was purged.
    async fn purge(&mut self, cluster: &mut Cluster) -> Result<()> {
        let leader = cluster.wait_leader().await?.node;
        let mut api = cluster.api(leader)?;
        api.trigger_snapshot(0).await?;
        let purged = api.status().await?.groups.first().map(|group| group.purged_index);
        if purged.is_some_and(|purged| purged > self.log_end) {
            for node in std::mem::take(&mut self.down) {
                cluster.start_node(node)?;
            }
        }
        Ok(())
    }

    /// A slow cluster has not appended enough in the time that was drawn for it: goes on until it has.
    pub(super) async fn leave_behind(&mut self, cluster: &mut Cluster) -> Result<()> {
        let end = Instant::now() + PURGE_WITHIN;
        while !self.down.is_empty() && Instant::now() < end {
            self.purge(cluster).await?;
            tokio::time::sleep(SNAPSHOT_EVERY).await;
        }
        Ok(())
    }
}
