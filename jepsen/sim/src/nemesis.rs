//! Carries out a schedule of faults.

use std::collections::{BTreeMap, VecDeque};

use quorate_state_machine::types::LogIndex;

use crate::{
    cluster::{self, Cluster},
    disk, host, record,
    schedule::{Fault, Planned, Who},
    world::{self, CLIENTS, HostId},
};

/// What some links or a disk suffer for a while.
#[derive(Clone, Debug)]
enum Effect {
    Cut(Vec<(HostId, HostId)>),
    Late { of: Vec<(HostId, HostId)>, most: u64 },
    Lossy { loss_per_mille: u64, twice_per_mille: u64, most: u64 },
    Disk(HostId),
    Flips(HostId),
}

/// The faults that are to come, and those that last.
pub struct Nemesis {
    planned: VecDeque<Planned>,
    /// With the tick at which they end.
    lasting: Vec<(u64, Effect)>,
    done: BTreeMap<&'static str, u64>,
}

/// A process that was started since reads what was written.
fn flip_reads(id: HostId, flipped: bool) {
    if let Some(node) = cluster::node(id) {
        node.groups.iter().for_each(|group| group.store().flip_reads(flipped));
    }
}

fn both_ways(a: HostId, b: HostId) -> [(HostId, HostId); 2] {
    [(a, b), (b, a)]
}

impl Nemesis {
    /// Will carry out `planned`.
    #[must_use]
    pub fn new(planned: &[Planned]) -> Self {
        let planned = planned.iter().cloned().collect();
        Self { planned, lasting: Vec::new(), done: BTreeMap::new() }
    }

    /// How often each fault was carried out.
    #[must_use]
    pub fn done(&self) -> &BTreeMap<&'static str, u64> {
        &self.done
    }

    /// Carries out what is due.
    pub fn step(&mut self, cluster: &mut Cluster) {
        let now = world::tick();
        let before = self.lasting.len();
        let (lasting, over): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lasting).into_iter().partition(|(until, _)| *until > now);
        self.lasting = lasting;
        for (_, effect) in over {
            match effect {
                Effect::Disk(id) => disk::as_usual(id),
                Effect::Flips(id) => flip_reads(id, false),
                _ => {}
            }
        }
        let mut changed = self.lasting.len() != before;
        while self.planned.front().is_some_and(|planned| planned.at <= now) {
            let planned = self.planned.pop_front().expect("looked at above");
            if self.carry_out(cluster, &planned.fault, now) {
                *self.done.entry(planned.fault.name()).or_default() += 1;
                record::fault(planned.fault.to_string());
                changed = true;
            }
        }
        if changed {
            self.set_links(cluster);
        }
    }

    /// Ends everything.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        record::fault("heal".to_owned());
        self.planned.clear();
        for (_, effect) in std::mem::take(&mut self.lasting) {
            if let Effect::Flips(id) = effect {
                flip_reads(id, false);
            }
        }
        cluster.heal();
    }

    fn set_links(&self, cluster: &Cluster) {
        world::heal_links();
        for (_, effect) in &self.lasting {
            match effect {
                Effect::Cut(pairs) => {
                    for (from, to) in pairs {
                        world::set_link(*from, *to, |link| link.cut = true);
                    }
                }
                Effect::Late { of, most } => {
                    for (from, to) in of {
                        world::set_link(*from, *to, |link| link.delay = (1, *most));
                    }
                }
                Effect::Lossy { loss_per_mille, twice_per_mille, most } => {
                    let hosts: Vec<HostId> =
                        std::iter::once(CLIENTS).chain(cluster.shape().ids()).collect();
                    for (a, b) in hosts.iter().flat_map(|a| hosts.iter().map(move |b| (*a, *b))) {
                        world::set_link(a, b, |link| {
                            link.loss_per_mille = *loss_per_mille;
                            link.twice_per_mille = *twice_per_mille;
                            link.delay = (1, link.delay.1.max(*most));
                        });
                    }
                }
                Effect::Disk(_) | Effect::Flips(_) => {}
            }
        }
    }

    fn who(cluster: &Cluster, who: Who) -> Option<HostId> {
        let shape = cluster.shape();
        match who {
            Who::Node(id) => Some(id),
            Who::Leader(group) => cluster::leader(&shape, group),
            Who::Follower(group, number) => {
                let leader = cluster::leader(&shape, group);
                let others: Vec<HostId> = shape.ids().filter(|id| Some(*id) != leader).collect();
                Some(others[number as usize % others.len()])
            }
        }
    }

    /// Says whether there was anything to do it to.
    fn carry_out(&mut self, cluster: &mut Cluster, fault: &Fault, now: u64) -> bool {
        self.try_carry_out(cluster, fault, now).is_some()
    }

    fn try_carry_out(&mut self, cluster: &mut Cluster, fault: &Fault, now: u64) -> Option<()> {
        let shape = cluster.shape();
        match fault {
            Fault::Kill { who, down } => {
                let id = Self::up(cluster, *who)?;
                cluster.crash(id, true, *down);
            }
            Fault::PowerLoss { who, down } => {
                let id = Self::up(cluster, *who)?;
                cluster.crash(id, false, *down);
            }
            Fault::PowerLossOfAll { down } => {
                for id in shape.ids() {
                    cluster.crash(id, false, *down + id);
                }
            }
            Fault::DieAt { who, point, after } => {
                let id = Self::up(cluster, *who)?;
                cluster.arm(id, point, *after);
            }
            Fault::DieAfterVote { who } => {
                disk::die_after_vote(Self::who(cluster, *who)?);
            }
            Fault::Pause { who, ticks } => {
                let id = Self::up(cluster, *who)?;
                cluster.pause(id, *ticks);
            }
            Fault::Isolate { who, clients, ticks } => {
                let id = Self::who(cluster, *who)?;
                let others = shape.ids().filter(|other| *other != id);
                let others = others.chain(clients.then_some(CLIENTS));
                let pairs = others.flat_map(|other| both_ways(id, other)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::Split { minority, ticks } => {
                let rest: Vec<HostId> = shape.ids().filter(|id| !minority.contains(id)).collect();
                let pairs = minority.iter().flat_map(|a| rest.iter().map(move |b| (*a, *b)));
                let pairs = pairs.flat_map(|(a, b)| both_ways(a, b)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::Bridge { middle, ticks } => {
                let id = Self::who(cluster, *middle)?;
                let others: Vec<HostId> = shape.ids().filter(|other| *other != id).collect();
                let (some, rest) = others.split_at(others.len() / 2);
                let pairs = some.iter().flat_map(|a| rest.iter().map(move |b| (*a, *b)));
                let pairs = pairs.flat_map(|(a, b)| both_ways(a, b)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::OneWay { from, to, ticks } => {
                let (from, to) = (Self::who(cluster, *from)?, Self::who(cluster, *to)?);
                if from == to {
                    return None;
                }
                self.lasting.push((now + ticks, Effect::Cut(vec![(from, to)])));
            }
            Fault::ReplyLoss { who, ticks } => {
                let id = Self::who(cluster, *who)?;
                self.lasting.push((now + ticks, Effect::Cut(vec![(id, CLIENTS)])));
            }
            Fault::BadNetwork { most, loss_per_mille, twice_per_mille, ticks } => {
                let effect = Effect::Lossy {
                    loss_per_mille: *loss_per_mille,
                    twice_per_mille: *twice_per_mille,
                    most: *most,
                };
                self.lasting.push((now + ticks, effect));
            }
            Fault::SlowLink { who, most, ticks } => {
                let id = Self::who(cluster, *who)?;
                let others = shape.ids().filter(|other| *other != id);
                let of = others.flat_map(|other| both_ways(id, other)).collect();
                self.lasting.push((now + ticks, Effect::Late { of, most: *most }));
            }
            Fault::SlowDisk { who, most, ticks } => {
                let id = Self::who(cluster, *who)?;
                disk::set_sync_ticks(id, 1, *most);
                self.lasting.push((now + ticks, Effect::Disk(id)));
            }
            Fault::ReadFlips { who, ticks } => {
                let id = Self::up(cluster, *who)?;
                flip_reads(id, true);
                self.lasting.push((now + ticks, Effect::Flips(id)));
            }
            Fault::Drift { who, ppm } => {
                let id = Self::who(cluster, *who)?;
                cluster.drift(id, *ppm);
            }
            Fault::WallClock { who, ms } => {
                let id = Self::who(cluster, *who)?;
                host::set_wall_offset(id, *ms);
            }
            Fault::Transfer { group, to } => {
                let leader = cluster::leader(&shape, *group)?;
                let group = cluster::group(leader, *group)?;
                let to = *to;
                host::spawn(leader, async move {
                    // A core that stops meanwhile hands nothing over.
                    let _ = group.transfer_leadership(to).await;
                });
            }
            Fault::SnapshotAndPurge { who } => {
                let id = Self::up(cluster, *who)?;
                for group in cluster::node(id)?.groups.clone() {
                    host::spawn(id, async move {
                        let applied = LogIndex(group.watch_applied().borrow().index.0);
                        let snapshot = group.trigger_snapshot().await;
                        quorate_raft_node::runtime::sleep(std::time::Duration::from_millis(5))
                            .await;
                        // openraft itself never purges beyond the snapshot.
                        if snapshot.is_ok() {
                            let _ = group.purge(applied).await;
                        }
                    });
                }
            }
        }
        Some(())
    }

    fn up(cluster: &Cluster, who: Who) -> Option<HostId> {
        Self::who(cluster, who).filter(|id| !cluster.is_down(*id))
    }
}
