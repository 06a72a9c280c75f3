//! Three nodes in one process.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use quorate_raft_node::{
    raft::{
        group::{Group, Role, WriteFailure},
        settings::{Timing, openraft_config},
        types::{NodeAddress, NodeId},
    },
    runtime,
};
use quorate_state_machine::{
    command::Command,
    entry::EntryBuilder,
    types::{Digest, LogName, LogPoint, TimestampMs},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{
    disk::TestDisk,
    network::Network,
    node::{Node, Place},
};

/// Much longer than anything takes; a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
pub const PAUSE: Duration = Duration::from_millis(5);

pub const NODES: [NodeId; 3] = [1, 2, 3];

/// Waits until `condition` yields something.
pub async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        runtime::sleep(PAUSE).await;
    }
}

pub struct Cluster {
    pub network: Network,
    places: BTreeMap<NodeId, Place>,
    nodes: BTreeMap<NodeId, Node>,
    /// What was acknowledged, and where.
    acknowledged: Vec<(String, LogPoint)>,
    /// Removed with the cluster.
    _dir: TempDir,
}

/// Where the replicas stand, at one applied index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Acknowledged, but not there: node and name.
    pub lost: Vec<(NodeId, String)>,
    /// Two acknowledged writes with one log index.
    pub replaced: Vec<(String, String)>,
    /// Digests, if they are not equal.
    pub digests: Vec<Digest>,
}

impl Cluster {
    /// A cluster with our settings but for what `change` does to them, and with node 1 as leader.
    pub async fn start(timing: Timing, change: impl Fn(&mut openraft::Config)) -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let network = Network::default();
        let mut raft_config = openraft_config("settings", timing).expect("consistent settings");
        change(&mut raft_config);
        let raft_config = Arc::new(raft_config);
        let (mut places, mut listeners) = (BTreeMap::new(), BTreeMap::new());
        for id in NODES {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let address = listener.local_addr().expect("bound");
            listeners.insert(id, listener);
            let (network, raft_config) = (network.clone(), raft_config.clone());
            let dir = dir.path().join(format!("n{id}"));
            places.insert(id, Place { id, dir, address, network, raft_config });
        }
        let mut nodes = BTreeMap::new();
        for (id, place) in &places {
            nodes.insert(*id, Node::start(place.clone(), listeners.remove(id)).await);
        }
        let this = Self { network, places, nodes, acknowledged: Vec::new(), _dir: dir };
        let address = |a: SocketAddr| NodeAddress { peer: a.to_string(), client: String::new() };
        let members = this.places.iter().map(|(id, p)| (*id, address(p.address))).collect();
        this.group(1).initialize(members).await.expect("a new cluster");
        this.leader(&[1]).await;
        this
    }

    pub fn group(&self, id: NodeId) -> &Group {
        &self.node(id).group
    }

    pub fn disk(&self, id: NodeId) -> &TestDisk {
        &self.node(id).disk
    }

    /// Attempts of a leader to send something to a follower that had confirmed it.
    pub fn lost_confirmed(&self, id: NodeId) -> u64 {
        self.node(id).stats.lost_confirmed.load(Ordering::Relaxed)
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(&id).expect("the node is up")
    }

    pub async fn crash(&mut self, id: NodeId) {
        self.nodes.remove(&id).expect("the node is up").crash().await;
    }

    pub async fn restart(&mut self, id: NodeId) {
        self.nodes.insert(id, Node::start(self.places[&id].clone(), None).await);
    }

    /// Cuts a node off, both ways.
    pub fn isolate(&self, id: NodeId) {
        for other in NODES.into_iter().filter(|other| *other != id) {
            self.network.set_both(id, other, crate::network::Passes::Nothing);
        }
    }

    /// Which of `candidates` leads, by evidence.
    pub async fn leader(&self, candidates: &[NodeId]) -> NodeId {
        eventually("there is a leader", || self.led_by(candidates)).await
    }

    /// Which of `candidates` leads now, if one does.
    pub fn led_by(&self, candidates: &[NodeId]) -> Option<NodeId> {
        let leads = |id: &&NodeId| {
            self.nodes.get(id).is_some_and(|n| n.group.vitals().role == Role::Leader)
        };
        candidates.iter().find(leads).copied()
    }

    /// Makes node `id` the leader.
    pub async fn lead(&self, id: NodeId) {
        let started = Instant::now();
        while self.led_by(&[id]).is_none() {
            assert!(started.elapsed() < PATIENCE, "node {id} leads");
            for other in NODES.into_iter().filter(|other| self.led_by(&[*other]).is_some()) {
                self.group(other).transfer_leadership(id).await.expect("its core runs");
            }
            runtime::sleep(PAUSE).await;
        }
    }

    /// Creates a log called `name` through node `id`.
    pub async fn write(&mut self, id: NodeId, name: &str) -> Result<LogPoint, WriteFailure> {
        let at = self.propose(id, name).await?;
        self.acknowledged.push((name.to_owned(), at));
        Ok(at)
    }

    /// The same, but it is not noted as acknowledged.
    pub async fn propose(&self, id: NodeId, name: &str) -> Result<LogPoint, WriteFailure> {
        let mut entry = EntryBuilder::new();
        let log = LogName::new(name).expect("a name");
        entry.push(&Command::CreateLog { name: log, if_absent: true, read_level: None });
        let (answer, outcome) = oneshot::channel();
        let done = move |result| drop(answer.send(result));
        let gone = |_| WriteFailure::Stopped("no answer".to_owned());
        self.group(id).propose(entry.finish(TimestampMs(1)), done).await?;
        let outcomes = outcome.await.map_err(gone)??;
        Ok(outcomes.first().expect("one command").at)
    }

    /// Writes through whichever of `candidates` leads.
    pub async fn write_by(
        &mut self,
        candidates: &[NodeId],
        name: &str,
    ) -> Result<(NodeId, LogPoint), WriteFailure> {
        let started = Instant::now();
        loop {
            let leader = self.leader(candidates).await;
            match self.write(leader, name).await {
                // Not any more, or not yet.
                Err(WriteFailure::NotLeader(_)) if started.elapsed() < PATIENCE => {
                    runtime::sleep(PAUSE).await;
                }
                answer => return answer.map(|at| (leader, at)),
            }
        }
    }

    /// Waits until node `id` has applied `at` or more.
    pub async fn applied(&self, id: NodeId, at: LogPoint) {
        let applied = self.group(id).wait_applied(at.index);
        let applied = runtime::timeout(PATIENCE, applied).await;
        assert_eq!(applied, Ok(true), "node {id} applies up to {at:?}");
    }

    /// Waits until all three have applied the same, at least up to `at`, and compares them with
    /// what was acknowledged.
    pub async fn damage(&self, at: LogPoint) -> Damage {
        let readers = eventually("all replicas have applied the same index", || {
            let readers: Vec<_> = self.nodes.values().filter_map(|n| n.group.view().ok()).collect();
            let index = |n: usize| readers.get(n).and_then(|r| r.applied()).map(|at| at.index);
            let settled = NODES.len() == readers.len() && index(0) >= Some(at.index);
            (settled && index(0) == index(1) && index(1) == index(2)).then_some(readers)
        })
        .await;
        let mut damage = Damage::default();
        for (id, reader) in self.nodes.keys().zip(&readers) {
            for (name, _) in &self.acknowledged {
                let log = LogName::new(name).expect("a name");
                if reader.log(&log).expect("a readable state").is_none() {
                    damage.lost.push((*id, name.clone()));
                }
            }
        }
        for (n, (name, at)) in self.acknowledged.iter().enumerate() {
            let same = self.acknowledged[..n].iter().find(|(_, other)| other.index == at.index);
            damage.replaced.extend(same.map(|(other, _)| (other.clone(), name.clone())));
        }
        let digests: Vec<Digest> = readers.iter().map(|reader| reader.digest()).collect();
        if digests.iter().any(|digest| *digest != digests[0]) {
            damage.digests = digests;
        }
        damage
    }

    /// The last index in a node's log, on its disk or on the way there.
    pub fn log_end(&self, id: NodeId) -> Option<u64> {
        self.node(id).log_end()
    }

    pub fn term(&self, id: NodeId) -> u64 {
        self.group(id).term().0
    }
}
