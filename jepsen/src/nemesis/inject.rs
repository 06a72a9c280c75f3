//! Doing a fault to a cluster, undoing it, and saying what it really did.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use quorate_jepsen_core::ids::Node;

use super::{
    effect::Effect,
    fault::{Fault, Target},
    links,
    members::{Change, Changing, Meanwhile, Step},
    rot,
    shape::Shape,
};
use crate::{
    cluster::{Cluster, FrozenThreads},
    disk,
    network::{Caller, Condition, Gate},
};

/// A fault that is on.
#[derive(Debug)]
pub struct Ongoing {
    pub(super) fault: Fault,
    /// Whom it hit, for people and for coverage.
    pub hit: Vec<Node>,
    /// Whether the leader of the moment was among them.
    pub hit_leader: bool,
    pub(super) links: Vec<(Caller, Node)>,
    pub(super) before: u64,
    pub(super) down: Vec<Node>,
    pub(super) repeated: Option<Instant>,
    /// Nodes that can prove nothing while it lasts.
    pub apart: Vec<Node>,
    pub(super) frozen: Vec<FrozenThreads>,
    damaged: Vec<disk::Found>,
    pub(super) rotten: Vec<disk::Stored>,
    /// What came of looking for the damage, the last time.
    pub(super) met: Option<rot::Met>,
    pub(super) changing: Option<Changing>,
    /// Stopped while the members change.
    stopped: Vec<Node>,
    /// Where the log of a node ended that was sent to fall behind.
    pub(super) log_end: u64,
}

/// A node may take so long to stop by itself.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(30);

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
            | Fault::StallDisk { target }
            | Fault::DiskFull { target }
            | Fault::BitFlip { target }
            | Fault::BitRot { target }
            | Fault::QuickRestart { target, .. }
            | Fault::SyncError { target } => target.resolve(&nodes, leader),
            Fault::Member { change: Change::Remove(target) | Change::Replace(target), .. } => {
                target.resolve(&nodes, leader)
            }
            Fault::Member { change: Change::Add, .. } => Vec::new(),
            Fault::FallBehind { follower } => Target::Follower(*follower).resolve(&nodes, leader),
            Fault::Partition { .. } | Fault::Transfer => vec![leader],
            _ => Target::All.resolve(&nodes, leader),
        };
        let hit_leader = hit.contains(&leader);
        let mut ongoing = Self {
            links: links::of(&fault, cluster, &hit, leader)?,
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
            damaged: Vec::new(),
            rotten: Vec::new(),
            met: None,
            changing: None,
            stopped: Vec::new(),
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
            Fault::SlowDisk { stall_ms, .. } | Fault::QuickRestart { stall_ms, .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::Stall(*stall_ms))?;
                }
            }
            Fault::StallDisk { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::Stall(u32::MAX))?;
                }
            }
            Fault::DiskFull { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::WriteError(libc::ENOSPC))?;
                }
            }
            Fault::SyncError { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.set(disk::Fault::SyncError(libc::EIO))?;
                }
            }
            Fault::BitFlip { .. } => {
                cluster.kill(&self.hit).await?;
                for node in self.hit.clone() {
                    let mut batches = disk::batches(&cluster.log_dir(node))?;
                    let middle = batches.len() / 2;
                    ensure!(middle > 0, "the log of n{node} is too short to be damaged");
                    let batch = batches.swap_remove(middle);
                    disk::damage(&batch)?;
                    self.damaged.push(batch);
                    cluster.start_node(node)?;
                }
            }
            Fault::Member { change, meanwhile, after_ms } => {
                let (change, meanwhile, after_ms) = (*change, *meanwhile, *after_ms);
                let goes = self.hit.first().copied();
                let mut changing = Changing::begin(cluster, change, goes).await?;
                let comes = changing.comes;
                self.hit.extend(comes);
                let killed_early = meanwhile == Meanwhile::KillNewcomer;
                let step = if killed_early { Step::Learner } else { Step::Votes };
                changing.reached(step).await?;
                self.changing = Some(changing);
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                self.meanwhile(cluster, meanwhile, comes).await?;
            }
            Fault::BitRot { .. } => {
                for node in self.hit.clone() {
                    // What it has stored so far goes from its memory into files.
                    cluster.api(node)?.trigger_snapshot(0).await?;
                    stop(cluster, node).await?;
                    let stored = disk::find_record(&cluster.data_dir(node))?;
                    stored.damage()?;
                    self.rotten.push(stored);
                    cluster.start_node(node)?;
                }
            }
            Fault::RollingRestart | Fault::Transfer | Fault::Snapshot => {}
        }
        Ok(())
    }

    /// Hurts somebody while the members change.
    async fn meanwhile(
        &mut self,
        cluster: &mut Cluster,
        meanwhile: Meanwhile,
        comes: Option<Node>,
    ) -> Result<()> {
        let victim = match meanwhile {
            Meanwhile::Nothing => return Ok(()),
            Meanwhile::KillNewcomer => comes.context("nobody comes who could be killed")?,
            // Whoever leads at this moment: who goes has handed over before.
            _ => {
                self.hit_leader = true;
                cluster.wait_leader().await?.node
            }
        };
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::KillLeader | Meanwhile::KillNewcomer => {
                cluster.kill(&[victim]).await?;
                self.down.push(victim);
            }
            Meanwhile::PauseLeader => {
                cluster.signal(victim, libc::SIGSTOP)?;
                self.stopped.push(victim);
            }
            Meanwhile::LeaderAlone => {
                let all: Vec<_> = cluster.nodes().into_iter().chain(comes).collect();
                let cut = Shape::LeaderAlone.cut(&all, victim);
                self.links = cut.into_iter().map(|(from, to)| (Caller::Node(from), to)).collect();
                self.apart = Shape::LeaderAlone.apart(&all, victim);
                self.set_links(cluster, &Condition { calls: Gate::Hold, ..Condition::default() })?;
            }
        }
        if !self.hit.contains(&victim) {
            self.hit.push(victim);
        }
        Ok(())
    }

    /// Heals it.
    ///
    /// # Errors
    /// It cannot be healed, or a node did not do what the fault demands of it.
    pub async fn end(mut self, cluster: &mut Cluster) -> Result<Effect> {
        // It can end only when others are well again, and only then it is known what came of it.
        if let Some(changing) = self.changing.take() {
            return self.end_change(cluster, changing).await;
        }
        if matches!(self.fault, Fault::FallBehind { .. }) {
            self.leave_behind(cluster).await?;
        }
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
            Fault::BitRot { .. } => {
                for node in &self.hit {
                    // It may have noticed and stopped by itself.
                    if cluster.running().contains(node) {
                        cluster.kill(&[*node]).await?;
                    } else {
                        cluster.wait_exit(*node, STOP_WITHIN).await?;
                    }
                    self.down.push(*node);
                }
                self.rotten.iter().try_for_each(disk::Stored::damage)?;
            }
            Fault::QuickRestart { .. } => {
                for node in self.hit.clone() {
                    cluster.kill(&[node]).await?;
                    cluster.disk(node)?.heal()?;
                    cluster.start_node(node)?;
                }
            }
            Fault::PowerAll => cluster.restore_power(&self.hit)?,
            Fault::SlowDisk { .. }
            | Fault::StallDisk { .. }
            | Fault::DiskFull { .. }
            | Fault::SyncError { .. } => {
                for node in &self.hit {
                    cluster.disk(*node)?.heal()?;
                }
            }
            // The same again puts it right.
            Fault::BitFlip { .. } => self.damaged.iter().try_for_each(disk::damage)?,
            _ => {}
        }
        for node in std::mem::take(&mut self.down) {
            cluster.start_node(node)?;
        }
        Ok(effect)
    }

    async fn end_change(mut self, cluster: &mut Cluster, changing: Changing) -> Result<Effect> {
        for node in std::mem::take(&mut self.stopped) {
            ensure!(cluster.is_stopped(node)?, "n{node} was to be stopped");
            cluster.signal(node, libc::SIGCONT)?;
        }
        if !self.links.is_empty() {
            cluster.network()?.heal()?;
        }
        for node in std::mem::take(&mut self.down) {
            cluster.start_node(node)?;
        }
        let what = changing.end(cluster).await?;
        Ok(Effect { count: 1, what })
    }

    fn set_links(&self, cluster: &Cluster, condition: &Condition) -> Result<()> {
        cluster.network()?.set(&self.links, condition)
    }
}

/// The threads of a node that apply, and do all of consensus with it.
const APPLY_THREAD: &str = "raft";

/// Stops a node and starts it with clocks of this rate.
async fn restart(cluster: &mut Cluster, node: Node, percent: u32) -> Result<()> {
    stop(cluster, node).await?;
    cluster.clock(node)?.run_at(percent);
    cluster.start_node(node)
}

/// Stops a node as an operator does.
pub(super) async fn stop(cluster: &mut Cluster, node: Node) -> Result<()> {
    cluster.terminate(node)?;
    let status = cluster.wait_exit(node, STOP_WITHIN).await?;
    ensure!(status.success(), "n{node} answered SIGTERM with {status}");
    Ok(())
}

async fn last_log_index(cluster: &Cluster, node: Node) -> Result<u64> {
    let status = cluster.api(node)?.status().await?;
    Ok(status.groups.first().context("a node without a group")?.last_log_index)
}
