//! Doing a fault to a cluster, undoing it, and saying what it really did.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use quorate_jepsen_core::ids::Node;

use super::fault::{Fault, Target};
use crate::{
    cluster::{Cluster, FrozenThreads, KILLED, PATIENCE, until},
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
    /// Nodes that can prove nothing while it lasts.
    pub apart: Vec<Node>,
    frozen: Vec<FrozenThreads>,
    /// Where the log of a node ended that was sent to fall behind.
    log_end: u64,
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
            | Fault::Pause { target, .. }
            | Fault::ReplyLoss { target, .. }
            | Fault::StallApply { target }
            | Fault::ClockJump { target, .. }
            | Fault::FastClock { target, .. }
            | Fault::SlowDisk { target, .. }
            | Fault::SyncError { target } => target.resolve(&nodes, leader),
            Fault::FallBehind { follower } => Target::Follower(*follower).resolve(&nodes, leader),
            Fault::Partition { .. } | Fault::Transfer => vec![leader],
            _ => Target::All.resolve(&nodes, leader),
        };
        let hit_leader = hit.contains(&leader);
        let mut ongoing = Self {
            links: links(&fault, cluster, &hit, leader)?,
            hit,
            hit_leader,
            before: 0,
            down: Vec::new(),
            repeated: None,
            apart: match &fault {
                Fault::Partition { shape, .. } => shape.apart(&nodes, leader),
                _ => Vec::new(),
            },
            frozen: Vec::new(),
            log_end: 0,
            fault,
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
            Fault::Pause { delay_ms, .. } => {
                if *delay_ms > 0 {
                    let delay = Duration::from_millis(*delay_ms);
                    self.set_links(cluster, &Condition { delay, ..Condition::default() })?;
                    // A few round trips: what is on its way now was asked over slow links.
                    tokio::time::sleep(delay * 8).await;
                }
                for node in &self.hit {
                    cluster.signal(*node, libc::SIGSTOP)?;
                }
            }
            Fault::StallApply { .. } => {
                for node in &self.hit {
                    self.frozen.push(FrozenThreads::freeze(cluster.pid(*node)?, APPLY_THREAD)?);
                }
            }
            Fault::ClockJump { seconds, .. } => {
                for node in &self.hit {
                    cluster.clock(*node)?.set(*seconds)?;
                }
            }
            Fault::FastClock { percent, .. } => {
                let percent = *percent;
                for node in self.hit.clone() {
                    restart(cluster, node, percent).await?;
                }
            }
            Fault::FallBehind { .. } => {
                for node in &self.hit {
                    self.log_end = last_log_index(cluster, *node).await?;
                }
                cluster.kill(&self.hit).await?;
                self.down.clone_from(&self.hit);
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
            Fault::FallBehind { .. } if !self.down.is_empty() => {
                if self.repeated.is_some_and(|last| last.elapsed() < SNAPSHOT_EVERY) {
                    return Ok(());
                }
                let leader = cluster.wait_leader().await?.node;
                let mut api = cluster.api(leader)?;
                api.trigger_snapshot(0).await?;
                let purged = api.status().await?.groups.first().map(|group| group.purged_index);
                if purged.is_some_and(|purged| purged > self.log_end) {
                    for node in std::mem::take(&mut self.down) {
                        cluster.start_node(node)?;
                    }
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
            Fault::Pause { delay_ms, .. } => {
                for node in &self.hit {
                    cluster.signal(*node, libc::SIGCONT)?;
                }
                if *delay_ms > 0 {
                    cluster.network()?.heal()?;
                }
            }
            Fault::StallApply { .. } => self.frozen.clear(),
            Fault::ClockJump { .. } => {
                for node in &self.hit {
                    cluster.clock(*node)?.set(0)?;
                }
            }
            Fault::FastClock { .. } => {
                for node in self.hit.clone() {
                    restart(cluster, node, 100).await?;
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

/// The threads of a node that apply, and do all of consensus with it.
const APPLY_THREAD: &str = "raft";

/// Between two snapshots of a leader that is to purge its log.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// Stops a node and starts it with clocks of this rate.
async fn restart(cluster: &mut Cluster, node: Node, percent: u32) -> Result<()> {
    cluster.terminate(node)?;
    let status = cluster.wait_exit(node, STOP_WITHIN).await?;
    ensure!(status.success(), "n{node} answered SIGTERM with {status}");
    cluster.clock(node)?.run_at(percent);
    cluster.start_node(node)
}

async fn last_log_index(cluster: &Cluster, node: Node) -> Result<u64> {
    let status = cluster.api(node)?.status().await?;
    Ok(status.groups.first().context("a node without a group")?.last_log_index)
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
        Fault::Pause { delay_ms: 1.., .. } => {
            let all = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
            all.filter(|(from, to)| from != to && (hit.contains(from) || hit.contains(to)))
                .map(|(from, to)| (Caller::Node(from), to))
                .collect()
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
