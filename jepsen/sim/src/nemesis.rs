//! Carries out a schedule of faults.

use std::collections::{BTreeMap, VecDeque};

use quorate_jepsen_core::seed::Seed;
use quorate_state_machine::types::LogIndex;

use crate::{
    cluster::{self, Cluster},
    disk, host,
    operator::{self, Job},
    record,
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
    seed: Seed,
}

fn others_than(id: HostId) -> impl Iterator<Item = HostId> {
    cluster::in_service().into_iter().filter(move |other| *other != id)
}

/// A process that was started since reads what was written.
fn flip_reads(id: HostId, flipped: bool) {
    if let Some(node) = cluster::node(id) {
        node.groups.iter().for_each(|group| group.store().flip_reads(flipped));
    }
}

/// Whether so many nodes can go and a majority of those that vote now is left.
fn may_go(lost: usize) -> bool {
    let all = cluster::in_service().len();
    all - lost > all / 2 && all - lost >= 2
}

fn both_ways(a: HostId, b: HostId) -> [(HostId, HostId); 2] {
    [(a, b), (b, a)]
}

impl Nemesis {
    /// Will carry out `planned`.
    #[must_use]
    pub fn new(planned: &[Planned], seed: &Seed) -> Self {
        let planned = planned.iter().cloned().collect();
        let seed = seed.fork("nemesis");
        Self { planned, lasting: Vec::new(), done: BTreeMap::new(), seed }
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
            self.set_links();
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

    fn set_links(&self) {
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
                        std::iter::once(CLIENTS).chain(cluster::in_service()).collect();
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

    /// One of those in service.
    fn who(who: Who) -> Option<HostId> {
        let all = cluster::in_service();
        match who {
            Who::Node(id) => all.contains(&id).then_some(id),
            Who::Leader(group) => cluster::leader(group),
            Who::Follower(group, number) => {
                let leader = cluster::leader(group);
                let others: Vec<HostId> =
                    all.into_iter().filter(|id| Some(*id) != leader).collect();
                others.get(number as usize % others.len().max(1)).copied()
            }
        }
    }

    /// Says whether there was anything to do it to.
    fn carry_out(&mut self, cluster: &mut Cluster, fault: &Fault, now: u64) -> bool {
        self.try_carry_out(cluster, fault, now).is_some()
    }

    fn try_carry_out(&mut self, cluster: &mut Cluster, fault: &Fault, now: u64) -> Option<()> {
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
                for id in cluster::in_service() {
                    cluster.crash(id, false, *down + id);
                }
            }
            Fault::DieAt { who, point, after } => {
                let id = Self::up(cluster, *who)?;
                cluster.arm(id, point, *after);
            }
            Fault::DieAfterVote { who } => {
                disk::die_after_vote(Self::who(*who)?);
            }
            Fault::Pause { who, ticks } => {
                let id = Self::up(cluster, *who)?;
                cluster.pause(id, *ticks);
            }
            Fault::Isolate { who, clients, ticks } => {
                let id = Self::who(*who)?;
                let others = others_than(id);
                let others = others.chain(clients.then_some(CLIENTS));
                let pairs = others.flat_map(|other| both_ways(id, other)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::Split { minority, ticks } => {
                let mut rest = cluster::in_service();
                rest.retain(|id| !minority.contains(id));
                let pairs = minority.iter().flat_map(|a| rest.iter().map(move |b| (*a, *b)));
                let pairs = pairs.flat_map(|(a, b)| both_ways(a, b)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::Bridge { middle, ticks } => {
                let id = Self::who(*middle)?;
                let others: Vec<HostId> = others_than(id).collect();
                let (some, rest) = others.split_at(others.len() / 2);
                let pairs = some.iter().flat_map(|a| rest.iter().map(move |b| (*a, *b)));
                let pairs = pairs.flat_map(|(a, b)| both_ways(a, b)).collect();
                self.lasting.push((now + ticks, Effect::Cut(pairs)));
            }
            Fault::OneWay { from, to, ticks } => {
                let (from, to) = (Self::who(*from)?, Self::who(*to)?);
                if from == to {
                    return None;
                }
                self.lasting.push((now + ticks, Effect::Cut(vec![(from, to)])));
            }
            Fault::ReplyLoss { who, ticks } => {
                let id = Self::who(*who)?;
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
                let id = Self::who(*who)?;
                let others = others_than(id);
                let of = others.flat_map(|other| both_ways(id, other)).collect();
                self.lasting.push((now + ticks, Effect::Late { of, most: *most }));
            }
            Fault::SlowDisk { who, most, ticks } => {
                let id = Self::who(*who)?;
                disk::set_sync_ticks(id, 1, *most);
                self.lasting.push((now + ticks, Effect::Disk(id)));
            }
            Fault::ReadFlips { who, ticks } => {
                let id = Self::up(cluster, *who)?;
                flip_reads(id, true);
                self.lasting.push((now + ticks, Effect::Flips(id)));
            }
            Fault::Drift { who, ppm } => {
                let id = Self::who(*who)?;
                cluster.drift(id, *ppm);
            }
            Fault::WallClock { who, ms } => {
                let id = Self::who(*who)?;
                host::set_wall_offset(id, *ms);
            }
            Fault::Transfer { group, to } => {
                let leader = cluster::leader(*group)?;
                let group = cluster::group(leader, *group)?;
                let to = *to;
                // Nobody hands over to a node that has no vote.
                group.members().nodes.get(&to).filter(|member| member.voter)?;
                host::spawn(leader, async move {
                    // A core that stops meanwhile hands nothing over.
                    let _ = group.transfer_leadership(to).await;
                });
            }
            Fault::AddNode => {
                let by = Self::spare_for_a_change(cluster, 0)?;
                self.change(cluster, Job::Add(by))?;
            }
            Fault::RemoveNode { who } => {
                let node = Self::who(*who)?;
                if !may_go(1) || operator::at_work().is_some() {
                    return None;
                }
                self.change(cluster, Job::Remove(node))?;
            }
            Fault::LoseDisk { who } => {
                let (lost, by) = (Self::who(*who)?, Self::spare_for_a_change(cluster, 1)?);
                cluster.lose(lost);
                self.change(cluster, Job::Replace { lost, by })?;
            }
            Fault::RemoveAfterLoss { who, lost } => {
                let (node, lost) = (Self::who(*who)?, Self::who(*lost)?);
                let by = Self::spare_for_a_change(cluster, 1)?;
                if node == lost {
                    return None;
                }
                cluster.lose(lost);
                self.change(cluster, Job::RemoveAfterLoss { node, lost, by })?;
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

    /// A new node, if nobody changes the members just now, and so many of them may be lost.
    fn spare_for_a_change(cluster: &Cluster, lost: usize) -> Option<HostId> {
        let free = operator::at_work().is_none() && (lost == 0 || may_go(lost));
        cluster.spare().filter(|_| free)
    }

    fn change(&mut self, cluster: &mut Cluster, job: Job) -> Option<()> {
        if let Job::Add(by) | Job::Replace { by, .. } | Job::RemoveAfterLoss { by, .. } = job {
            // Without its files it does not start, and the change does not come to an end.
            cluster.switch_on(by).ok()?;
        }
        operator::start(job, cluster.shape().groups, self.seed.fork(&world::tick().to_string()));
        Some(())
    }

    fn up(cluster: &Cluster, who: Who) -> Option<HostId> {
        Self::who(who).filter(|id| !cluster.is_down(*id))
    }
}
