//! What a fault really did: one that was installed and did nothing shows nothing.

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{
    fault::Fault,
    inject::{Ongoing, STOP_WITHIN},
};
use crate::cluster::{Cluster, FrozenThreads, KILLED, PATIENCE, Unhealthy, until};

/// What a fault came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// How much of it was seen to happen, in units of its kind; 0: it was not really there.
    pub count: u64,
    /// In words.
    pub what: String,
}

impl Ongoing {
    pub(super) async fn effect(&mut self, cluster: &mut Cluster) -> Result<Effect> {
        let (count, what) = match &self.fault {
            Fault::Kill { .. } | Fault::KillAll | Fault::PowerAll => {
                (self.down.len() as u64, "processes killed")
            }
            Fault::Pause { .. } => {
                let stopped = self.hit.iter().map(|node| cluster.is_stopped(*node));
                let stopped = stopped.collect::<Result<Vec<_>>>()?;
                (stopped.iter().filter(|stopped| **stopped).count() as u64, "processes stopped")
            }
            Fault::StallApply { .. } => {
                let standing = self.frozen.iter().map(FrozenThreads::standing).sum::<usize>();
                (standing as u64, "threads stood still")
            }
            Fault::ClockJump { .. } | Fault::FastClock { .. } => {
                let mut wrong = 0;
                for node in &self.hit {
                    let pid = cluster.pid(*node)?;
                    wrong += u64::from(cluster.clock(*node)?.governs(pid)?);
                }
                (wrong, "nodes had wrong clocks")
            }
            Fault::FallBehind { .. } => {
                let mut installed = 0;
                for node in self.hit.iter().filter(|node| !self.down.contains(node)) {
                    installed += u64::from(skipped(cluster, *node, self.log_end).await);
                }
                (installed, "snapshots installed")
            }
            Fault::SyncError { .. } | Fault::DiskFull { .. } | Fault::BitFlip { .. } => {
                for node in self.hit.clone() {
                    let status = cluster.wait_exit(node, PATIENCE).await.map_err(|why| {
                        let kind = self.fault.kind();
                        Unhealthy(format!("n{node} met {kind} and went on: {why:#}"))
                    })?;
                    if KILLED(status) || status.success() {
                        let kind = self.fault.kind();
                        let what = format!("n{node} met {kind} and ended by {status}");
                        return Err(Unhealthy(what).into());
                    }
                    self.down.push(node);
                }
                (self.down.len() as u64, "processes stopped themselves")
            }
            Fault::Transfer => (self.before, "hand-overs"),
            Fault::RollingRestart => (self.before, "restarts"),
            Fault::Snapshot => (self.before, "snapshots"),
            Fault::BitRot { .. } => {
                let met = self.met.unwrap_or_default();
                return Ok(Effect { count: met.count(), what: met.in_words() });
            }
            // Known only when it has ended.
            Fault::Member { .. } => (0, "changes of members"),
            fault => {
                let what = match fault {
                    Fault::Partition { .. } => "calls held or reset",
                    Fault::ReplyLoss { .. } => "replies held",
                    Fault::SlowDisk { .. } => "slow writes and syncs",
                    Fault::QuickRestart { .. } => "slow writes and syncs before it was killed",
                    Fault::StallDisk { .. } => "writes and syncs hung",
                    _ => "chunks delayed",
                };
                (self.measure(cluster)?.saturating_sub(self.before), what)
            }
        };
        Ok(Effect { count, what: format!("{count} {what}") })
    }

    /// What links and disks have counted so far, of what this fault does.
    pub(super) fn measure(&self, cluster: &Cluster) -> Result<u64> {
        let mut sum = 0;
        let traffic = match self.links.as_slice() {
            [] => Vec::new(),
            links => cluster.network()?.traffic(links)?,
        };
        for traffic in traffic {
            sum += match &self.fault {
                Fault::Partition { .. } => traffic.held_calls + traffic.reset,
                Fault::ReplyLoss { .. } => traffic.held_replies,
                _ => traffic.delayed,
            };
        }
        if let Fault::SlowDisk { .. } | Fault::StallDisk { .. } | Fault::QuickRestart { .. } =
            &self.fault
        {
            for node in &self.hit {
                sum += u64::from(cluster.disk(*node)?.done()?);
            }
        }
        Ok(sum)
    }
}

/// Whether a node got to where its log begins behind what it had: only by a snapshot.
async fn skipped(cluster: &Cluster, node: Node, log_end: u64) -> bool {
    let look = || async move {
        let status = cluster.api(node)?.status().await?;
        let group = status.groups.first().context("a node without a group")?;
        ensure!(group.purged_index > log_end, "its log goes back to {}", group.purged_index);
        Ok(())
    };
    until("a snapshot to be installed", STOP_WITHIN, look).await.is_ok()
}
