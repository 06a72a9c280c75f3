//! Doing a fault to a cluster, undoing it, and saying what it really did.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use quorate_jepsen_core::ids::Node;

use super::fault::{Fault, Target};
use crate::{
    cluster::{Cluster, KILLED, PATIENCE},
    disk,
    network::{Caller, Condition, Gate},
};

/// A fault that is on.
#[derive(Debug)]
pub struct Ongoing {
    fault: Fault,
    /// Whom it hit, for people and for coverage.
    pub hit: Vec<Node>,
    /// Whether the leader of the moment was among them.
    pub hit_leader: bool,
    links: Vec<(Caller, Node)>,
    before: u64,
    down: Vec<Node>,
    repeated: Option<Instant>,
}

/// What a fault came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// How much of it was seen to happen, in units of its kind; 0: it was not really there.
    pub count: u64,
    /// In words.
    pub what: String,
}

/// Between two hand-overs.
const TRANSFER_EVERY: Duration = Duration::from_millis(700);

/// A node may take so long to stop by itself.
const STOP_WITHIN: Duration = Duration::from_secs(30);

impl Ongoing {
    /// Installs a fault.
    ///
    /// # Errors
    /// It cannot be installed. That is an error of the run, never a fault that was skipped.
    pub async fn begin(cluster: &mut Cluster, fault: Fault) -> Result<Self> {
        let leader = cluster.wait_leader().await?.node;
        let nodes = cluster.nodes();
        let hit = match &fault {
            Fault::Kill { target }
            | Fault::Pause { target }
            | Fault::ReplyLoss { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::SyncError { target } => target.resolve(&nodes, leader),
            Fault::Partition { .. } | Fault::Transfer => vec![leader],
            _ => Target::All.resolve(&nodes, leader),
        };
        let hit_leader = hit.contains(&leader);
        let mut ongoing = Self {
            links: links(&fault, cluster, &hit, leader)?,
            fault,
            hit,
            hit_leader,
            before: 0,
            down: Vec::new(),
            repeated: None,
        };
        ongoing.before = ongoing.measure(cluster)?;
        ongoing.install(cluster).await?;
        Ok(ongoing)
    }

    async fn install(&mut self, cluster: &mut Cluster) -> Result<()> {
        match &self.fault {
            Fault::Partition { gate, .. } => {
                self.set_links(cluster, &Condition { calls: *gate, ..Condition::default() })?;
            }
            Fault::ReplyLoss { .. } => {
                let condition = Condition { replies: Gate::Lose, ..Condition::default() };
                self.set_links(cluster, &condition)?;
            }
            Fault::Delay { delay_ms, jitter_ms } => {
                let (delay, jitter) =
                    (Duration::from_millis(*delay_ms), Duration::from_millis(*jitter_ms));
                self.set_links(cluster, &Condition { delay, jitter, ..Condition::default() })?;
            }
            Fault::SlowLink { bytes_per_s } => {
                let condition = Condition { bytes_per_s: *bytes_per_s, ..Condition::default() };
                self.set_links(cluster, &condition)?;
            }
            Fault::Kill { .. } | Fault::KillAll => {
                cluster.kill(&self.hit).await?;
                self.down.clone_from(&self.hit);
            }
            Fault::Pause { .. } => {
                for node in &self.hit {
                    cluster.signal(*node, libc::SIGSTOP)?;
                }
            }
            Fault::PowerAll => {
                cluster.lose_power(&self.hit).await?;
                self.down.clone_from(&self.hit);
            }
            Fault::SlowDisk { stall_ms, .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::Stall(*stall_ms))?;
                }
            }
            Fault::SyncError { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::SyncError(libc::EIO))?;
                }
            }
            Fault::RollingRestart | Fault::Transfer | Fault::Snapshot => {}
        }
        Ok(())
    }

    /// To be called now and then while the fault is on, for faults that are done bit by bit.
    ///
    /// # Errors
    /// Something that should have worked did not.
    pub async fn go_on(&mut self, cluster: &mut Cluster) -> Result<()> {
        match &self.fault {
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
                    cluster.terminate(node)?;
                    let status = cluster.wait_exit(node, STOP_WITHIN).await?;
                    ensure!(status.success(), "n{node} answered SIGTERM with {status}");
                    cluster.start_node(node)?;
                    cluster.wait_converged().await?;
                    self.before += 1;
                }
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

    /// Heals it.
    ///
    /// # Errors
    /// It cannot be healed, or a node did not do what the fault demands of it.
    pub async fn end(mut self, cluster: &mut Cluster) -> Result<Effect> {
        let effect = self.effect(cluster).await?;
        match &self.fault {
            Fault::Partition { .. }
            | Fault::ReplyLoss { .. }
            | Fault::Delay { .. }
            | Fault::SlowLink { .. } => cluster.network()?.heal()?,
            Fault::Pause { .. } => {
                for node in &self.hit {
                    cluster.signal(*node, libc::SIGCONT)?;
                }
            }
            Fault::PowerAll => cluster.restore_power(&self.hit)?,
            Fault::SlowDisk { .. } | Fault::SyncError { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.heal()?;
                }
            }
            _ => {}
        }
        for node in std::mem::take(&mut self.down) {
            cluster.start_node(node)?;
        }
        Ok(effect)
    }

    async fn effect(&mut self, cluster: &mut Cluster) -> Result<Effect> {
        let (count, what) = match &self.fault {
            Fault::Kill { .. } | Fault::KillAll | Fault::PowerAll => {
                (self.down.len() as u64, "processes killed")
            }
            Fault::Pause { .. } => {
                let stopped = self.hit.iter().map(|node| cluster.is_stopped(*node));
                let stopped = stopped.collect::<Result<Vec<_>>>()?;
                (stopped.iter().filter(|stopped| **stopped).count() as u64, "processes stopped")
            }
            Fault::SyncError { .. } => {
                for node in &self.hit {
                    let status = cluster.wait_exit(*node, PATIENCE).await?;
                    if KILLED(status) || status.success() {
                        bail!("n{node} met failing syncs and ended by {status}");
                    }
                    self.down.push(*node);
                }
                (self.down.len() as u64, "processes stopped themselves")
            }
            Fault::Transfer => (self.before, "hand-overs"),
            Fault::RollingRestart => (self.before, "restarts"),
            Fault::Snapshot => (self.before, "snapshots"),
            fault => {
                let what = match fault {
                    Fault::Partition { .. } => "calls held or reset",
                    Fault::ReplyLoss { .. } => "replies held",
                    Fault::SlowDisk { .. } => "slow writes and syncs",
                    _ => "chunks delayed",
                };
                (self.measure(cluster)?.saturating_sub(self.before), what)
            }
        };
        Ok(Effect { count, what: format!("{count} {what}") })
    }

    fn set_links(&self, cluster: &Cluster, condition: &Condition) -> Result<()> {
        cluster.network()?.set(&self.links, condition)
    }

    /// What links and disks have counted so far, of what this fault does.
    fn measure(&self, cluster: &Cluster) -> Result<u64> {
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
        if let Fault::SlowDisk { .. } = &self.fault {
            for node in &self.hit {
                sum += u64::from(cluster.disk(*node)?.done()?);
            }
        }
        Ok(sum)
    }
}

/// The links a fault changes.
fn links(
    fault: &Fault,
    cluster: &Cluster,
    hit: &[Node],
    leader: Node,
) -> Result<Vec<(Caller, Node)>> {
    let nodes = cluster.nodes();
    Ok(match fault {
        Fault::Partition { shape, .. } => {
            let cut = shape.cut(&nodes, leader);
            cut.into_iter().map(|(from, to)| (Caller::Node(from), to)).collect()
        }
        Fault::ReplyLoss { clients, .. } => {
            let network = cluster.network().context("reply-loss")?;
            let mut links = Vec::new();
            for node in hit {
                let callers = network.callers_of(*node).into_iter();
                let meant = callers.filter(|caller| (*caller == Caller::Clients) == *clients);
                links.extend(meant.map(|caller| (caller, *node)));
            }
            links
        }
        Fault::Delay { .. } | Fault::SlowLink { .. } => {
            let network = cluster.network()?;
            let mut links = Vec::new();
            for node in nodes {
                let callers = network.callers_of(node).into_iter();
                let meant = callers.filter(|caller| *caller != Caller::Clients);
                links.extend(meant.map(|caller| (caller, node)));
            }
            links
        }
        _ => Vec::new(),
    })
}
