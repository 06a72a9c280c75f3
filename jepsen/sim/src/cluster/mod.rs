//! The hosts of a run and what can be done to them.

mod points;
mod there;

use std::{cell::RefCell, collections::BTreeMap, path::Path, rc::Rc, time::Duration};

use quorate_jepsen_core::seed::Seed;
use quorate_raft_node::{
    crash,
    raft::{compaction::Rule, settings::Timing},
};

use crate::{
    disk,
    host::{self, Host},
    node::{Node, Setup},
    transport,
    world::{self, CLIENTS, HostId},
};
use points::{ARMED, DYING};
pub use points::{die, passed};
use there::{IN_SERVICE, NODES, RETIRING};
pub use there::{group, in_service, leader, node, retire, stopped};

/// A cluster's shape.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Nodes at the beginning, numbered from 1.
    pub nodes: u64,
    /// Nodes that can be switched on later, numbered from there.
    pub spares: u64,
    /// Groups.
    pub groups: u32,
    /// Elections.
    pub timing: Timing,
    /// Bytes of Raft log kept for slow followers.
    pub retain_bytes: u64,
    /// Longest time between flushes of the state.
    pub flush_interval: Duration,
    /// Recently applied batches that a node keeps in memory.
    pub recent_bytes: usize,
    /// Whether there are logs that are deleted and created again.
    pub recreated: bool,
    /// A sync of a disk takes this long: shortest and longest.
    pub sync_ticks: (u64, u64),
}

impl Shape {
    /// The nodes at the beginning.
    pub fn ids(&self) -> impl Iterator<Item = HostId> + use<> {
        1..=self.nodes
    }

    /// All that there can be.
    pub fn all_ids(&self) -> impl Iterator<Item = HostId> + use<> {
        1..=self.nodes + self.spares
    }
}

thread_local! {
    /// What made a start fail.
    static FAILED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The hosts.
pub struct Cluster {
    shape: Shape,
    seed: Seed,
    dir: tempfile::TempDir,
    hosts: BTreeMap<HostId, Host>,
    /// When a host that is down starts again.
    starts: BTreeMap<HostId, u64>,
    rates: BTreeMap<HostId, i64>,
    paused_since: BTreeMap<HostId, u64>,
    /// Deaths at crash points.
    pub died_at_points: u64,
}

/// A directory in memory, if there is one.
fn scratch() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix("quorate-sim-");
        builder
    };
    match builder().tempdir_in(memory) {
        Ok(dir) => Ok(dir),
        Err(_) => Ok(builder().tempdir()?),
    }
}

impl Cluster {
    /// All hosts, just switched on.
    ///
    /// # Errors
    /// There is no place for files.
    pub fn start(shape: Shape, seed: &Seed) -> anyhow::Result<Self> {
        crash::simulated::set_hook(points::at_crash_point);
        let mut this = Self {
            shape,
            seed: seed.clone(),
            dir: scratch()?,
            hosts: BTreeMap::new(),
            starts: BTreeMap::new(),
            rates: BTreeMap::new(),
            paused_since: BTreeMap::new(),
            died_at_points: 0,
        };
        world::set_presence(CLIENTS, |p| (p.up, p.powered) = (true, true));
        this.hosts.insert(CLIENTS, Host::start(CLIENTS, 0, seed));
        for id in shape.all_ids() {
            disk::create(id, seed, shape.sync_ticks);
        }
        for id in shape.ids() {
            this.switch_on(id)?;
        }
        Ok(this)
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Starts a node for the first time.
    ///
    /// # Errors
    /// There is no place for its files.
    pub fn switch_on(&mut self, id: HostId) -> anyhow::Result<()> {
        IN_SERVICE.with_borrow_mut(|all| all.insert(id));
        self.start_node(id)
    }

    /// A node that was never switched on, if there is one left.
    #[must_use]
    pub fn spare(&self) -> Option<HostId> {
        self.shape.all_ids().find(|id| world::presence(*id).life == 0)
    }

    /// Ends a node for good, whatever is on its disk.
    pub fn lose(&mut self, id: HostId) {
        world::trace(format_args!("n{id} is gone for good"));
        self.crash(id, false, 1);
        self.starts.remove(&id);
        world::set_presence(id, |p| p.powered = false);
        IN_SERVICE.with_borrow_mut(|all| all.remove(&id));
    }

    fn start_node(&mut self, id: HostId) -> anyhow::Result<()> {
        let mut life = 0;
        world::set_presence(id, |presence| {
            presence.life += 1;
            (presence.up, presence.powered) = (true, true);
            life = presence.life;
        });
        world::trace(format_args!("n{id} starts"));
        let dir = self.dir.path().join(format!("n{id}"));
        std::fs::create_dir_all(&dir)?;
        let mut host = Host::start(id, life, &self.seed);
        host.rate_ppm = self.rates.get(&id).copied().unwrap_or(0);
        self.hosts.insert(id, host);
        let setup = Setup {
            id,
            nodes: self.shape.ids().collect(),
            groups: self.shape.groups,
            dir,
            timing: self.shape.timing,
            recent_bytes: self.shape.recent_bytes,
            rule: Rule {
                retain_bytes: self.shape.retain_bytes,
                flush_interval: self.shape.flush_interval,
            },
        };
        host::spawn(id, async move {
            match Node::start(setup).await {
                Ok(node) => {
                    transport::set_endpoint(id, Some(node.endpoint.clone()));
                    NODES.with_borrow_mut(|nodes| nodes.insert(id, Rc::new(node)));
                }
                Err(why) => FAILED.set(Some(format!("n{id} does not start: {why:#}"))),
            }
        });
        Ok(())
    }

    /// What kept a node from starting.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        FAILED.with_borrow(Clone::clone)
    }

    /// Ends a node's process, and its machine unless `powered`; it starts again after so many ticks.
    pub fn crash(&mut self, id: HostId, powered: bool, down_ticks: u64) {
        let Some(host) = self.hosts.remove(&id) else { return };
        world::trace(format_args!("n{id} dies (powered: {powered})"));
        world::set_presence(id, |p| {
            (p.up, p.powered) = (false, powered);
            p.paused_until = None;
        });
        self.paused_since.remove(&id);
        if ARMED.get().is_some_and(|(host, ..)| host == id) {
            ARMED.set(None);
        }
        disk::crash(id);
        transport::set_endpoint(id, None);
        let node = NODES.with_borrow_mut(|nodes| nodes.remove(&id));
        drop((node, host));
        DYING.with_borrow_mut(|dying| dying.remove(&id));
        world::lost_host(id, powered);
        self.starts.insert(id, world::tick() + down_ticks.max(1));
    }

    /// Lets a node die at a step of the durability protocol, if it comes there.
    pub fn arm(&self, id: HostId, point: &'static str, after: u32) {
        ARMED.set(Some((id, point, after)));
    }

    /// Nobody dies at a crash point any more.
    pub fn disarm(&self) {
        disk::disarm();
        ARMED.set(None);
    }

    /// Stops a process for so many ticks; its clocks go on.
    pub fn pause(&mut self, id: HostId, ticks: u64) {
        if self.hosts.contains_key(&id) && !self.paused_since.contains_key(&id) {
            world::trace(format_args!("n{id} stops for {ticks}"));
            let now = world::tick();
            self.paused_since.insert(id, now);
            world::set_presence(id, |p| p.paused_until = Some(now + ticks));
        }
    }

    /// Lets a stopped process go on.
    fn resume(&mut self, id: HostId) {
        let Some(since) = self.paused_since.remove(&id) else { return };
        world::set_presence(id, |p| p.paused_until = None);
        world::resumed(id);
        let ticks = world::tick() - since;
        if let Some(host) = self.hosts.get_mut(&id) {
            host.jump(ticks);
        }
        self.bury_if_dying(id);
    }

    /// Makes a host's clocks run faster by so many millionths.
    pub fn drift(&mut self, id: HostId, ppm: i64) {
        self.rates.insert(id, ppm);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.rate_ppm = ppm;
        }
    }

    /// Is it down?
    #[must_use]
    pub fn is_down(&self, id: HostId) -> bool {
        !self.hosts.contains_key(&id)
    }

    /// Everything that is down or stopped goes on now; clocks run as they should.
    pub fn heal(&mut self) {
        self.disarm();
        world::heal_links();
        for id in in_service() {
            self.drift(id, 0);
            self.resume(id);
            disk::as_usual(id);
        }
        for at in self.starts.values_mut() {
            *at = world::tick();
        }
    }

    fn bury_if_dying(&mut self, id: HostId) {
        if DYING.with_borrow(|dying| dying.contains(&id)) {
            self.died_at_points += 1;
            // Back in time to break a promise, or later.
            let most = [8, 30, 400][world::dice(3) as usize];
            let down = 1 + world::dice(most);
            self.crash(id, true, down);
        }
    }

    /// Lets a tick pass everywhere.
    ///
    /// # Errors
    /// A node can't be started.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        world::advance();
        let now = world::tick();
        let due: Vec<_> =
            self.starts.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.starts.remove(&id);
            self.start_node(id)?;
        }
        for id in self.paused_since.keys().copied().collect::<Vec<_>>() {
            if world::presence(id).paused_until.is_some_and(|until| until <= now) {
                self.resume(id);
            }
        }
        world::deliver();
        // Nobody is always the first.
        let mut order: Vec<HostId> = self.hosts.keys().copied().collect();
        let first = now as usize % order.len();
        order.rotate_left(first);
        for id in order {
            if self.paused_since.contains_key(&id) {
                continue;
            }
            if let Some(host) = self.hosts.get_mut(&id) {
                host.step();
            }
            self.bury_if_dying(id);
        }
        for id in RETIRING.take() {
            self.lose(id);
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        NODES.with_borrow_mut(std::mem::take);
        for id in self.shape.all_ids() {
            transport::set_endpoint(id, None);
        }
        self.hosts.clear();
    }
}
